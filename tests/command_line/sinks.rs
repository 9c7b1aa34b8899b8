//! Sinks with addresses of their own: several databases, and secrets from the environment.

use super::beginning::run;
use super::{stage, tally, tally_with};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};
use std::fs;
use std::path::Path;
use tally_testkit::{Client, SHIPPED_TOPOLOGY, Scratch, Site, wait_until};

/// The rows of each table that a sink fills.
const ROWS: &[&str] = &[
    "SELECT subject_id || ' ' || metric || ' ' || value || ' ' || version FROM counters ORDER BY 1",
    "SELECT subject_id || ' ' || metric || ' ' || window_ms || ' ' || window_start || ' ' || value || ' ' || version \
     FROM counter_windows ORDER BY 1",
    "SELECT actor_id || ' ' || metric || ' ' || subject_id || ' ' || active || ' ' || version FROM reactions ORDER BY 1",
    "SELECT board || ' ' || `position` || ' ' || subject_id || ' ' || score FROM board_entries ORDER BY 1",
    "SELECT `partition` || ' ' || `offset` || ' ' || verdict || ' ' || version FROM verdicts ORDER BY 1",
];

fn rows(file: &Path) -> Vec<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
        let mut all = Vec::new();
        for sql in ROWS {
            let found = sqlx::query(*sql).fetch_all(&mut connection).await.unwrap();
            all.push(found.iter().map(|row| row.get(0)).collect());
        }
        connection.close().await.unwrap();
        all
    })
}

/// The shipped topology with other sinks.
fn topology(sinks: &str) -> String {
    let (text, _) = SHIPPED_TOPOLOGY.split_once("\nsinks:").unwrap();
    format!("{text}\nsinks:\n{sinks}")
}

#[test]
fn two_databases_are_filled_alike_and_the_api_reads_the_first() {
    let dir = Scratch::new();
    let topics = "[counters, counter-windows, reactions, rankings, verdicts, dead-letters]";
    let sinks = format!(
        "  first:  {{ type: database, from: {topics}, url: \"sqlite:first.db\" }}
  second:
    type: database
    from: {topics}
    url: sqlite:${{PLACE}}/second.db
  cache:  {{ type: cache, from: [counters, rankings] }}\n"
    );
    fs::write(dir.path().join("topology.yaml"), topology(&sinks)).unwrap();
    let place = dir.path().join("hidden-place");
    fs::create_dir(&place).unwrap();
    let (site, service) =
        run(dir.path(), |site| site.environment = vec![("PLACE".to_owned(), place.display().to_string())]);
    let client = Client(site.listen.clone());
    // Some events are sent twice: the second gets a verdict.
    for number in (0..36).chain(0..4) {
        let (kind, actor, article) = (["view", "like", "follow", "share"][number % 4], number % 7, number % 3);
        let event = format!(
            r#"{{"event_id":"e{number}","type":"{kind}","actor_id":"u{actor}","subject_id":"article:{article}"}}"#
        );
        assert_eq!(client.post("/v1/events", "application/json", event.as_bytes()).unwrap().status, 202);
    }
    client.wait_until_applied();
    let files = [dir.path().join("first.db"), place.join("second.db")];
    let (first, second) = wait_until("both databases to hold the same", || {
        let (first, second) = (rows(&files[0]), rows(&files[1]));
        (first == second && first.iter().all(|table| !table.is_empty())).then_some((first, second))
    });
    assert_eq!(first, second);
    let stored = |subject: &str, metric: &str| {
        let begin = format!("{subject} {metric} ");
        let row = first[0].iter().find_map(|row| row.strip_prefix(&begin)?.split(' ').next()?.parse::<i64>().ok());
        row.unwrap_or(0)
    };
    let subjects = ["article:0", "article:1", "article:2"].map(str::to_owned);
    for (subject, counters) in client.counters(&subjects) {
        assert!(counters["views"] > 0, "{subject} {counters:?}");
        assert_eq!(counters["views"], stored(&subject, "views"), "{subject}");
    }
    assert_eq!(service.terminate().0.code(), Some(0));
    // Nothing reads or writes the database of the flag.
    assert!(!dir.path().join("data/tally.db").exists());
    assert!(!site.messages().contains("hidden-place"), "{}", site.messages());
}

#[test]
fn secrets_of_addresses_come_from_the_environment_and_are_not_shown() {
    let dir = stage();
    let put = |name: &str, url: &str| {
        let sinks = format!("  archive: {{ type: database, from: counters, url: \"{url}\" }}\n");
        fs::write(dir.path().join(name), topology(&sinks)).unwrap();
    };
    put("server.yaml", "mysql://tally:${PASSWORD}@127.0.0.1:1/tally");
    put("file.yaml", "sqlite:${PLACE}");
    put("whole.yaml", "${ADDRESS}");
    put("scheme.yaml", "mysq://u:${PASSWORD}@h/db");
    let environment = [("PASSWORD", "hunter2"), ("PLACE", "folder"), ("ADDRESS", "hunter2")];
    for (line, code, words) in [
        ("check --topology server.yaml", 0, "server.yaml: well formed: "),
        ("describe --topology server.yaml", 0, "archive "),
        ("describe --format mermaid --topology whole.yaml", 0, "archive<br>database"),
        ("check --topology scheme.yaml", 1, "unknown scheme `mysq` of a database\n"),
        ("check --topology scheme.yaml", 1, "help: did you mean `mysql`?"),
        ("run --listen 127.0.0.1:0 --topology scheme.yaml", 2, "unknown scheme `mysq` of a database\n"),
        ("run --listen 127.0.0.1:0 --topology file.yaml", 2, "database `sqlite:${PLACE}`: it is a directory"),
        (
            "sink --listen 127.0.0.1:0 --log kafka://127.0.0.1:1 --topology file.yaml --database sqlite:x.db",
            2,
            "--database: every sink of `type: database` has a `url` of its own: leave it out",
        ),
        ("run --listen 127.0.0.1:0 --topology whole.yaml", 2, "sink `archive`: `url`: use `sqlite:FILE` or"),
    ] {
        let output = tally_with(dir.path(), line, &environment);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(words) && !said.contains("hunter2") && !said.contains("folder"), "{line}: {said}");
    }
    let output = tally(dir.path(), "run --listen 127.0.0.1:0 --topology server.yaml");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("sink `archive`: `url`: the environment variable `PASSWORD` is not set"), "{said}");
}

#[test]
fn beside_a_redis_that_does_not_respond_the_view_of_the_process_answers() {
    let dir = Scratch::new();
    let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
    // No server listens there.
    site.flags = ["--cache", "redis://127.0.0.1:1"].map(str::to_owned).into();
    let service = site.spawn();
    let client = Client(site.listen.clone());
    let events = br#"[{"event_id":"e1","type":"like","actor_id":"u1","subject_id":"article:1"},
        {"event_id":"e2","type":"api_call","actor_id":"u1","subject_id":"api:search"}]"#;
    wait_until("the ingest API", || {
        let answer = client.post("/v1/events", "application/json", events).ok()?;
        (answer.status == 202).then_some(())
    });
    let metric = |name: &str| {
        let page = String::from_utf8(client.get("/metrics").unwrap().body).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };
    wait_until("the view to answer", || {
        let counters = client.get("/v1/subjects/article:1/counters").unwrap().json();
        let answered = metric("tally_api_reads_total{store=\"memory\"}") > 0.0;
        (answered && counters["counters"]["likes"] == 1).then_some(())
    });
    wait_until("the view to be measured", || (metric("tally_api_view_subjects") > 0.0).then_some(()));
    wait_until("the view to answer with a board", || {
        let board = client.get("/v1/rankings/hot").unwrap().json();
        let answered = metric("tally_api_board_reads_total{store=\"memory\"}") > 0.0;
        (answered && board["items"][0]["subject_id"] == "article:1").then_some(())
    });
    assert_eq!(metric("tally_api_view_subjects"), 1.0, "no other subject was requested");
    assert_eq!(metric("tally_api_reads_total{store=\"redis\"}"), 0.0);
    assert_eq!(service.terminate().0.code(), Some(0));
}
