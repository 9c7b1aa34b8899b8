//! Whatever happens to a file: it is called damaged, or LMDB reads from it what was written.

use super::*;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

const NAMES: [&str; 3] = ["a", "b", "meta"];

/// The value's own checksum, as every user of this has one.
fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), value);
    [&crc.to_le_bytes(), value].concat()
}

fn is_sealed(key: &[u8], value: &[u8]) -> bool {
    value.split_first_chunk::<4>().is_some_and(|(_, rest)| sealed(key, rest) == value)
}

fn checked(dir: &Path) -> Result<(), Damage> {
    let inspection = Inspection {
        leaves_max: u64::MAX,
        entry: &|_, key, value| is_sealed(key, value),
        value_bytes_max: u64::MAX,
        reads_values: true,
        is_grown_ahead: false,
    };
    inspect(&dir.join("data.mdb"), &inspection)
}

struct Opened {
    env: Env,
    databases: Vec<Database<'static, Bytes, Bytes>>,
}

fn open(dir: &Path) -> heed::Result<Opened> {
    let mut options = EnvOpenOptions::new();
    options.map_size(1 << 30).max_dbs(8);
    // SAFETY: the directory is this test's alone, and what was damaged in it was inspected.
    let env = unsafe { options.flags(heed::EnvFlags::NO_SYNC).open(dir)? };
    let mut databases = Vec::new();
    for name in NAMES {
        let txn = env.write_txn()?;
        let created = env.create_databases_and_commit(txn, |opener, txn| {
            opener.create_database::<Bytes, Bytes>(txn, Some(name)).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        let CommitOrAbort::Commit(database) = created else { panic!("nothing aborts") };
        databases.push(database);
    }
    Ok(Opened { env, databases })
}

impl Opened {
    fn read(&self) -> heed::Result<Vec<Entries>> {
        let txn = self.env.read_txn()?;
        let entries = |database: &Database<Bytes, Bytes>| {
            database.iter(&txn)?.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
        };
        self.databases.iter().map(entries).collect()
    }

    /// Every key by itself: a wrong branch shows only so.
    fn finds(&self, expected: &[Entries]) -> bool {
        let txn = self.env.read_txn().unwrap();
        let is_found = |database: &Database<Bytes, Bytes>, key: &[u8], value: &[u8]| {
            database.get(&txn, key).is_ok_and(|found| found == Some(value))
        };
        let mut pairs = self.databases.iter().zip(expected);
        pairs.all(|(database, entries)| entries.iter().all(|(key, value)| is_found(database, key, value)))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u16, usize),
    Delete(usize, u16),
    Commit,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..2usize, 0..2_000u16, prop_oneof![0..200usize, 3_000..9_000usize])
            .prop_map(|(database, key, len)| Step::Put(database, key, len)),
        8 => (0..2usize, 0..2_000u16).prop_map(|(database, key)| Step::Delete(database, key)),
        3 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

fn key(number: u16) -> Vec<u8> {
    format!("{:x}-a key that takes some room, so that there are branches: {number:04}", number % 7).into_bytes()
}

/// Applies steps; what is there afterwards.
fn write(dir: &Path, steps: &[Step]) -> Vec<Entries> {
    let mut opened = open(dir).unwrap();
    for part in steps.split_inclusive(|step| matches!(step, Step::Commit | Step::Reopen)) {
        let mut txn = opened.env.write_txn().unwrap();
        for step in part {
            match *step {
                Step::Put(database, number, len) => {
                    let value = sealed(&key(number), &vec![number as u8; len]);
                    opened.databases[database].put(&mut txn, &key(number), &value).unwrap();
                }
                Step::Delete(database, number) => {
                    opened.databases[database].delete(&mut txn, &key(number)).unwrap();
                }
                Step::Commit | Step::Reopen => {}
            }
        }
        txn.commit().unwrap();
        if matches!(part.last(), Some(Step::Reopen)) {
            drop(opened);
            checked(dir).unwrap();
            opened = open(dir).unwrap();
        }
    }
    opened.read().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_lmdb_wrote_is_whole(steps in prop::collection::vec(step(), 1..600)) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &steps);
        prop_assert_eq!(checked(dir.path()), Ok(()));
    }
}

/// A file with branches, overflow pages and free pages, and its contents.
fn sample(dir: &Path) -> (Vec<u8>, Vec<Entries>) {
    let puts = |range: std::ops::Range<u16>| {
        range.map(|n| Step::Put(usize::from(n % 2), n, if n % 50 == 0 { 6_000 } else { 20 }))
    };
    let mut steps: Vec<_> = puts(0..400).collect();
    steps.push(Step::Commit);
    steps.extend((0..100).map(|n| Step::Delete(usize::from(n % 2), n)));
    steps.push(Step::Commit);
    steps.extend(puts(400..440));
    let contents = write(dir, &steps);
    (fs::read(dir.join("data.mdb")).unwrap(), contents)
}

/// What a damaged file gives: an error, or what was written.
fn is_noticed_or_harmless(bytes: &[u8], contents: &[Entries]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("data.mdb"), bytes).unwrap();
    checked(dir.path()).is_err()
        || open(dir.path()).is_ok_and(|opened| {
            opened.read().is_ok_and(|read| read == contents) && opened.finds(contents) && {
                // And it can be written to.
                let mut txn = opened.env.write_txn().unwrap();
                let more: Vec<_> = (500..600).map(|n| (key(n), sealed(&key(n), &[7; 30]))).collect();
                more.iter().for_each(|(key, value)| opened.databases[0].put(&mut txn, key, value).unwrap());
                txn.commit().unwrap();
                opened.finds(contents)
            }
        })
}

#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, contents) = sample(dir.path());
    assert_eq!(checked(dir.path()), Ok(()));
    // Every bit of the meta pages and of some pages' heads, and some of all others.
    let meta = (0..2).flat_map(|page| (0..152).map(move |at| page * 4_096 + at));
    let heads = (2..bytes.len() / 4_096).step_by(5).flat_map(|page| (0..28).map(move |at| page * 4_096 + at));
    let all_bits = meta.chain(heads).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    let others = (0..bytes.len()).step_by(97).map(|at| (at, at % 8));
    for (at, bit) in all_bits.chain(others) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        assert!(is_noticed_or_harmless(&damaged, &contents), "bit {bit} of byte {at}");
    }
}

#[test]
fn a_file_that_was_cut_or_overwritten_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, contents) = sample(dir.path());
    let pages = bytes.len() / 4_096;
    for page in 0..pages {
        for len in [page * 4_096, page * 4_096 + 1, page * 4_096 + 2_048] {
            assert!(is_noticed_or_harmless(&bytes[..len], &contents), "cut at {len} of {}", bytes.len());
        }
        for other in [page, pages - 1 - page] {
            let mut damaged = bytes.clone();
            match other == page {
                true => damaged[page * 4_096..][..4_096].fill(0),
                false => damaged.copy_within(other * 4_096..(other + 1) * 4_096, page * 4_096),
            }
            assert!(is_noticed_or_harmless(&damaged, &contents), "page {page} in place of {other}");
        }
    }
    for (len, expected) in [(0, "is empty"), (100, "was cut short"), (4_096, "was cut short"), (8_192, "cut short")] {
        fs::write(dir.path().join("data.mdb"), &bytes[..len]).unwrap();
        let damage = checked(dir.path()).unwrap_err().to_string();
        assert!(damage.contains(expected), "{len}: {damage}");
    }
}
