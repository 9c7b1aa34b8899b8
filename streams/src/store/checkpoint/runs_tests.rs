//! What is written in runs, merged and dropped, against a map; and what a kill or damage may leave of it.

use super::*;
use crate::store::checkpoint::{CheckpointMeta, CheckpointReader, CheckpointSite, CheckpointWriter, NO_SEGMENT};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// By segment and key.
type Model = BTreeMap<(u64, Vec<u8>), Vec<u8>>;

fn open(dir: &Path) -> (Arc<Checkpoint>, Option<CheckpointMeta>) {
    let site = CheckpointSite { dir: dir.to_owned(), boot_id: "boot".to_owned(), owner: "task".to_owned() };
    let (checkpoint, meta) = Checkpoint::open(&site, &["a"]).unwrap();
    (Arc::new(checkpoint), meta)
}

fn key(segment: u64, number: u64) -> Vec<u8> {
    let key = format!("{}-{number}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    [&segment.to_be_bytes()[..segment_bytes(segment)], key.as_bytes()].concat()
}

fn put(out: &mut CheckpointWriter<'_>, segment: u64, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
    let value = value.map(|value| |out: &mut Vec<u8>| out.extend_from_slice(value));
    out.put(segment, |out| out.extend_from_slice(key), value)
}

/// All entries, read `at_once` at a time.
fn all(checkpoint: &Arc<Checkpoint>, at_once: usize) -> Result<Model, StoreError> {
    let (reader, mut cursor) = (CheckpointReader::new(checkpoint.clone(), 0)?, None);
    let mut found = Model::new();
    loop {
        let (mut count, before) = (0, found.len());
        let more = reader.read(&mut cursor, at_once, |segment, key, value| {
            count += 1;
            found.insert((segment, key.to_vec()), value.to_vec());
            Ok(true)
        })?;
        assert_eq!(found.len(), before + count, "an entry comes once");
        if !more {
            return Ok(found);
        }
    }
}

fn runs(checkpoint: &Checkpoint) -> BTreeMap<u64, BTreeSet<u32>> {
    let txn = checkpoint.env.read_txn().unwrap();
    let mut runs: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for entry in checkpoint.stores[0].iter(&txn).unwrap() {
        let (segment, run, block) = read_block_key(entry.unwrap().0).unwrap();
        assert!(block < DIRECTORY || runs[&segment].contains(&run), "a directory alone");
        runs.entry(segment).or_default().insert(run);
    }
    runs
}

fn without_directories(checkpoint: &Checkpoint) {
    let mut txn = checkpoint.env.write_txn().unwrap();
    let keys = checkpoint.stores[0].iter(&txn).unwrap().map(|entry| entry.unwrap().0.to_vec());
    let is_part = |key: &Vec<u8>| read_block_key(key).unwrap().2 >= DIRECTORY;
    for key in keys.filter(is_part).collect::<Vec<_>>() {
        checkpoint.stores[0].delete(&mut txn, &key).unwrap();
    }
    txn.commit().unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    /// Writes or deletes consecutive keys with values of one size; the disk may fill meanwhile.
    Write {
        segment: u64,
        first: u64,
        count: u64,
        value_bytes: Option<usize>,
        fails: bool,
    },
    Drop(u64),
    Reopen,
    /// All runs become what the former format had: none has a directory.
    Former,
}

fn step() -> impl Strategy<Value = Step> {
    let segment = prop_oneof![3 => Just(NO_SEGMENT), 3 => 5..8u64];
    let value_bytes = prop_oneof![1 => Just(None), 4 => (0..600usize).prop_map(Some), 1 => Just(Some(20_000))];
    let write = (segment, 0..60u64, 1..60u64, value_bytes, prop::bool::weighted(0.1)).prop_map(
        |(segment, first, count, value_bytes, fails)| Step::Write { segment, first, count, value_bytes, fails },
    );
    prop_oneof![12 => write, 1 => (5..9u64).prop_map(Step::Drop), 1 => Just(Step::Reopen), 1 => Just(Step::Former)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_was_written_last_is_what_is_read(
        steps in prop::collection::vec(step(), 0..60), at_once in 1..50usize
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut checkpoint, _) = open(dir.path());
        let (mut model, mut reader) = (Model::new(), None::<CheckpointReader>);
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write { segment, first, count, value_bytes, fails } => {
                    let before = model.clone();
                    let written = checkpoint.write(&CheckpointMeta::default(), |out| {
                        out.begin(0)?;
                        for key in (first..first + count).rev().map(|number| key(segment, number)) {
                            let value = value_bytes.map(|len| vec![number as u8; len]);
                            put(out, segment, &key, value.as_deref())?;
                            match value {
                                Some(value) => model.insert((segment, key), value),
                                None => model.remove(&(segment, key)),
                            };
                        }
                        out.begin(0)?;
                        if fails { Err(StoreError::Unwritten("full".to_owned())) } else { Ok(()) }
                    });
                    prop_assert_eq!(written.is_err(), fails);
                    if fails {
                        model = before;
                    }
                }
                Step::Drop(first) => {
                    checkpoint.write(&CheckpointMeta::default(), |out| {
                        out.begin(0)?;
                        out.delete_below(first)
                    }).unwrap();
                    model.retain(|(segment, _), _| *segment >= first);
                }
                Step::Former => without_directories(&checkpoint),
                Step::Reopen => {
                    drop((checkpoint, reader.take()));
                    checkpoint = open(dir.path()).0;
                }
            }
            prop_assert_eq!(&all(&checkpoint, at_once).unwrap(), &model);
            // One reader from the last step, and one that was opened now.
            match &mut reader {
                Some(reader) => reader.refresh().unwrap(),
                None => reader = Some(CheckpointReader::new(checkpoint.clone(), 0).unwrap()),
            }
            let mut opened = CheckpointReader::new(checkpoint.clone(), 0).unwrap();
            for reader in [reader.as_mut().unwrap(), &mut opened] {
                for segment in [5, 6, 7, NO_SEGMENT] {
                    for number in 0..120 {
                        let stored = key(segment, number);
                        let found = reader.get(Some(segment), &stored[segment_bytes(segment)..]).unwrap();
                        let expected = model.get(&(segment, stored)).map(|value| (segment, value.clone()));
                        prop_assert_eq!(found, expected);
                    }
                }
                for number in 0..120 {
                    let found = reader.get(None, &key(NO_SEGMENT, number)).unwrap();
                    let newest = [NO_SEGMENT, 7, 6, 5].into_iter().find_map(|segment| {
                        Some((segment, model.get(&(segment, key(segment, number)))?.clone()))
                    });
                    prop_assert_eq!(found, newest);
                }
            }
        }
    }
}

#[test]
fn many_checkpoints_leave_few_runs_and_nothing_of_what_was_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, _) = open(dir.path());
    for number in 0..400u64 {
        let entries = |out: &mut CheckpointWriter<'_>| {
            out.begin(0)?;
            put(out, NO_SEGMENT, &key(NO_SEGMENT, number), Some(&[1; 300]))?;
            number.checked_sub(1).map_or(Ok(()), |last| put(out, NO_SEGMENT, &key(NO_SEGMENT, last), None))
        };
        checkpoint.write(&CheckpointMeta::default(), entries).unwrap();
        let count = runs(&checkpoint)[&NO_SEGMENT].len();
        assert!(count < MERGED_RUNS, "{count} runs after {number}");
    }
    assert_eq!(all(&checkpoint, 100).unwrap().len(), 1);
    let large = |out: &mut CheckpointWriter<'_>| {
        out.begin(0)?;
        (0..2_000).try_for_each(|number| put(out, NO_SEGMENT, &key(NO_SEGMENT, number), Some(&[2; 300])))
    };
    checkpoint.write(&CheckpointMeta::default(), large).unwrap();
    assert_eq!(all(&checkpoint, 100).unwrap().len(), 2_000);
}

/// What the child of the test below writes in its n-th checkpoint: in two segments, deletions included.
fn nth(n: u64, mut each: impl FnMut(u64, Vec<u8>, Option<Vec<u8>>)) {
    for segment in [n / 50, NO_SEGMENT] {
        for number in 0..200 {
            let of = (n * 31 + number * 7) % 1_000;
            let value = (!(n + number).is_multiple_of(5)).then(|| format!("{n}-{number}").into_bytes());
            // Keys of segments that expire are never deleted.
            if segment == NO_SEGMENT || value.is_some() {
                each(segment, key(segment, of), value);
            }
        }
    }
}

/// In a process of its own, started and killed by the test below.
#[test]
fn writes_checkpoints_until_it_is_killed() {
    let Some(dir) = std::env::var_os("TALLY_TEST_WRITES_UNTIL_KILLED") else { return };
    let (checkpoint, meta) = open(Path::new(&dir));
    for n in meta.map_or(0, |meta| meta.commit + 1).. {
        let meta = CheckpointMeta { commit: n, ..CheckpointMeta::default() };
        let stores = |out: &mut CheckpointWriter<'_>| {
            out.begin(0)?;
            out.delete_below((n / 50).saturating_sub(1))?;
            let mut outcome = Ok(());
            nth(n, |segment, key, value| {
                if outcome.is_ok() {
                    outcome = put(out, segment, &key, value.as_deref());
                }
            });
            outcome
        };
        checkpoint.write(&meta, stores).unwrap();
        checkpoint.proven();
        println!("written {n}");
    }
}

#[test]
fn a_kill_leaves_one_whole_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (mut reached, mut model, mut next) = (0, Model::new(), 0);
    for kill in 0..6u64 {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "store::checkpoint::runs::tests::writes_checkpoints_until_it_is_killed", "--nocapture"]);
        child.env("TALLY_TEST_WRITES_UNTIL_KILLED", dir.path()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let written = lines.filter(|line| line.contains("written")).nth(20 + 7 * kill as usize).expect("it writes");
        child.kill().unwrap();
        child.wait().unwrap();
        let (checkpoint, meta) = open(dir.path());
        let commit = meta.expect("a checkpoint").commit;
        let reported: u64 = written.split_whitespace().last().unwrap().parse().unwrap();
        assert!(commit >= reported && commit > reached, "kill {kill}: {commit}, after {reported} and {reached}");
        while next <= commit {
            model.retain(|(segment, _), _| *segment >= (next / 50).saturating_sub(1));
            let mut changes = Model::new();
            let mut gone = BTreeSet::new();
            nth(next, |segment, key, value| match value {
                Some(value) => drop(changes.insert((segment, key), value)),
                None => drop(gone.insert((segment, key))),
            });
            model.retain(|place, _| !gone.contains(place));
            model.extend(changes);
            next += 1;
        }
        assert_eq!(all(&checkpoint, 1_000).unwrap(), model, "kill {kill}, checkpoint {commit}");
        reached = commit;
    }
}

#[test]
fn a_run_with_the_number_of_one_that_is_gone_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, _) = open(dir.path());
    let write = |number: u64, value: Option<&[u8]>| {
        let entries = |out: &mut CheckpointWriter<'_>| {
            out.begin(0)?;
            put(out, NO_SEGMENT, &key(NO_SEGMENT, number), value)
        };
        checkpoint.write(&CheckpointMeta::default(), entries).unwrap();
        runs(&checkpoint).get(&NO_SEGMENT).map_or(0, BTreeSet::len)
    };
    assert_eq!(write(1, Some(b"first")), 1);
    let mut reader = CheckpointReader::new(checkpoint.clone(), 0).unwrap();
    // The runs are merged, and nothing is left.
    assert!((0..2 * MERGED_RUNS).any(|_| write(1, None) == 0));
    assert_eq!(write(2, Some(b"second")), 1);
    reader.refresh().unwrap();
    let expected = Some((NO_SEGMENT, b"second".to_vec()));
    assert_eq!(
        (reader.get(None, &key(NO_SEGMENT, 2)), reader.get(None, &key(NO_SEGMENT, 1))),
        (Ok(expected), Ok(None))
    );
}

#[test]
fn neither_opening_nor_a_key_that_is_nowhere_reads_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, _) = open(dir.path());
    for segment in [5, 6] {
        let entries = |out: &mut CheckpointWriter<'_>| {
            out.begin(0)?;
            (0..2_000).try_for_each(|number| put(out, segment, &key(segment, number), Some(&[3; 30])))
        };
        checkpoint.write(&CheckpointMeta::default(), entries).unwrap();
    }
    // Every block is damaged, and no directory.
    let mut txn = checkpoint.env.write_txn().unwrap();
    let entries = checkpoint.stores[0].iter(&txn).unwrap().map(|entry| entry.unwrap());
    let blocks = entries.filter(|(key, _)| read_block_key(key).unwrap().2 < DIRECTORY);
    let mut blocks: Vec<_> = blocks.map(|(key, sealed)| (key.to_vec(), sealed.to_vec())).collect();
    for (key, sealed) in &mut blocks {
        sealed[0] ^= 1;
        checkpoint.stores[0].put(&mut txn, key, sealed).unwrap();
    }
    txn.commit().unwrap();
    drop(checkpoint);
    let (checkpoint, meta) = open(dir.path());
    assert!(meta.is_some());
    let mut reader = CheckpointReader::new(checkpoint, 0).unwrap();
    let absent = (2_000..4_000).filter(|number| reader.get(None, &key(NO_SEGMENT, *number)) == Ok(None)).count();
    assert!(absent > 1_980, "{absent} of 2,000 without reading a block");
    assert!((0..2_000).all(|number| reader.get(None, &key(NO_SEGMENT, number)).is_err()));
}

#[test]
fn a_damaged_file_is_discarded_or_found_later_or_reads_as_it_was_written() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("task");
    let (checkpoint, _) = open(&dir);
    let entries = |out: &mut CheckpointWriter<'_>| {
        out.begin(0)?;
        (0..600).try_for_each(|number| put(out, NO_SEGMENT, &key(NO_SEGMENT, number), Some(&[3; 90])))
    };
    checkpoint.write(&CheckpointMeta::default(), entries).unwrap();
    checkpoint.proven();
    let written = all(&checkpoint, 100).unwrap();
    assert_eq!((written.len(), runs(&checkpoint)[&NO_SEGMENT].len()), (600, 2), "the entries are of two runs");
    drop(checkpoint);
    let whole = std::fs::read(dir.join("data.mdb")).unwrap();
    let (mut discarded, mut found) = (0, 0);
    for trial in 0..120u64 {
        let random = trial.wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize;
        let (page, mut bytes) = (random / 7 % (whole.len() / 4096) * 4096, whole.clone());
        match trial % 3 {
            0 => bytes[random % whole.len()] ^= 1 << (random / 3 % 8),
            1 => bytes[page..page + 4096].fill(0),
            // Half of a page is as it was before.
            _ => bytes[page + 2048..page + 4096].fill(0xa5),
        }
        std::fs::write(dir.join("data.mdb"), bytes).unwrap();
        let (checkpoint, meta) = open(&dir);
        match meta {
            Some(_) => match all(&checkpoint, 100) {
                Ok(read) => assert_eq!(read, written, "trial {trial}"),
                Err(_) => found += 1,
            },
            None => discarded += 1,
        }
        checkpoint.proven();
        drop(checkpoint);
        std::fs::write(dir.join("data.mdb"), &whole).unwrap();
    }
    assert!(discarded > 10 && discarded + found > 60, "{discarded} were discarded, {found} found later");
}
