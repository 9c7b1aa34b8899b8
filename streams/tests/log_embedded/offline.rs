//! A log that no process has open: measured, verified, compacted.

use crate::*;
use tally_streams::log::embedded::OfflineLog;

/// Two topics, of which one is compacted; most of it is old, and a part was deleted.
fn sample(dir: &Path) -> Vec<Vec<String>> {
    let (clock, time) = settable_clock();
    // Nothing is merged while it is written.
    let upkeep = UpkeepOptions { every: Duration::from_secs(3_600), ..UpkeepOptions::default() };
    let log = EmbeddedLog::open(dir, EmbeddedOptions { clock, upkeep, ..EmbeddedOptions::default() }).unwrap();
    let latest = TopicSpec { cleanup: Cleanup::Compact, ..spec("latest", 1, None) };
    log.ensure_topics(&[spec("kept", 1, None), latest]).unwrap();
    for n in 0..400 {
        time.store(n * 1_000, Ordering::SeqCst);
        append(&log, "kept", &[&format!("{n} xxxx {}", noise(n as u32, 3_000))]).unwrap();
        let value = Some(format!("{n} yyyy {}", noise(n as u32, 3_000)).into());
        let record = OwnedRecord { partition: 0, key: Some("key".into()), value, headers: bytes::Bytes::new() };
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |outcome| sender.send(outcome).unwrap());
        log.appender().unwrap().append("latest", AppendBatch { records: vec![record] }, done);
        receiver.recv_timeout(PATIENCE).unwrap().unwrap();
    }
    log.delete_records(&TopicPartition::new("kept", 0), 100).unwrap();
    contents(&log)
}

fn contents(log: &dyn Log) -> Vec<Vec<String>> {
    let read = |topic, from| match read(log, &TopicPartition::new(topic, 0), from) {
        (values, None) => values,
        (_, Some(error)) => panic!("{error}"),
    };
    vec![read("kept", 100), read("latest", 0)]
}

#[test]
fn compacting_shortens_the_file_and_keeps_what_counts() {
    let dir = tempfile::tempdir().unwrap();
    let before = sample(dir.path());
    let file_bytes = || fs::metadata(dir.path().join("data.mdb")).unwrap().len();
    let long = file_bytes();
    let log = OfflineLog::open(dir.path()).unwrap();
    let stat = log.stat().unwrap();
    assert_eq!(stat.iter().map(|topic| &*topic.topic).collect::<Vec<_>>(), ["kept", "latest"]);
    assert_eq!((stat[1].records, stat[1].times_ms), (400, Some((0, 399_000))));
    assert!(stat[1].live_bytes > 1_200_000 && stat[1].file_bytes >= stat[1].live_bytes);
    log.compact().unwrap();

    let log = OfflineLog::open(dir.path()).unwrap();
    let [kept, latest] = &log.stat().unwrap()[..] else { panic!("two topics") };
    assert!(kept.records == 300 && kept.batches < 40 && kept.file_bytes < kept.live_bytes + 200_000, "{kept:?}");
    // What is younger than three minutes stays.
    assert!((181..220).contains(&latest.records), "{latest:?}");
    let verified = log.verify().unwrap();
    assert_eq!((verified.records, verified.damage), (kept.records + latest.records, vec![]));
    let space = log.space().unwrap().unwrap();
    assert!(file_bytes() == space.file_bytes && space.file_bytes < long / 2, "{long} {space:?}");
    assert!(space.live_bytes <= space.file_bytes && space.live_bytes > space.file_bytes / 10 * 9, "{space:?}");
    drop(log);

    let log = open(dir.path());
    let after = contents(&log);
    assert_eq!(after[0], before[0]);
    assert_eq!(after[1][..], before[1][400 - after[1].len()..]);
    assert_eq!(append(&log, "latest", &["next"]), Ok(vec![(0, 400)]));
    assert_eq!(log.bounds(&TopicPartition::new("kept", 0)), Ok((100, 400)));
}

#[test]
fn damage_is_named_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let path = dir.path().join("data.mdb");
    let mut bytes = fs::read(&path).unwrap();
    for text in [b"200 xxxx", b"300 yyyy"] {
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes[at + 6] ^= 0x10;
    }
    fs::write(&path, &bytes).unwrap();
    let verified = OfflineLog::open(dir.path()).unwrap().verify().unwrap();
    let places: Vec<_> = verified.damage.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(places, ["kept/0 offset 200", "latest/0 offset 300"], "{:?}", verified.damage);
}

#[test]
fn it_is_refused_where_there_is_no_log_or_another_process_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |dir: &Path| match OfflineLog::open(dir).map(drop) {
        Err(LogError::Fatal(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(refusal(&dir.path().join("none")).contains("there is no log"));
    assert!(!dir.path().join("none").exists(), "nothing is created");
    let log = open(dir.path());
    assert!(refusal(dir.path()).contains("in use by process"));
    drop(log);
    drop(OfflineLog::open(dir.path()).unwrap());
}

/// Several partitions share a slice: what is left of it for the last one is no reason to write a small block.
#[test]
fn blocks_are_full_although_slices_are_small() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, time) = settable_clock();
    let upkeep = UpkeepOptions { every: Duration::from_secs(3_600), slice_bytes: 70_000, ..UpkeepOptions::default() };
    let options = EmbeddedOptions { clock, upkeep, ..EmbeddedOptions::default() };
    let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
    let topics = ["a", "b", "c", "d", "e"];
    topics.iter().for_each(|topic| log.ensure_topics(&[spec(topic, 1, None)]).unwrap());
    for n in 0..100 {
        time.store(n * 1_000, Ordering::SeqCst);
        topics.iter().for_each(|topic| drop(append(&log, topic, &[&"m".repeat(3_000)]).unwrap()));
    }
    drop(log);
    let batches = || {
        let upkeep = UpkeepOptions { every: Duration::from_millis(1), ..options.upkeep.clone() };
        let log = EmbeddedLog::open(dir.path(), EmbeddedOptions { upkeep, ..options.clone() }).unwrap();
        // A slice follows each request.
        (0..20).for_each(|_| log.ensure_topics(&[spec("a", 1, None)]).unwrap());
        drop(log);
        let stat = OfflineLog::open(dir.path()).unwrap().stat().unwrap();
        stat.iter().map(|topic| topic.batches).max().unwrap()
    };
    // Four blocks of 21 batches, a tail that would not fill one, and what has not settled.
    wait_for("all that has settled is merged", || batches() <= 4 + 16 + 12);
}
