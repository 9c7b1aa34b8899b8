//! What a checkpoint keeps, and when it is discarded.

use super::runs::block_key;
use super::*;
use std::fs;
use std::process::Command;
use std::sync::Arc;

fn site(dir: &Path, boot_id: &str) -> CheckpointSite {
    CheckpointSite { dir: dir.to_owned(), boot_id: boot_id.to_owned(), owner: "task".to_owned() }
}

/// Opens it with two stores.
fn open(site: &CheckpointSite) -> Result<(Arc<Checkpoint>, Option<CheckpointMeta>), StoreError> {
    Checkpoint::open(site, &["a", "b"]).map(|(checkpoint, meta)| (Arc::new(checkpoint), meta))
}

/// A value that never expires.
fn get(checkpoint: &Arc<Checkpoint>, index: usize, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let found = CheckpointReader::new(checkpoint.clone(), index)?.get(None, key)?;
    Ok(found.map(|(_, value)| value))
}

const META: fn(u64) -> CheckpointMeta = |changelog_next| CheckpointMeta {
    generation: 1,
    changelog_next,
    input_next: 5,
    commit: 3,
    ..CheckpointMeta::default()
};

fn write(checkpoint: &Checkpoint, entries: &[(&[u8], &[u8])]) {
    let stores = |out: &mut CheckpointWriter<'_>| {
        out.begin(1)?;
        entries.iter().try_for_each(|(key, value)| {
            let value = Some(|out: &mut Vec<u8>| out.extend_from_slice(value));
            out.put(NO_SEGMENT, |out| out.extend_from_slice(key), value)
        })
    };
    checkpoint.write(&META(9), stores).unwrap();
}

#[test]
fn what_was_written_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, meta) = open(&site(dir.path(), "boot")).unwrap();
    assert_eq!(meta, None);
    write(&checkpoint, &[(b"k", b"v"), (b"l", b"")]);
    drop(checkpoint);
    let (checkpoint, meta) = open(&site(dir.path(), "boot")).unwrap();
    assert_eq!(meta, Some(META(9)));
    assert_eq!(get(&checkpoint, 1, b"k").unwrap(), Some(b"v".to_vec()));
    assert_eq!(get(&checkpoint, 0, b"k").unwrap(), None);
    let (reader, mut cursor) = (CheckpointReader::new(checkpoint, 1).unwrap(), None);
    let mut next = || {
        let mut keys = Vec::new();
        let more = reader.read(&mut cursor, 1, |_, key, _| {
            keys.push(key.to_vec());
            Ok(true)
        });
        (more.unwrap(), keys)
    };
    assert_eq!(next(), (true, vec![b"k".to_vec()]));
    assert_eq!(next(), (true, vec![b"l".to_vec()]));
    assert_eq!(next(), (false, vec![]));
}

#[test]
fn what_another_thread_has_open_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let open = |boot| open(&site(dir.path(), boot));
    let (checkpoint, _) = open("boot").unwrap();
    write(&checkpoint, &[(b"k", b"v")]);
    // Not even an untrusted one is discarded.
    for boot in ["boot", "another boot"] {
        assert_eq!(open(boot).err(), Some(StoreError::InUse(dir.path().display().to_string())));
    }
    write(&checkpoint, &[(b"l", b"w")]);
    drop(checkpoint);
    let (checkpoint, meta) = open("boot").unwrap();
    assert_eq!((meta, get(&checkpoint, 1, b"l")), (Some(META(9)), Ok(Some(b"w".to_vec()))));
}

#[test]
fn it_is_discarded_after_a_crash_of_the_system_unless_it_was_closed() {
    let dir = tempfile::tempdir().unwrap();
    let open = |boot| open(&site(dir.path(), boot)).unwrap();
    let (checkpoint, _) = open("first boot");
    write(&checkpoint, &[(b"k", b"v")]);
    checkpoint.close().unwrap();
    drop(checkpoint);
    let (checkpoint, meta) = open("second boot");
    assert_eq!(meta, Some(META(9)), "closed cleanly");
    drop(checkpoint);
    let (checkpoint, meta) = open("third boot");
    assert_eq!(meta, None, "not closed");
    assert_eq!(get(&checkpoint, 1, b"k").unwrap(), None);
}

#[test]
fn it_is_discarded_when_its_task_dies_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, _) = open(&site(dir.path(), "boot")).unwrap();
    write(&checkpoint, &[(b"k", b"v")]);
    checkpoint.proven();
    drop(checkpoint);
    for _ in 0..DEATHS_MAX {
        assert_eq!(dies_with_it_open(dir.path()), "found");
    }
    assert_eq!(dies_with_it_open(dir.path()), "nothing");
}

#[test]
fn a_task_that_lets_it_go_alive_does_not_count_as_dead() {
    let dir = tempfile::tempdir().unwrap();
    let open = || open(&site(dir.path(), "boot")).unwrap();
    let (checkpoint, _) = open();
    write(&checkpoint, &[(b"k", b"v")]);
    drop(checkpoint);
    assert_eq!(dies_with_it_open(dir.path()), "found");
    // The log does not answer: the task is opened and dropped again and again. That neither adds to the death before nor
    // takes it back.
    for _ in 0..=DEATHS_MAX {
        assert_eq!(open().1, Some(META(9)));
    }
    assert_eq!(dies_with_it_open(dir.path()), "found");
    assert_eq!(open().1, None);
}

/// Opens the checkpoint in a process that dies with it open; returns whether there was one.
fn dies_with_it_open(dir: &Path) -> &'static str {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "store::checkpoint::tests::dies_with_a_checkpoint_open", "--nocapture"]);
    let output = child.env("TALLY_TEST_DIES_WITH", dir).output().unwrap();
    assert!(output.status.code().is_none(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ["found", "nothing"].into_iter().find(|word| said.contains(&format!("checkpoint: {word}"))).expect("says it")
}

/// In a process of its own, started by [`dies_with_it_open`].
#[test]
fn dies_with_a_checkpoint_open() {
    let Some(dir) = std::env::var_os("TALLY_TEST_DIES_WITH") else { return };
    let (_open, meta) = open(&site(Path::new(&dir), "boot")).unwrap();
    println!("checkpoint: {}", if meta.is_some() { "found" } else { "nothing" });
    std::process::abort();
}

#[test]
fn it_is_discarded_when_something_in_it_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let open = || open(&site(dir.path(), "boot")).unwrap();
    let (checkpoint, _) = open();
    write(&checkpoint, &[(b"k", b"v")]);
    checkpoint.distrust();
    drop(checkpoint);
    assert_eq!(open().1, None);
}

#[test]
fn a_value_under_a_wrong_checksum_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, _) = open(&site(dir.path(), "boot")).unwrap();
    write(&checkpoint, &[(b"k", b"v")]);
    let mut txn = checkpoint.env.write_txn().unwrap();
    let mut block = checkpoint.stores[1].get(&txn, &block_key(NO_SEGMENT, 0, 0)).unwrap().unwrap().to_vec();
    block[0] ^= 1;
    checkpoint.stores[1].put(&mut txn, &block_key(NO_SEGMENT, 0, 0), &block).unwrap();
    txn.commit().unwrap();
    assert!(get(&checkpoint, 1, b"k").is_err());
    assert!(CheckpointReader::new(checkpoint, 1).unwrap().read(&mut None, 1, |_, _, _| Ok(true)).is_err());
}

/// In a process of its own, named by the test below.
#[test]
fn dies_while_it_opens_a_checkpoint() {
    let Some(dir) = std::env::var_os("TALLY_TEST_DIES_OF") else { return };
    let dir = PathBuf::from(dir);
    let opened = dir.with_file_name("other");
    let _held = open(&site(&opened, "boot")).unwrap();
    let _opening = Opening::begin(&dir, 0).unwrap();
    std::process::abort();
}

#[test]
fn the_one_that_killed_the_process_is_discarded_at_the_next_start_and_no_other() {
    let parent = tempfile::tempdir().unwrap();
    let dirs = ["other", "deadly"].map(|name| parent.path().join(name));
    let open = |dir: &PathBuf| open(&site(dir, "boot")).unwrap();
    for dir in &dirs {
        let (checkpoint, _) = open(dir);
        write(&checkpoint, &[(b"k", b"v")]);
        checkpoint.proven();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "store::checkpoint::tests::dies_while_it_opens_a_checkpoint"]);
    let status = child.env("TALLY_TEST_DIES_OF", &dirs[1]).output().unwrap().status;
    assert!(!status.success() && status.code().is_none(), "{status}");
    assert_eq!(open(&dirs[0]).1, Some(META(9)));
    assert_eq!(open(&dirs[1]).1, None);
}

#[test]
fn whatever_became_of_its_files_it_opens_or_begins_anew() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("task");
    let open = || open(&site(&dir, "boot")).unwrap();
    let file = |name: &str| dir.join(name);
    let cut = |len: u64| fs::OpenOptions::new().write(true).open(file("data.mdb")).unwrap().set_len(len).unwrap();
    let flip = |at: usize| {
        let mut bytes = fs::read(file("data.mdb")).unwrap();
        (at..bytes.len()).step_by(4_096).for_each(|at| bytes[at] ^= 0x10);
        fs::write(file("data.mdb"), bytes).unwrap();
    };
    let replace_by_dir = |name: &str| {
        fs::remove_file(file(name)).unwrap();
        fs::create_dir(file(name)).unwrap();
    };
    let lost: [(&str, &dyn Fn()); 13] = [
        ("0 bytes", &|| cut(0)),
        ("half a meta page", &|| cut(100)),
        ("meta pages alone", &|| cut(8_192)),
        ("a last page that is cut", &|| cut(fs::metadata(file("data.mdb")).unwrap().len() - 1)),
        ("meta pages that are damaged", &|| flip(16)),
        ("page numbers that are damaged", &|| flip(2 * 4_096)),
        ("data.mdb is gone", &|| fs::remove_file(file("data.mdb")).unwrap()),
        ("data.mdb is a directory", &|| replace_by_dir("data.mdb")),
        ("lock.mdb is a directory", &|| replace_by_dir("lock.mdb")),
        ("a file instead of the directory", &|| {
            fs::remove_dir_all(&dir).unwrap();
            fs::write(&dir, "no directory").unwrap();
        }),
        ("a link instead of the directory", &|| {
            fs::remove_dir_all(&dir).unwrap();
            std::os::unix::fs::symlink("nowhere", &dir).unwrap();
        }),
        ("an empty directory", &|| {
            fs::remove_dir_all(&dir).unwrap();
            fs::create_dir(&dir).unwrap();
        }),
        ("a number of deaths that is none", &|| fs::write(file("deaths"), "x").unwrap()),
    ];
    let kept: [(&str, &dyn Fn()); 4] = [
        ("nothing", &|| {}),
        ("lock.mdb is gone", &|| fs::remove_file(file("lock.mdb")).unwrap()),
        ("lock.mdb is empty", &|| fs::write(file("lock.mdb"), "").unwrap()),
        ("lock.mdb is garbage", &|| fs::write(file("lock.mdb"), [0xa5; 9_000]).unwrap()),
    ];
    for (is_kept, (what, damage)) in lost.map(|d| (false, d)).into_iter().chain(kept.map(|d| (true, d))) {
        let (checkpoint, _) = open();
        write(&checkpoint, &[(b"k", b"v"), (b"l", &[7; 9_000])]);
        checkpoint.proven();
        drop(checkpoint);
        damage();
        let (checkpoint, meta) = open();
        assert_eq!(meta.is_some(), is_kept, "{what}");
        assert_eq!(get(&checkpoint, 1, b"k").unwrap().is_some(), is_kept, "{what}");
        write(&checkpoint, &[(b"k", b"w")]);
        checkpoint.proven();
        drop(checkpoint);
        let (checkpoint, meta) = open();
        assert_eq!((meta, get(&checkpoint, 1, b"k")), (Some(META(9)), Ok(Some(b"w".to_vec()))), "{what}");
    }
}

#[test]
fn that_of_another_task_or_log_is_discarded() {
    let parent = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let site = CheckpointSite { owner: name.to_owned(), ..site(&parent.path().join(name), "boot") };
        super::tests::open(&site).unwrap()
    };
    for name in ["one", "two"] {
        write(&open(name).0, &[(b"k", name.as_bytes())]);
    }
    let [one, two, aside] = ["one", "two", "aside"].map(|name| parent.path().join(name));
    fs::rename(&one, &aside).unwrap();
    fs::rename(&two, &one).unwrap();
    fs::rename(&aside, &two).unwrap();
    for name in ["one", "two"] {
        let (checkpoint, meta) = open(name);
        assert_eq!((meta, get(&checkpoint, 1, b"k")), (None, Ok(None)), "{name}");
    }
}

/// Every format but the present one: the former had an entry for each of a store, and a meta record without a version.
#[test]
fn one_of_another_format_is_discarded() {
    for version in [None, Some(1), Some(6)] {
        let dir = tempfile::tempdir().unwrap();
        let open = || open(&site(dir.path(), "boot")).unwrap();
        let (checkpoint, _) = open();
        let mut txn = checkpoint.env.write_txn().unwrap();
        let version = version.map(|version| [0xff, 0xff, 0xff, version]);
        let meta = [version.as_ref().map_or(&[][..], |version| version), &META(9).encode().unwrap()].concat();
        let entries = [(&checkpoint.stores[1], &b"k"[..], &b"v"[..]), (&checkpoint.meta, META_KEY, &meta)];
        for (store, key, value) in entries {
            let mut sealed = Vec::new();
            seal(key, value, &mut sealed);
            store.put(&mut txn, key, &sealed).unwrap();
        }
        txn.commit().unwrap();
        drop(checkpoint);
        let (checkpoint, meta) = open();
        assert_eq!((meta, get(&checkpoint, 1, b"k")), (None, Ok(None)), "{version:?}");
        write(&checkpoint, &[(b"k", b"w")]);
        drop(checkpoint);
        let (checkpoint, meta) = open();
        assert_eq!((meta, get(&checkpoint, 1, b"k")), (Some(META(9)), Ok(Some(b"w".to_vec()))), "{version:?}");
    }
}

#[test]
fn one_of_the_former_format_is_opened_and_becomes_one_of_the_present_format() {
    let dir = tempfile::tempdir().unwrap();
    let open = || open(&site(dir.path(), "boot")).unwrap();
    let version = |checkpoint: &Checkpoint| {
        let txn = checkpoint.env.read_txn().unwrap();
        checkpoint.meta.get(&txn, META_KEY).unwrap().unwrap()[CHECKSUM_BYTES + 3]
    };
    let (checkpoint, _) = open();
    write(&checkpoint, &[(b"k", b"v"), (b"l", b"v")]);
    let mut txn = checkpoint.env.write_txn().unwrap();
    let keys = checkpoint.stores[1].iter(&txn).unwrap().map(|entry| entry.unwrap().0.to_vec());
    let keys: Vec<_> = keys.filter(|key| key[12] >= 0x80).collect();
    assert_eq!(keys.len(), 1, "a run with one directory");
    keys.iter().for_each(|key| assert!(checkpoint.stores[1].delete(&mut txn, key).unwrap()));
    let (mut sealed, meta) = (Vec::new(), [&b"\xff\xff\xff\x02"[..], &META(9).encode().unwrap()].concat());
    seal(META_KEY, &meta, &mut sealed);
    checkpoint.meta.put(&mut txn, META_KEY, &sealed).unwrap();
    txn.commit().unwrap();
    drop(checkpoint);
    let (checkpoint, meta) = open();
    assert_eq!((meta, get(&checkpoint, 1, b"k")), (Some(META(9)), Ok(Some(b"v".to_vec()))));
    assert_eq!((get(&checkpoint, 1, b"a"), get(&checkpoint, 1, b"m"), version(&checkpoint)), (Ok(None), Ok(None), 2));
    write(&checkpoint, &[(b"k", b"w")]);
    assert_eq!((get(&checkpoint, 1, b"k"), version(&checkpoint)), (Ok(Some(b"w".to_vec())), 5));
    assert_eq!(get(&checkpoint, 1, b"l"), Ok(Some(b"v".to_vec())));
}

#[test]
fn an_earlier_release_takes_the_meta_record_for_damage() {
    let record = [&FORMAT[..], &META(9).encode().unwrap()].concat();
    assert_eq!(CheckpointMeta::decode(&record), None);
}

#[test]
fn the_meta_record_says_what_older_releases_did_not_behind_what_they_did() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Former(u16, u64, u64, u64, Vec<Vec<RootProgress>>);
    let former = postcard::to_allocvec(&Former(1, 9, 5, 3, vec![Vec::new()])).unwrap();
    let expected = CheckpointMeta {
        generation: 1,
        changelog_next: 9,
        input_next: 5,
        commit: 3,
        upstream: vec![Vec::new()],
        outputs: None,
        changelog_bytes: None,
    };
    assert_eq!(CheckpointMeta::decode(&former), Some(expected.clone()));
    assert_eq!(expected.encode().unwrap(), former);
    for outputs in [vec![], vec![("counters".to_owned(), 3)]] {
        let meta = CheckpointMeta { outputs: Some(outputs), ..expected.clone() };
        let bytes = meta.encode().unwrap();
        assert_eq!(CheckpointMeta::decode(&bytes), Some(meta));
        // An older release reads what it knows.
        assert_eq!(postcard::from_bytes::<Former>(&bytes), Ok(Former(1, 9, 5, 3, vec![Vec::new()])));
    }
    let outputs = vec![("counters".to_owned(), 3)];
    let meta = CheckpointMeta { outputs: Some(outputs.clone()), changelog_bytes: Some(1 << 40), ..expected.clone() };
    let bytes = meta.encode().unwrap();
    assert_eq!(CheckpointMeta::decode(&bytes), Some(meta.clone()));
    let (_, behind) = postcard::take_from_bytes::<Former>(&bytes).unwrap();
    assert_eq!(postcard::from_bytes::<Vec<(String, u64)>>(behind), Ok(outputs.clone()));
    // One of a release that noted down outputs alone.
    let former = [former, postcard::to_allocvec(&outputs).unwrap()].concat();
    assert_eq!(CheckpointMeta::decode(&former), Some(CheckpointMeta { changelog_bytes: None, ..meta }));
}
