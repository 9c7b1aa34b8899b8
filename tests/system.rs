//! The whole pipeline from outside: the real binary, its own directory and port each, compared with a naive model.

#[path = "system/aggregates.rs"]
mod aggregates;
#[path = "system/clocks.rs"]
mod clocks;
#[path = "system/collects.rs"]
mod collects;
#[path = "system/damage.rs"]
mod damage;
#[path = "system/earlier_release.rs"]
mod earlier_release;
#[path = "system/full_disk.rs"]
mod full_disk;
#[path = "system/mixed_ages.rs"]
mod mixed_ages;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use tally_exactness::naive::{Differences, Model, Stored, read_history};
use tally_exactness::{ExactRun, Feed, WorkloadFile, compare, released_ms, stop, verdict_kinds, wait_until_released};
use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::{AppendBatch, Log, OwnedRecord, partition_of};
use tally_testkit::{Client, Scratch, Sender, Site, wait_until};

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tally"))
}

#[track_caller]
fn assert_exact(differences: &Differences) {
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn a_workload_is_counted_to_the_last_event() {
    let dir = Scratch::new();
    let say = |line| println!("{line}");
    let run = ExactRun {
        binary: binary(),
        dir: dir.path(),
        events: 200_000,
        seed: 20,
        kills: 0,
        moments: 4,
        rate: None,
        say: &say,
    };
    let differences = run.run();
    assert_exact(&differences);
    for (what, at_least) in [
        ("counters", 20_000),
        ("windows", 20_000),
        ("reactions", 20_000),
        ("verdicts", 3_000),
        ("visitors", 8_000),
        ("boards served", 20),
        ("database", 20),
        ("topic", 8),
        ("places on boards", 2_000),
        ("totals of aggregates", 5_000),
        ("served totals of aggregates", 500),
        ("spend", 500),
        ("closed", 500),
        ("visits", 5_000),
        ("stays", 5_000),
        ("near", 500),
        ("past", 500),
        ("kinds", 20),
        ("absorbed sessions", 50),
        ("late for windows", 500),
    ] {
        assert!(differences.compared[what] >= at_least, "{what}: {differences}");
    }
    assert!(differences.compared["visitors that are estimates"] > 20, "{differences}");
}

#[test]
fn kills_lose_nothing_and_count_nothing_twice() {
    let dir = Scratch::new();
    let say = |line| println!("{line}");
    let rate = Some(8_000);
    let run =
        ExactRun { binary: binary(), dir: dir.path(), events: 40_000, seed: 5, kills: 6, moments: 3, rate, say: &say };
    let differences = run.run();
    assert_exact(&differences);
    assert_eq!(differences.compared["changelogs shortened"], 17, "{differences}");
    // Nine boards, at three moments and in the end.
    assert!(differences.compared["topic"] > 0 && differences.compared["boards served"] == 36, "{differences}");
}

#[test]
fn a_stop_under_load_is_quick_and_keeps_what_was_acknowledged() {
    let dir = Scratch::new();
    let file = WorkloadFile::new(dir.path(), 5);
    let site = Site::new(binary(), dir.path());
    let service = site.start();
    let (sender, input) = Sender::fed(binary(), &file.path, &site.listen, &["--give-up", "500ms"]);
    // It never ends by itself.
    let feed = Feed::start(file, 40_000, input);
    wait_until("a part to be acknowledged", || (sender.acknowledged().len() > 20_000).then_some(()));
    let mut stream = TcpStream::connect(&site.listen).unwrap();
    stream.write_all(b"GET /v1/live?board=hot HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let begins = &mut [0; 15];
    stream.read_exact(begins).unwrap();
    stop(service);
    // A live stream has no end of its own: it is ended, not cut.
    let mut told = Vec::new();
    stream.read_to_end(&mut told).unwrap();
    assert_eq!((&begins[..], told.ends_with(b"\r\n0\r\n\r\n")), (&b"HTTP/1.1 200 OK"[..], true));

    let sent = sender.finish();
    let file = feed.finish();
    assert_eq!(sent.status.code(), Some(1), "{}", sent.messages);
    let resume = format!("{} lines were acknowledged. Send the whole file again", thousands(sent.acknowledged.len()));
    assert!(sent.messages.contains("nothing was acknowledged for 500ms; "), "{}", sent.messages);
    assert!(sent.messages.contains(&resume), "{}", sent.messages);
    let mut model = Model::default();
    read_history(&site.log_dir(), |record| model.take(record));
    let acknowledged = sent.acknowledged.iter().filter_map(|line| file.ids.get(line));
    let lost: Vec<_> = acknowledged.filter(|id| !model.ids.contains(*id)).collect();
    assert!(lost.is_empty(), "{} acknowledged events are lost: {:?}", lost.len(), &lost[..lost.len().min(10)]);

    let service = site.start();
    Client(site.listen.clone()).wait_until_applied();
    wait_until_released(released_ms(), || Stored::clock_ms(&site.database_url()));
    stop(service);
    let mut differences = Differences::default();
    compare(&site, &mut differences);
    assert_exact(&differences);
}

fn thousands(number: usize) -> String {
    indicatif::HumanCount(number as u64).to_string()
}

fn post(client: &Client, events: &Value) -> Value {
    let answer = client.post("/v1/events", "application/json", events.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.json());
    answer.json()
}

fn event(id: &str, kind: &str, actor: &str, subject: &str) -> Value {
    json!({"event_id": id, "type": kind, "actor_id": actor, "subject_id": subject})
}

fn read_after(client: &Client, subject: &str, receipt: &Value) -> Value {
    let receipt = receipt["receipt"].as_str().unwrap();
    applied(client, &format!("/v1/subjects/{subject}/counters?wait_ms=1000&after={receipt}"))["counters"].clone()
}

/// Repeats the request until the response contains the events of its receipt.
fn applied(client: &Client, path: &str) -> Value {
    let ask = || Some(client.get(path).unwrap().json()).filter(|answer| answer["after"] != "pending");
    let answer = wait_until("what the receipt covers", ask);
    assert_eq!(answer["after"], "applied", "{answer}");
    answer
}

/// Services may write to the topic themselves; what they get wrong must not stop the rest.
#[test]
fn what_is_wrong_in_the_topic_becomes_a_dead_letter_and_the_rest_goes_on() {
    let dir = Scratch::new();
    let site = Site::new(binary(), dir.path());
    stop(site.start());
    let home = partition_of(b"u1", 8);
    let view = |id: &str, rest: &str| {
        format!(r#"{{"event_id":"{id}","type":"view","actor_id":"u1","subject_id":"article:7"{rest}}}"#)
    };
    let far_ahead = format!(r#","occurred_at":{}"#, i64::MAX / 2);
    let records = [
        (home, Some("u1"), Some(view("good", ""))),
        (home, Some("u1"), Some(view("newer", r#","a_field_of_next_year":{"a":[1]}"#))),
        (home, Some("u2"), Some(view("wrong-key", ""))),
        (home, None, Some(view("no-key", ""))),
        ((home + 1) % 8, Some("u1"), Some(view("wrong-partition", ""))),
        (home, Some("u1"), Some(view("ahead", &far_ahead))),
        (home, Some("u1"), Some(view("unknown-type", "").replace("view", "clap"))),
        (home, Some("u1"), Some(view("read-without-duration", "").replace("view", "read"))),
        (home, Some("u1"), Some("no JSON".to_owned())),
        (home, Some("u1"), Some("null".to_owned())),
        (home, Some("u1"), Some("\u{fffd}\0".to_owned())),
        (home, Some("u1"), None),
        (home, Some("u1"), Some(view("good", ""))),
        (home, Some("u1"), Some(view("last", ""))),
    ];
    append(&site, &records);

    let service = site.start();
    let client = Client(site.listen.clone());
    client.wait_until_applied();
    assert_eq!(client.counters(&["article:7".to_owned()])["article:7"]["views"], 3);
    stop(service);
    let mut differences = Differences::default();
    let model = compare(&site, &mut differences);
    assert_exact(&differences);
    assert_eq!(verdict_kinds(&model), [("dead", 6), ("duplicate", 1)].into());
    assert_eq!(model.dead_letters.len(), 10);
}

type Written<'a> = (u32, Option<&'a str>, Option<String>);

/// Writes to the log of a service that does not run.
fn append(site: &Site, records: &[Written<'_>]) {
    let log = EmbeddedLog::open(site.log_dir(), EmbeddedOptions::default()).unwrap();
    let mut batch = AppendBatch::default();
    for (partition, key, value) in records {
        let bytes = |text: &str| text.as_bytes().to_vec().into();
        let (key, value) = (key.map(bytes), value.as_deref().map(bytes));
        batch.push(OwnedRecord { partition: *partition, key, value, headers: Default::default() });
    }
    let (tell, told) = std::sync::mpsc::channel();
    log.appender().unwrap().append("user-actions", batch, Box::new(move |outcome| drop(tell.send(outcome))));
    told.recv().unwrap().unwrap();
}

/// A request with the name of a toggle reads what the topology of this directory stores under it.
#[test]
fn who_likes_and_follows_whom_goes_by_the_names_of_the_toggles() {
    let dir = Scratch::new();
    let site = Site::new(binary(), dir.path());
    let client = Client(site.listen.clone());
    let service = site.start();
    let events = json!([
        event("e1", "like", "u1", "article:7"),
        event("e2", "follow", "u1", "user:u2"),
        event("e3", "view", "u1", "article:7"),
    ]);
    let receipt = post(&client, &events)["receipt"].as_str().unwrap().to_owned();
    let ask = |path: &str| {
        let sign = if path.contains('?') { '&' } else { '?' };
        applied(&client, &format!("{path}{sign}wait_ms=1000&after={receipt}"))
    };
    assert_eq!(ask("/v1/subjects/user:u2/follows/actors")["items"][0]["actor_id"], "u1");
    assert_eq!(ask("/v1/actors/u1/likes/subjects")["items"][0]["subject_id"], "article:7");
    let items = ask("/v1/counters?subject_id=article:7&subject_id=user:u2&actor_id=u1")["items"].clone();
    assert_eq!(items[0]["viewer"], json!({"likes": true, "follows": false, "collects": false}));
    assert_eq!(items[1]["viewer"], json!({"likes": false, "follows": true, "collects": false}));
    let series = ask("/v1/subjects/article:7/counters?window=1h");
    assert_eq!(series["series"][29]["counters"]["views"], 1, "{series}");
    // A metric that is no toggle has no list.
    assert_eq!(client.get("/v1/subjects/user:u2/followers/actors").unwrap().status, 404);
    stop(service);
}

/// The second click within five seconds waits for their end, and its receipt lists it in `held` until then.
#[test]
fn a_click_that_is_held_is_told_and_counts_in_the_end() {
    let dir = Scratch::new();
    let site = Site::new(binary(), dir.path());
    let client = Client(site.listen.clone());
    let service = site.start();
    let ask = |receipt: &Value| {
        let path = format!("/v1/receipts/{}", receipt["receipt"].as_str().unwrap());
        wait_until("the receipt to be applied", || {
            Some(client.get(&path).unwrap().json()).filter(|receipt| receipt["state"] == "applied")
        })
    };
    // If the five seconds ended before the check, the test tries again.
    let mut tries = 0;
    let (subject, receipt) = wait_until("a click to be held", || {
        tries += 1;
        let (subject, on, off) = (format!("article:{tries}"), format!("on-{tries}"), format!("off-{tries}"));
        let clicks = json!([event(&on, "like", "u1", &subject), event(&off, "unlike", "u1", &subject)]);
        let receipt = post(&client, &clicks);
        let answer = ask(&receipt);
        assert_eq!(answer["not_counted"], json!([]));
        (answer["held"] == json!([off])).then_some((subject, receipt))
    });
    let told = wait_until("it to go on", || Some(ask(&receipt)).filter(|answer| answer["held"] == json!([])));
    assert_eq!(told["not_counted"], json!([]));
    let likes = || client.counters(std::slice::from_ref(&subject))[&subject]["likes"];
    wait_until("it to be counted", || (likes() == 0).then_some(()));
    stop(service);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let dir = Scratch::new();
    let site = Site::new(binary(), dir.path());
    let client = Client(site.listen.clone());
    let first = json!([
        event("e1", "like", "u1", "article:7"),
        event("e2", "view", "u1", "article:7"),
        event("e3", "share", "u1", "article:7"),
        event("e4", "follow", "u1", "user:u2"),
        event("e5", "api_call", "u1", "api:search"),
        event("e6", "like", "u2", "article:7"),
    ]);
    let second = json!([
        event("e1", "like", "u1", "article:7"),
        event("e7", "unlike", "u1", "article:7"),
        event("e8", "view", "u3", "article:7"),
        event("e9", "unfollow", "u1", "user:u2"),
    ]);
    let mut receipts = Vec::new();
    for round in 0..2 {
        let service = site.start();
        if round == 0 {
            receipts.push(post(&client, &first));
        }
        let counters = read_after(&client, "article:7", &receipts[0]);
        assert_eq!(
            counters,
            json!({"likes": 2, "views": 1, "visitors": 1, "shares": 1, "collects": 0, "reads": 0, "calls": 0, "followers": 0, "following": 0})
        );
        assert_eq!(read_after(&client, "user:u2", &receipts[0])["followers"], 1);
        assert_eq!(read_after(&client, "user:u1", &receipts[0])["following"], 1);
        assert_eq!(read_after(&client, "api:search", &receipts[0])["calls"], 1);
        stop(service);
    }

    let service = site.start();
    receipts.push(post(&client, &second));
    // The unlike may be the second click within five seconds: then it counts when they are over.
    wait_until_released(released_ms(), || Stored::clock_ms(&site.database_url()));
    let counters = read_after(&client, "article:7", &receipts[1]);
    assert_eq!((&counters["likes"], &counters["views"], &counters["visitors"]), (&json!(1), &json!(2), &json!(2)));
    assert_eq!(read_after(&client, "user:u2", &receipts[1])["followers"], 0);
    let receipt = wait_until("the receipt to be applied", || {
        let path = format!("/v1/receipts/{}", receipts[1]["receipt"].as_str().unwrap());
        Some(client.get(&path).unwrap().json()).filter(|receipt| receipt["state"] == "applied")
    });
    let not_counted = receipt["not_counted"].as_array().unwrap();
    assert_eq!(not_counted.len(), 1, "{receipt}");
    assert_eq!((&not_counted[0]["event_id"], &not_counted[0]["verdict"]), (&json!("e1"), &json!("duplicate")));
    client.wait_until_applied();
    stop(service);

    let mut differences = Differences::default();
    let model = compare(&site, &mut differences);
    assert_exact(&differences);
    assert_eq!(verdict_kinds(&model), [("duplicate", 1)].into());
}

/// See `leader_hints.rs` and `wakeups.rs` in `streams/src/log/kafka/native`. The linker drops these functions unless calls
/// are redirected to them.
#[test]
fn the_binary_replaces_the_functions_of_the_kafka_client_that_crash_or_spin() {
    let symbols =
        Command::new("nm").arg(env!("CARGO_BIN_EXE_tally")).output().expect("nm, of the tools that the build needs");
    assert!(symbols.status.success(), "{symbols:?}");
    let symbols = String::from_utf8_lossy(&symbols.stdout);
    for replaced in ["rd_kafka_metadata_update_op", "rd_kafka_msgq_allow_wakeup_at"] {
        assert!(symbols.contains(&format!(" __wrap_{replaced}")), "the calls of {replaced} are not redirected");
    }
}
