//! A full disk under the log, the database or `--state`, on a small separate file system. Nothing that was acknowledged is
//! lost, and what has stopped continues once there is room.

use super::{binary, event, post, read_after};
use serde_json::json;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tally_exactness::stop;
use tally_testkit::{Client, Site, wait_until};

const BEGIN: &str = "checkpoints cannot be written";
const END: &str = "checkpoints are written again";

/// Whether a mount of one's own is possible here.
fn mounts() -> bool {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]).stderr(Stdio::null());
    let possible = command.status().is_ok_and(|status| status.success());
    if !possible {
        eprintln!("skipped: a full disk (needs `unshare -m` and the right to mount a tmpfs)");
    }
    possible
}

struct Likes {
    client: Client,
    sent: AtomicU32,
}

impl Likes {
    /// Some more likes, which are counted.
    fn count(&self, more: u32) {
        let before = self.sent.fetch_add(more, Ordering::Relaxed);
        let like = |n| event(&format!("e{n}"), "like", &format!("u{n}"), "article:7");
        let receipt = post(&self.client, &json!((before..before + more).map(like).collect::<Vec<_>>()));
        assert_eq!(read_after(&self.client, "article:7", &receipt)["likes"], before + more);
    }

    /// Sends a like: the status of the response.
    fn send(&self) -> u16 {
        let n = self.sent.load(Ordering::Relaxed);
        let like = json!([event(&format!("e{n}"), "like", &format!("u{n}"), "article:7")]);
        let status = self.client.post("/v1/events", "application/json", like.to_string().as_bytes()).unwrap().status;
        // Whatever else the answer is, nothing was taken, and the same like is sent again.
        self.sent.fetch_add(u32::from(status == 202), Ordering::Relaxed);
        status
    }

    /// How many were taken.
    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed) as usize
    }

    /// How many actors the database has.
    fn stored(&self) -> usize {
        let (mut actors, mut cursor) = (HashSet::new(), String::new());
        loop {
            let page =
                self.client.get(&format!("/v1/subjects/article:7/likes/actors?limit=100{cursor}")).unwrap().json();
            let items = page["items"].as_array().unwrap();
            actors.extend(items.iter().map(|item| item["actor_id"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return actors.len(),
            }
        }
    }

    fn series(&self, name: &str) -> impl Iterator<Item = f64> {
        let body = String::from_utf8(self.client.get("/metrics").unwrap().body).unwrap();
        let lines: Vec<_> = body.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect();
        lines.into_iter().filter_map(|line| line.rsplit(' ').next()?.parse().ok())
    }

    fn metric(&self, name: &str) -> f64 {
        self.series(name).sum()
    }
}

/// A service whose state directory is a tmpfs, seen by it alone; and its likes.
fn site(dir: &tempfile::TempDir, mount: &str) -> (Site, Likes) {
    let mut site = Site::new(binary(), dir.path());
    fs::create_dir(&site.state_dir).unwrap();
    site.state_mount = Some(mount.to_owned());
    let client = Client(site.listen.clone());
    (site, Likes { client, sent: AtomicU32::new(0) })
}

/// A file of the service's, in its own view of the file systems.
fn seen_by(process: u32, site: &Site, name: &str) -> PathBuf {
    let path = site.mounted_at.as_ref().unwrap_or(&site.state_dir).join(name);
    PathBuf::from(format!("/proc/{process}/root{}", path.display()))
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for len in [65_536, 4_096] {
        while file.write_all(&vec![7; len]).is_ok() {}
    }
}

#[test]
fn counting_goes_on_while_the_disk_is_full_and_checkpoints_when_there_is_room() {
    if !mounts() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (site, likes) = site(&dir, "size=16m");
    let service = site.start();
    likes.count(50);
    let filler = seen_by(service.id(), &site, "filler");
    let said = |what: &str| site.messages().matches(what).count();
    wait_until("a WARN", || {
        // What checkpoints have freed inside of their files lets small ones pass.
        fill(&filler);
        likes.count(200);
        (said(BEGIN) > 0).then_some(())
    });
    wait_until("more failures", || {
        likes.count(50);
        (likes.metric("tally_checkpoint_failures_total") > 3.0).then_some(())
    });
    // Once a thread, however often it was tried.
    let (threads, warned) = (likes.series("tally_checkpoints_failing{").count(), said(BEGIN));
    assert!(warned <= threads && likes.metric("tally_checkpoints_failing") > 0.0, "{warned} of {threads}");
    assert_eq!((likes.metric("tally_rebuilds_total"), likes.metric("tally_aborts_total")), (0.0, 0.0));
    fs::remove_file(&filler).unwrap();
    wait_until("checkpoints to be written again", || {
        likes.count(50);
        (said(END) == said(BEGIN) && likes.metric("tally_checkpoints_failing") == 0.0).then_some(())
    });
    stop(service);
}

#[test]
fn a_full_disk_under_the_log_refuses_events_and_loses_none_that_it_took() {
    if !mounts() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // The log keeps 64 MiB in reserve.
    let (mut site, likes) = site(&dir, "size=72m");
    fs::create_dir(site.log_dir()).unwrap();
    site.mounted_at = Some(site.log_dir());
    let service = site.start();
    likes.count(100);
    for _ in 0..2 {
        let filler = seen_by(service.id(), &site, "filler");
        fill(&filler);
        let refused = wait_until("an event to be refused", || Some(likes.send()).filter(|status| *status != 202));
        assert!([503, 507].contains(&refused), "{refused}");
        assert_eq!(likes.client.get("/v1/subjects/article:7/counters").unwrap().status, 200, "reads go on");
        fs::remove_file(&filler).unwrap();
        wait_until("an event to be taken", || Some(likes.send()).filter(|status| *status == 202));
        likes.count(100);
    }
    stop(service);
}

#[test]
fn a_full_disk_under_the_database_stops_its_sink_until_there_is_room() {
    if !mounts() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut site, likes) = site(&dir, "size=12m");
    let small = dir.path().join("small");
    fs::create_dir(&small).unwrap();
    std::os::unix::fs::symlink(small.join("tally.db"), site.database_file()).unwrap();
    site.mounted_at = Some(small);
    let service = site.start();
    likes.count(100);
    let is_ready = || likes.client.get("/readyz").unwrap().status == 200;
    let filler = seen_by(service.id(), &site, "filler");
    wait_until("the sink to stop", || {
        fill(&filler);
        // Counters are served from memory.
        likes.count(200);
        (!is_ready()).then_some(())
    });
    fs::remove_file(&filler).unwrap();
    likes.count(100);
    wait_until("the sink to write again", || (is_ready() && likes.stored() == likes.sent()).then_some(()));
    stop(service);
}

#[test]
fn a_start_on_a_full_disk_counts_and_writes_checkpoints_later() {
    if !mounts() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (site, likes) = site(&dir, "size=12m");
    let mut full = site;
    full.state_filled = true;
    let service = full.start();
    likes.count(100);
    assert!(full.messages().contains(BEGIN) && full.messages().contains("the id of this process cannot be kept"));
    assert!(likes.metric("tally_checkpoints_failing") > 0.0);
    fs::remove_file(seen_by(service.id(), &full, "filler")).unwrap();
    wait_until("checkpoints to be written", || {
        likes.count(50);
        (likes.metric("tally_checkpoints_failing") == 0.0 && full.messages().contains(END)).then_some(())
    });
    stop(service);
}

#[test]
fn a_start_on_a_disk_that_can_only_be_read_counts() {
    if !mounts() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (site, likes) = site(&dir, "ro,size=1m");
    let service = site.start();
    likes.count(100);
    assert!(site.messages().contains(BEGIN), "{}", site.messages());
    stop(service);
}
