//! Copies of different ages are put together: an older log, or an older or newer state directory. Counts follow the log.

use super::{binary, event, post, read_after};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use tally_exactness::stop;
use tally_testkit::{Client, Site};

struct Ages {
    site: Site,
    client: Client,
}

impl Ages {
    /// Runs the process while these actors like `article:7`; the count afterwards.
    fn like(&self, actors: std::ops::Range<u32>) -> u64 {
        let service = self.site.start();
        let events = actors.map(|n| event(&format!("e{n}"), "like", &format!("u{n}"), "article:7"));
        let receipt = post(&self.client, &json!(events.collect::<Vec<_>>()));
        let likes = read_after(&self.client, "article:7", &receipt)["likes"].as_u64();
        stop(service);
        likes.unwrap()
    }

    /// Keeps a copy of log and state.
    fn keep(&self, age: &str) {
        let kept = self.site.dir.join(age);
        fs::create_dir(&kept).unwrap();
        copy(&self.site.log_dir(), &kept.join("log"));
        copy(&self.site.state_dir, &kept.join("state"));
    }

    /// Puts copies in the place of log and state. The database, which belongs to neither, is filled again.
    fn put_back(&self, log: &str, state: &str) {
        fs::remove_dir_all(self.site.log_dir()).unwrap();
        fs::remove_dir_all(&self.site.state_dir).unwrap();
        copy(&self.site.dir.join(log).join("log"), &self.site.log_dir());
        copy(&self.site.dir.join(state).join("state"), &self.site.state_dir);
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", self.site.database_file().display()));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
}

#[test]
fn log_and_state_of_different_ages_count_what_the_log_has() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(binary(), dir.path());
    let ages = Ages { client: Client(site.listen.clone()), site };
    assert_eq!(ages.like(0..20), 20);
    ages.keep("old");
    assert_eq!(ages.like(20..50), 50);
    ages.keep("new");

    ages.put_back("old", "new");
    assert_eq!(ages.like(100..101), 21, "an old log under newer state");
    ages.put_back("new", "old");
    assert_eq!(ages.like(100..101), 51, "old state under a newer log");

    // The old log went on in another way, and is longer than the one that the state belongs to.
    ages.put_back("old", "old");
    assert_eq!(ages.like(200..240), 60);
    assert_eq!(ages.like(240..280), 100);
    ages.keep("other");
    ages.put_back("other", "new");
    assert_eq!(ages.like(100..101), 101, "state of another course of the log");
}
