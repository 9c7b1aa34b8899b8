//! Damage is noticed, and said with its address.

use crate::*;

#[test]
fn a_file_that_was_cut_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    for _ in 0..40 {
        append(&log, "a", &[&"x".repeat(100_000)]).unwrap();
    }
    drop(log);
    let file = fs::OpenOptions::new().write(true).open(dir.path().join("data.mdb")).unwrap();
    for len in [3_900_000, 1_000_000, 8_192, 5_000] {
        file.set_len(len).unwrap();
        match EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).map(drop) {
            Err(LogError::Corrupt { address, detail }) => {
                assert!(address.ends_with("data.mdb") && detail.contains(&len.to_string()), "{address}: {detail}");
            }
            other => panic!("{len}: {other:?}"),
        }
    }
}

#[test]
fn a_flipped_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let at = TopicPartition::new("a", 0);
    let log = open(dir.path());
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    for value in ["before", "the damaged one", "after"] {
        append(&log, "a", &[value, "beside"]).unwrap();
    }
    drop(log);
    flip(dir.path(), b"the damaged one");
    let log = open(dir.path());
    let (values, error) = read(&log, &at, 0);
    assert_eq!(values, ["before", "beside"], "what is before the damage is read");
    match error {
        Some(LogError::Corrupt { address, .. }) => assert_eq!(address, "a/0 offset 2"),
        other => panic!("{other:?}"),
    }
    assert_eq!(read(&log, &at, 4), (vec!["after".into(), "beside".into()], None), "and what is after it");
    drop(log);
    // From the last batch the next offset follows.
    flip(dir.path(), b"after");
    match EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).map(drop) {
        Err(LogError::Corrupt { address, .. }) => assert_eq!(address, "a/0 offset 4"),
        other => panic!("{other:?}"),
    }
}

/// Flips a bit in the text wherever it is in the file: pages that LMDB has given up may hold copies.
fn flip(dir: &Path, text: &[u8]) {
    let path = dir.join("data.mdb");
    let mut bytes = fs::read(&path).unwrap();
    let found: Vec<_> = bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text).map(|(i, _)| i).collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at + 2] ^= 0x10;
    }
    fs::write(&path, bytes).unwrap();
}
