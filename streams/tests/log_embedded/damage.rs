//! Damage is detected and reported with its address.

use crate::*;
use tally_streams::log::embedded::OfflineLog;

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

/// Options with which everything that is older than the last append becomes blocks at once.
fn merging(clock: Clock) -> EmbeddedOptions {
    let upkeep = UpkeepOptions {
        every: Duration::from_millis(1),
        settle_ms: 0,
        block_bytes: 300,
        tail_bytes_min: 0,
        ..UpkeepOptions::default()
    };
    EmbeddedOptions { clock, upkeep, ..EmbeddedOptions::default() }
}

#[test]
fn a_flipped_byte_in_a_block_is_noticed() {
    let values: Vec<_> = (0..60).map(|n| noise(n, 14)).collect();
    damage_in_a_block_is_noticed(&values, |dir, bytes| {
        assert!(packed_blocks(bytes).is_empty());
        flip(dir, values[30].as_bytes());
    });
}

#[test]
fn a_flipped_byte_in_a_packed_block_is_noticed() {
    let values: Vec<_> = (0..60).map(|n| format!("value {n:02}")).collect();
    damage_in_a_block_is_noticed(&values, |dir, bytes| {
        let mut bytes = bytes.to_vec();
        // Each append is a millisecond later than the one before.
        let damaged: Vec<_> = packed_blocks(&bytes).into_iter().filter(|(_, time)| (10..=30).contains(time)).collect();
        assert!(!damaged.is_empty());
        damaged.into_iter().for_each(|(at, _)| bytes[at + 20] ^= 0x10);
        fs::write(dir.join("data.mdb"), bytes).unwrap();
    });
}

/// Where the compressed records of packed blocks are in a file, and the times of the first.
fn packed_blocks(bytes: &[u8]) -> Vec<(usize, i64)> {
    let starts = bytes.windows(4).enumerate().filter(|(at, magic)| *magic == [0x28, 0xb5, 0x2f, 0xfd] && *at >= 29);
    let blocks = starts.filter(|(at, _)| bytes[at - 25] == 3);
    blocks.map(|(at, _)| (at, i64::from_le_bytes(bytes[at - 20..at - 12].try_into().unwrap()))).collect()
}

fn damage_in_a_block_is_noticed(values: &[String], damage: impl Fn(&Path, &[u8])) {
    let dir = tempfile::tempdir().unwrap();
    let at = TopicPartition::new("a", 0);
    let (clock, time) = settable_clock();
    let log = EmbeddedLog::open(dir.path(), merging(clock.clone())).unwrap();
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    for (now, value) in (0..).zip(values) {
        time.store(now, Ordering::SeqCst);
        append(&log, "a", &[value]).unwrap();
    }
    drop(log);
    let is_merged = || {
        let log = EmbeddedLog::open(dir.path(), merging(clock.clone())).unwrap();
        // A slice follows the first request.
        log.ensure_topics(&[spec("a", 1, None)]).unwrap();
        drop(log);
        OfflineLog::open(dir.path()).unwrap().stat().unwrap()[0].batches < 12
    };
    wait_for("the values are merged", is_merged);
    damage(dir.path(), &fs::read(dir.path().join("data.mdb")).unwrap());
    // Neither reading nor another round of merging takes the damage for data.
    for _ in 0..2 {
        let log = EmbeddedLog::open(dir.path(), merging(clock.clone())).unwrap();
        let (found, error) = read(&log, &at, 0);
        assert!(!found.is_empty() && found.len() <= 30 && found[..] == values[..found.len()], "{found:?}");
        match error {
            Some(LogError::Corrupt { address, .. }) => assert_eq!(address, format!("a/0 offset {}", found.len())),
            other => panic!("{other:?}"),
        }
        assert_eq!(read(&log, &at, 55), (values[55..].to_vec(), None), "what is after it");
    }
}

/// What is damaged before it is merged stays where it is, and is reported.
#[test]
fn damage_is_not_merged() {
    let dir = tempfile::tempdir().unwrap();
    let at = TopicPartition::new("a", 0);
    let (clock, time) = settable_clock();
    let options = EmbeddedOptions { clock: clock.clone(), ..EmbeddedOptions::default() };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    for (now, value) in (0..).zip(["before", "beside", "the damaged one", "after", "the last"]) {
        time.store(now, Ordering::SeqCst);
        append(&log, "a", &[value]).unwrap();
    }
    drop(log);
    flip(dir.path(), b"the damaged one");
    for _ in 0..2 {
        let log = EmbeddedLog::open(dir.path(), merging(clock.clone())).unwrap();
        let (values, error) = read(&log, &at, 0);
        assert_eq!(values, ["before", "beside"]);
        match error {
            Some(LogError::Corrupt { address, .. }) => assert_eq!(address, "a/0 offset 2"),
            other => panic!("{other:?}"),
        }
        assert_eq!(read(&log, &at, 3).0, ["after", "the last"]);
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

/// A log with several topics, batches of all sizes, committed offsets and free pages; and what is in it.
fn sample(dir: &Path) -> Vec<Vec<String>> {
    let log = open(dir);
    log.ensure_topics(&[spec("a", 1, None), spec("b", 2, None)]).unwrap();
    for n in 0..120 {
        let topic = if n % 3 == 0 { "b" } else { "a" };
        append(&log, topic, &[&format!("{n} {}", "x".repeat(n * n % 5_000)), "beside"]).unwrap();
    }
    log.delete_records(&TopicPartition::new("a", 0), 30).unwrap();
    let mut producer = log.producer("id").unwrap();
    let group = GroupMetadata { group: "group".into(), ..GroupMetadata::default() };
    let committed = CommittedOffset { offset: 7, metadata: String::new() };
    producer.send_offsets(&group, &[(TopicPartition::new("b", 1), committed)]).unwrap();
    producer.commit().unwrap();
    contents(&log).unwrap()
}

/// The same, most of it in packed blocks.
fn packed_sample(dir: &Path) -> Vec<Vec<String>> {
    let expected = sample(dir);
    OfflineLog::open(dir).unwrap().compact().unwrap();
    assert!(packed_blocks(&fs::read(dir.join("data.mdb")).unwrap()).len() >= 2);
    expected
}

fn contents(log: &dyn Log) -> Result<Vec<Vec<String>>, LogError> {
    let places = [("a", 0), ("b", 0), ("b", 1)].map(|(topic, partition)| TopicPartition::new(topic, partition));
    let committed = log.committed("group", &places[2])?.map_or(0, |committed| committed.offset);
    let values = places.iter().map(|at| {
        let (start, end) = log.bounds(at)?;
        let (mut values, error) = read(log, at, start);
        values.push(format!("{start}..{end} {committed}"));
        error.map_or(Ok(values), Err)
    });
    values.collect()
}

/// Whether a damaged file is refused with its address, or only what is damaged in it, or everything is there.
fn is_refused_or_whole(dir: &Path, bytes: &[u8], expected: &[Vec<String>]) -> Result<bool, LogError> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("data.mdb"), bytes).unwrap();
    match EmbeddedLog::open(dir, EmbeddedOptions::default()) {
        Err(LogError::Corrupt { address, .. }) => {
            assert_eq!(fs::read(dir.join("data.mdb")).unwrap(), bytes, "nothing is changed");
            Ok(address.ends_with("data.mdb") || address.contains(" offset "))
        }
        Err(error) => Err(error),
        Ok(log) => match contents(&log) {
            Ok(found) => Ok(found == expected),
            Err(LogError::Corrupt { address, .. }) => Ok(address.contains(" offset ")),
            Err(error) => Err(error),
        },
    }
}

#[test]
fn whatever_bit_is_flipped_nothing_is_lost_in_silence() {
    no_damage_is_silent(sample, 811);
}

#[test]
fn whatever_bit_of_a_packed_log_is_flipped_nothing_is_lost_in_silence() {
    no_damage_is_silent(packed_sample, 97);
}

/// Bits of every part of the file are flipped, of all but the meta pages one in that many bytes; and the file is cut.
fn no_damage_is_silent(sample: fn(&Path) -> Vec<Vec<String>>, each: usize) {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = sample(dir.path());
    let bytes = fs::read(dir.path().join("data.mdb")).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let (meta, numbers) = ((0..152).map(|at| (at, at % 8)), (136..152).flat_map(|at| (0..8).map(move |bit| (at, bit))));
    let meta = meta.chain(numbers).flat_map(|(at, bit)| [(at, bit), (at + 4_096, bit)]);
    let others = (8_192..used).step_by(each).map(|at| (at, at % 8));
    for (at, bit) in meta.chain(others) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        let outcome = is_refused_or_whole(other.path(), &damaged, &expected);
        assert_eq!(outcome, Ok(true), "bit {bit} of byte {at}");
    }
    for len in (0..used).step_by(4_096).flat_map(|len| [len, len + 1_000]).filter(|len| *len <= used) {
        let outcome = is_refused_or_whole(other.path(), &bytes[..len], &expected);
        assert_eq!(outcome, Ok(true), "cut at {len}");
    }
}

/// The error of a start on a directory, which must be refused.
fn refusal(dir: &Path, options: EmbeddedOptions) -> String {
    match EmbeddedLog::open(dir, options).map(drop) {
        Err(LogError::Corrupt { address, detail }) => {
            assert!(address.ends_with("data.mdb") && detail.contains("restore the log from a backup"), "{detail}");
            detail
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_that_is_gone_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let expected = sample(dir.path());
    let data = dir.path().join("data.mdb");
    let aside = dir.path().join("aside");
    fs::rename(&data, &aside).unwrap();
    assert!(refusal(dir.path(), EmbeddedOptions::default()).contains("lock.mdb beside it shows"));
    fs::write(&data, "").unwrap();
    assert!(refusal(dir.path(), EmbeddedOptions::default()).contains("0 bytes"));
    fs::remove_file(&data).unwrap();
    fs::create_dir(&data).unwrap();
    assert!(refusal(dir.path(), EmbeddedOptions::default()).contains("no file"));
    fs::remove_dir(&data).unwrap();
    fs::remove_file(dir.path().join("lock.mdb")).unwrap();
    let options = EmbeddedOptions { proof: Some("the database".into()), ..EmbeddedOptions::default() };
    assert!(refusal(dir.path(), options.clone()).contains("the database shows"));
    // The way out: the file from a backup.
    fs::rename(&aside, &data).unwrap();
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    assert_eq!(contents(&log), Ok(expected));
}

#[test]
fn one_that_was_being_begun_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    for left in [&[][..], &["data.mdb"], &["lock.mdb"], &["data.mdb", "lock.mdb"]] {
        fs::write(dir.path().join("beginning"), "").unwrap();
        left.iter().for_each(|name| fs::write(dir.path().join(name), "half").unwrap());
        let log = open(dir.path());
        log.ensure_topics(&[spec("a", 1, None)]).unwrap();
        assert_eq!(append(&log, "a", &["1"]), Ok(vec![(0, 0)]), "{left:?}");
        drop(log);
        assert!(!dir.path().join("beginning").exists());
    }
    let (values, error) = read(&open(dir.path()), &TopicPartition::new("a", 0), 0);
    assert_eq!((values, error), (vec!["1".to_owned()], None));
}
