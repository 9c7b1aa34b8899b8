//! A log and a state directory that an earlier release has left are counted on.
//!
//! `release_2026_11.tar.zst` holds what the release of 2026-11-30 wrote: 200 views and 200 likes, each of another actor, and
//! some repeats. The process was killed after its last commit. A part of the log is in blocks that are not packed. Never
//! change the file: what has been written once must stay readable. Its topology is in it.

use super::{binary, event, post, read_after};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tally_exactness::stop;
use tally_streams::log::embedded::OfflineLog;
use tally_streams::runtime::boot_id;
use tally_testkit::{Client, Site};

const FILES: &[u8] = include_bytes!("release_2026_11.tar.zst");

/// The subjects, by number: event n is about subject n % 7.
const SUBJECTS: u32 = 7;

fn unpack(dir: &Path) {
    let tar = zstd::decode_all(FILES).unwrap();
    let mut child = Command::new("tar").args(["-xf", "-", "-C"]).arg(dir).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&tar).unwrap();
    assert!(child.wait().unwrap().success());
    // The system has not crashed since, so that checkpoints are trusted.
    for task in fs::read_dir(dir.join("state/generation-1")).unwrap() {
        fs::write(task.unwrap().path().join("boot"), boot_id()).unwrap();
    }
}

#[test]
fn what_an_earlier_release_has_left_is_counted_on() {
    for with_state in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        unpack(dir.path());
        let mut site = Site::new(binary(), dir.path());
        site.topology = dir.path().join("topology.yaml");
        if !with_state {
            fs::remove_dir_all(&site.state_dir).unwrap();
        }
        let service = site.start();
        let client = Client(site.listen.clone());
        let like = |id: &str, kind: &str, n: u32| {
            let subject = format!("article:{}", n % SUBJECTS);
            event(id, kind, &format!("u{n}"), &subject)
        };
        // New ones, one of an actor that likes the subject already, and one that is taken back.
        let mut events: Vec<_> = (200..250).map(|n| like(&format!("l{n}"), "like", n)).collect();
        events.extend([like("again", "like", 0), like("back", "unlike", 100)]);
        let receipt = post(&client, &json!(events));
        for subject in 0..SUBJECTS {
            let counters = read_after(&client, &format!("article:{subject}"), &receipt);
            let of = |numbers: std::ops::Range<u32>| numbers.filter(|n| n % SUBJECTS == subject).count();
            let taken_back = usize::from(100 % SUBJECTS == subject);
            let counted = [&counters["likes"], &counters["views"], &counters["visitors"]];
            assert_eq!(counted, [of(0..250) - taken_back, of(0..200), of(0..200)], "article:{subject}, {with_state}");
        }
        stop(service);
        let log = OfflineLog::open(site.log_dir()).unwrap();
        assert_eq!(log.verify().unwrap().damage, Vec::<String>::new());
        // Its blocks become packed.
        let bytes = |log: &OfflineLog| log.stat().unwrap().iter().map(|topic| topic.live_bytes).sum::<u64>();
        let before = bytes(&log);
        log.compact().unwrap();
        let log = OfflineLog::open(site.log_dir()).unwrap();
        assert!(bytes(&log) < before / 2, "{} of {before}", bytes(&log));
        drop(log);
        let service = site.start();
        let receipt = post(&client, &json!([like("last", "like", 300)]));
        let likes = (0..250).chain([300]).filter(|n| n % SUBJECTS == 300 % SUBJECTS).count();
        assert_eq!(read_after(&client, "article:6", &receipt)["likes"], likes);
        stop(service);
    }
}
