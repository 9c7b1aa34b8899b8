//! A real process whose wall clock is set while it runs, by libfaketime. Its monotonic clock continues.

use super::{binary, post, read_after};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tally_testkit::{Client, Site, skip, wait_until};

/// Where the package `faketime` has put its library; None where it is not installed and may be missing.
fn library() -> Option<PathBuf> {
    let of_machine = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = of_machine.map(|dir| dir.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file());
    if found.is_none() {
        skip("there is no libfaketime (package `faketime`; deploy/services.sh install)");
    }
    found
}

/// A service with a clock that can be set.
struct Clock {
    site: Site,
    file: PathBuf,
}

impl Clock {
    fn new(dir: &Path, library: &Path) -> Self {
        let (mut site, file) = (Site::new(binary(), dir), dir.join("clock"));
        site.flags = ["--clock-jump", "5m"].map(str::to_owned).into();
        let environment = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        site.environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
        let clock = Self { site, file };
        clock.set("+0");
        clock
    }

    /// By how much it is wrong from now on.
    fn set(&self, by: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, by).unwrap();
        fs::rename(new, &self.file).unwrap();
    }
}

fn view(actor: &str) -> Value {
    json!([{"event_id": format!("view-{actor}"), "type": "view", "actor_id": actor, "subject_id": "article:1"}])
}

/// Views the article; how many views it has then, and the receipt.
fn viewed(client: &Client, actor: &str) -> (Value, String) {
    let taken = post(client, &view(actor));
    let counters = read_after(client, "article:1", &taken);
    (counters["views"].clone(), taken["receipt"].as_str().unwrap().to_owned())
}

/// The response to a rejected view.
fn refused(client: &Client, actor: &str) -> String {
    let answer = client.post("/v1/events", "application/json", view(actor).to_string().as_bytes()).unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("10")), "{answer:?}");
    answer.json()["detail"].as_str().unwrap().to_owned()
}

fn metric(client: &Client, name: &str) -> Option<f64> {
    let text = String::from_utf8(client.get("/metrics").ok()?.body).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.to_owned();
    line.parse().ok()
}

#[test]
fn a_wall_clock_that_is_set_stops_nothing_and_spoils_nothing() {
    let Some(library) = library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut clock = Clock::new(dir.path(), &library);
    let service = clock.site.start();
    let client = Client(clock.site.listen.clone());
    let status = |path: &str| client.get(path).map(|answer| answer.status).ok();
    let until_ready = || wait_until("the service to be ready", || (status("/readyz") == Some(200)).then_some(()));
    until_ready();
    assert_eq!(viewed(&client, "u1").0, 1);

    // Set back by four minutes, twice as long as any wait of this test: durations are not affected.
    clock.set("-240");
    assert_eq!(viewed(&client, "u2").0, 2);
    assert_eq!(status("/readyz"), Some(200));
    clock.set("+0");

    // A day and more ahead for a moment: refused, and never the time of the log.
    clock.set("+26h");
    let said = refused(&client, "u3");
    assert!(said.contains("the wall clock has jumped forward"), "{said}");
    assert_eq!(status("/readyz"), Some(503));
    wait_until("the metric", || (metric(&client, "tally_clock_in_doubt") == Some(1.0)).then_some(()));
    wait_until("an ERROR", || clock.site.messages().contains("the wall clock has jumped forward").then_some(()));
    clock.set("+0");
    until_ready();
    let (views, receipt) = viewed(&client, "u3");
    let told = client.get(&format!("/v1/receipts/{receipt}")).unwrap().json();
    assert_eq!((views, &told["not_counted"]), (json!(3), &json!([])), "not late: {told}");
    service.kill();

    // A process that starts with a clock ahead trusts it; afterwards the log's time is ahead.
    clock.set("+26h");
    let service = clock.site.start();
    until_ready();
    assert_eq!(viewed(&client, "u4").0, 4);
    service.kill();
    clock.set("+0");
    let service = clock.site.start();
    let said = refused(&client, "u5");
    assert!(said.contains("behind the log's last append"), "{said}");
    service.kill();
    clock.site.flags.push("--confirm-clock".to_owned());
    let service = clock.site.start();
    assert_eq!(viewed(&client, "u5").0, 5, "not late either");
    service.kill();
    // And without the flag from then on.
    clock.site.flags.pop();
    let _service = clock.site.start();
    assert_eq!(viewed(&client, "u6").0, 6);
}
