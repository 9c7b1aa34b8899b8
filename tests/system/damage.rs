//! Damaged checkpoints are thrown away, a damaged or missing log is refused, and neither database nor log is mixed up with
//! another: through the real binary.

use super::{binary, event, post, read_after};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tally_exactness::stop;
use tally_testkit::{Client, Site, wait_until};

/// The damage to a checkpoint's file.
type Damage<'a> = &'a dyn Fn(&Path);

/// Likes `article:7` as each of these actors; returns the counter afterwards.
fn like(client: &Client, actors: std::ops::Range<u32>) -> serde_json::Value {
    let events = actors.map(|n| event(&format!("e{n}"), "like", &format!("u{n}"), "article:7"));
    let receipt = post(client, &json!(events.collect::<Vec<_>>()));
    read_after(client, "article:7", &receipt)["likes"].clone()
}

/// Runs a start that must fail; returns its exit code and output.
fn refused(site: &Site) -> (Option<i32>, String) {
    let before = site.messages().len();
    let mut service = site.spawn();
    let status = wait_until("a start to be refused", || service.ended());
    (status.code(), site.messages()[before..].to_owned())
}

fn checkpoints(site: &Site) -> Vec<PathBuf> {
    let generation = site.state_dir.join("generation-1");
    let mut found: Vec<_> = fs::read_dir(generation).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn cut(file: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(len).unwrap();
}

#[test]
fn damaged_checkpoints_cost_a_replay_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(binary(), dir.path());
    let client = Client(site.listen.clone());
    let flip = |file: &Path, each: usize, from: usize| {
        let mut bytes = fs::read(file).unwrap();
        (from..bytes.len()).step_by(each).for_each(|at| bytes[at] ^= 0x20);
        fs::write(file, bytes).unwrap();
    };
    let kinds: [(&str, Damage<'_>); 7] = [
        ("nothing", &|_| {}),
        ("cut to its meta pages", &|file| cut(file, 8_192)),
        ("cut in half", &|file| cut(file, fs::metadata(file).unwrap().len() / 2)),
        ("empty", &|file| cut(file, 0)),
        ("gone", &|file| fs::remove_file(file).unwrap()),
        ("flipped meta pages", &|file| flip(file, 4_096, 20)),
        ("flipped pages", &|file| flip(file, 700, 8_192 + 24)),
    ];
    let mut sent = 0;
    for (what, damage) in kinds {
        let service = site.start();
        assert_eq!(like(&client, sent..sent + 40), sent + 40, "before: {what}");
        sent += 40;
        stop(service);
        checkpoints(&site).iter().for_each(|checkpoint| damage(&checkpoint.join("data.mdb")));
        let before = site.messages().len();
        let service = site.start();
        assert_eq!(like(&client, sent..sent + 10), sent + 10, "after: {what}");
        sent += 10;
        stop(service);
        let messages = site.messages()[before..].to_owned();
        let discarded = messages.matches("a checkpoint is discarded").count();
        assert_eq!(discarded > 0, what != "nothing", "{what}: {messages}");
        if what != "nothing" {
            let is_named = |checkpoint: &PathBuf| messages.contains(&checkpoint.display().to_string());
            assert!(checkpoints(&site).iter().any(is_named) && messages.contains("reason"), "{what}: {messages}");
        }
    }
}

#[test]
fn a_log_that_is_damaged_or_gone_is_refused_and_a_backup_of_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(binary(), dir.path());
    let client = Client(site.listen.clone());
    let service = site.start();
    assert_eq!(like(&client, 0..5), 5);
    stop(service);
    let (log, backup) = (site.log_dir(), dir.path().join("backup"));
    let data = log.join("data.mdb");
    fs::create_dir(&backup).unwrap();
    fs::copy(&data, backup.join("data.mdb")).unwrap();
    let is_refused = |what: &str, expected: &str| {
        let (code, messages) = refused(&site);
        assert_eq!(code, Some(2), "{what}: {messages}");
        assert!(
            messages.contains(expected) && messages.contains("restore the log from a backup"),
            "{what}: {messages}"
        );
    };
    cut(&data, 0);
    is_refused("0 bytes", "0 bytes");
    fs::copy(backup.join("data.mdb"), &data).unwrap();
    cut(&data, 20_000);
    is_refused("cut", "it was cut short");
    fs::remove_file(&data).unwrap();
    is_refused("data.mdb is gone", "lock.mdb beside it shows that there was a log");
    fs::remove_dir_all(&log).unwrap();
    is_refused("all of it is gone, beside the state", "with its checkpoints shows that there was a log");
    let state = dir.path().join("state aside");
    fs::rename(&site.state_dir, &state).unwrap();
    is_refused("all of it is gone, beside the database", "the database with rows of log ");
    // Nothing was begun in its place.
    assert!(!data.exists());
    fs::remove_dir_all(&site.state_dir).unwrap();
    fs::rename(&state, &site.state_dir).unwrap();
    fs::copy(backup.join("data.mdb"), &data).unwrap();
    let service = site.start();
    assert_eq!(like(&client, 5..8), 8);
    stop(service);
    // An older copy than what the database has read.
    fs::copy(backup.join("data.mdb"), &data).unwrap();
    let (code, messages) = refused(&site);
    assert_eq!(code, Some(2), "{messages}");
    assert!(messages.contains("the target has read up to offset"), "{messages}");
}

#[test]
fn a_second_log_on_the_same_database_is_refused_by_both_names() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (Site::new(binary(), dir.path()), Site::new(binary(), other.path()));
    let service = first.start();
    assert_eq!(like(&Client(first.listen.clone()), 0..3), 3);
    stop(service);
    // A separate log that was already created, so that it does not count as lost.
    stop(second.start());
    for suffix in ["", "-wal", "-shm"] {
        let name = |site: &Site| format!("{}{suffix}", site.database_file().display());
        let _ = fs::remove_file(name(&second));
        if Path::new(&name(&first)).exists() {
            fs::copy(name(&first), name(&second)).unwrap();
        }
    }
    let (code, messages) = refused(&second);
    assert_eq!(code, Some(2), "{messages}");
    let names = messages.split("belongs to log ").nth(1).and_then(|rest| rest.split_once(", and this is log "));
    let (theirs, ours) = names.unwrap_or_else(|| panic!("{messages}"));
    assert!(theirs.len() == 16 && theirs != &ours[..16] && messages.contains("--database"), "{messages}");
}
