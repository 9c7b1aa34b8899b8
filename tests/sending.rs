//! `tally send` and `tally demo` against a mock ingest API that covers each failure mode.

#[path = "sending/mock_ingest.rs"]
mod mock_ingest;

use mock_ingest::{MockIngest, Reply};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tally_testkit::wait_for;

struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Outcome {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", self.stdout, self.stderr))
    }
}

fn tally(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tally"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A directory with a file of these lines.
fn file(lines: &[String]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.ndjson");
    fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    (dir, path)
}

fn send(to: &str, file: &Path, flags: &[&str]) -> Outcome {
    tally(&["send", file.to_str().unwrap(), "--to", to]).args(flags).output().unwrap().into()
}

fn event(number: usize) -> String {
    let actor = number % 7;
    json!({"event_id": format!("e{number}"), "type": "view", "actor_id": format!("u{actor}"), "subject_id": "a:1"})
        .to_string()
}

fn events(count: usize) -> Vec<String> {
    (1..=count).map(event).collect()
}

#[test]
fn every_line_arrives_once_and_an_actors_in_order() {
    let mock = MockIngest::start(|_, _| Reply::Taken);
    let mut lines = events(3_000);
    lines.insert(10, String::new());
    lines.insert(20, " \t\r".to_owned());
    let (_dir, path) = file(&lines);
    let outcome = send(&mock.url(), &path, &["--batch", "100", "--api-key", "secret", "--json"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!((&outcome.json()["accepted"], &outcome.json()["rejected"]), (&json!(3_000), &json!(0)));
    let mut last: HashMap<String, usize> = HashMap::new();
    for request in mock.received() {
        assert!(request.head.starts_with("post /v1/events http/1.1\r\n"), "{}", request.head);
        assert!(request.head.contains("\r\ncontent-type: application/x-ndjson\r\n"), "{}", request.head);
        assert!(request.head.contains("\r\nauthorization: bearer secret\r\n"), "{}", request.head);
        assert!((1..=100).contains(&request.lines().len()));
        for line in request.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let number: usize = event["event_id"].as_str().unwrap()[1..].parse().unwrap();
            let before = last.insert(event["actor_id"].as_str().unwrap().to_owned(), number);
            assert!(before.is_none_or(|before| before < number), "{line} came after e{before:?}");
        }
    }
    let mut arrived = mock.lines();
    arrived.sort_unstable();
    let mut sent = events(3_000);
    sent.sort_unstable();
    assert!(arrived == sent, "{} lines arrived", arrived.len());
}

#[test]
fn what_fails_is_sent_again_until_it_does_not() {
    let mock = MockIngest::start(|number, _| match number {
        0 => Reply::status(429),
        1 => Reply::status(503),
        2 => Reply::HangUp,
        3 => Reply::status(507),
        4 => Reply::status(500),
        5 => Reply::status(408),
        _ => Reply::Taken,
    });
    let (_dir, path) = file(&events(20));
    let outcome = send(&mock.url(), &path, &["--lanes", "1", "--batch", "10", "--json"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!((&outcome.json()["accepted"], &outcome.json()["requests_sent_again"]), (&json!(20), &json!(6)));
    let received = mock.received();
    assert_eq!(received.len(), 8);
    assert!(received[..7].iter().all(|request| request.body == received[0].body), "always the same batch");
    assert!(received.iter().all(|request| request.alone), "one request in flight");
    let waited: Duration = received[6].at - received[0].at;
    assert!(waited >= Duration::from_millis(50 + 100 + 200 + 400 + 800 + 1_600), "{waited:?}: pauses grow");
}

#[test]
fn the_ingest_api_sets_how_long_to_wait() {
    let mock = MockIngest::start(|number, _| match number {
        0 => Reply::with(429, "retry-after: 1\r\n"),
        _ => Reply::Taken,
    });
    let (_dir, path) = file(&events(1));
    assert_eq!(send(&mock.url(), &path, &[]).code, Some(0));
    let received = mock.received();
    assert!(received[1].at - received[0].at >= Duration::from_secs(1));
}

#[test]
fn it_gives_up_when_nothing_is_acknowledged_and_says_how_to_go_on() {
    let (_dir, path) = file(&events(30));
    // A port that was just closed: connections are refused.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = send(&format!("http://{address}"), &path, &["--give-up", "300ms", "--json"]);
    assert_eq!(outcome.code, Some(1));
    let begin = format!("http://{address}/v1/events: nothing was acknowledged for 300ms; ");
    assert!(outcome.stderr.starts_with(&begin), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("Connection refused"), "{}", outcome.stderr);
    let end = "\n0 lines were acknowledged. Send the whole file again: what the log has counts once\n";
    assert!(outcome.stderr.ends_with(end), "{}", outcome.stderr);
    assert_eq!(outcome.json()["accepted"], 0);

    let mock = MockIngest::start(
        |number, _| if number == 0 { Reply::Taken } else { Reply::with(507, "retry-after: 3600\r\n") },
    );
    let begun = Instant::now();
    let outcome = send(&mock.url(), &path, &["--lanes", "1", "--batch", "20", "--give-up", "500ms"]);
    assert!(begun.elapsed() < Duration::from_secs(600), "it waits no longer than it would go on");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("nothing was acknowledged for 500ms; 507: Title: detail\n"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("\n20 lines were acknowledged. "), "{}", outcome.stderr);
}

#[test]
fn answers_that_cannot_be_mended_end_it_at_once() {
    for (reply, expected) in [
        (|| Reply::status(401), "401: Title: detail"),
        (|| Reply::status(404), "404: Title: detail"),
        (|| Reply::with(301, "location: http://example.org\r\n"), "301: Title: detail"),
        (|| Reply::Answer { status: 200, headers: "", body: "<html>".to_owned() }, "200 OK"),
        (
            || Reply::Answer { status: 202, headers: "", body: "hello".to_owned() },
            "the answer is not one of an ingest API: ",
        ),
        (
            || Reply::Answer { status: 202, headers: "", body: r#"{"accepted":1,"rejected":[]}"#.to_owned() },
            "answered for 1 events where 5 were sent",
        ),
        (|| Reply::Answer { status: 422, headers: "", body: r#"{"title":"t","detail":"d"}"#.to_owned() }, "422: t: d"),
    ] as [(fn() -> Reply, &str); 7]
    {
        let mock = MockIngest::start(move |_, _| reply());
        let (_dir, path) = file(&events(5));
        let outcome = send(&mock.url(), &path, &["--lanes", "1"]);
        assert_eq!(outcome.code, Some(1), "{expected}");
        let begin = format!("{}/v1/events: {expected}", mock.url());
        assert!(outcome.stderr.starts_with(&begin), "{}\nnot: {expected}", outcome.stderr);
        assert_eq!(mock.received().len(), 1, "{expected}");
    }
}

#[test]
fn rejected_lines_are_told_by_their_numbers() {
    let rejecting = |_: usize, request: &mock_ingest::Received| {
        let bad = |(_, line): &(usize, &&str)| line.contains("bad");
        let lines = request.lines();
        let rejected: Vec<_> =
            lines.iter().enumerate().filter(bad).map(|(index, _)| json!({"index": index, "error": "is bad"})).collect();
        let (accepted, all) = (lines.len() - rejected.len(), rejected.len() == lines.len());
        match all {
            true => Reply::Answer {
                status: 422,
                headers: "",
                body: json!({"title": "t", "detail": "d", "rejected": rejected}).to_string(),
            },
            false => Reply::Answer {
                status: 202,
                headers: "",
                body: json!({"accepted": accepted, "rejected": rejected, "receipt": "r"}).to_string(),
            },
        }
    };
    let mock = MockIngest::start(rejecting);
    let (_dir, path) = file(&[event(1), String::new(), "bad".to_owned(), event(2), "also bad".to_owned()]);
    let outcome = send(&mock.url(), &path, &["--json"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.stderr, "line 3: is bad\nline 5: is bad\n");
    assert_eq!((&outcome.json()["accepted"], &outcome.json()["rejected"]), (&json!(2), &json!(2)));
    let outcome = send(&mock.url(), &path, &["--strict"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), "line 3: is bad\nline 5: is bad\n"));
    assert!(outcome.stdout.starts_with("2 accepted, 2 rejected in "), "{}", outcome.stdout);

    let (_dir, path) = file(&vec!["bad".to_owned(); 25]);
    let outcome = send(&mock.url(), &path, &[]);
    assert_eq!(outcome.stderr.lines().count(), 12, "{}", outcome.stderr);
    let end = "line 10: is bad\nand 15 more were rejected\nthe ingest API has rejected every line\n";
    assert!(outcome.stderr.ends_with(end), "{}", outcome.stderr);
    // A script must not take that for a success. A file without events is one.
    assert_eq!(outcome.code, Some(1));
    let outcome = send(&mock.url(), &file(&[]).1, &["--json"]);
    assert_eq!((outcome.code, &outcome.json()["accepted"]), (Some(0), &json!(0)), "{}", outcome.stderr);
}

#[test]
fn a_batch_that_is_too_large_is_halved_and_a_line_that_is_too_long_is_left_out() {
    let mock =
        MockIngest::start(|_, request| if request.lines().len() > 3 { Reply::status(413) } else { Reply::Taken });
    let (_dir, path) = file(&events(20));
    let outcome = send(&mock.url(), &path, &["--lanes", "1", "--json"]);
    assert_eq!((outcome.code, &outcome.json()["accepted"]), (Some(0), &json!(20)), "{}", outcome.stderr);
    let taken = mock.received().into_iter().filter(|request| request.lines().len() <= 3);
    let arrived: Vec<_> =
        taken.flat_map(|request| request.body.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert_eq!(arrived, events(20), "in order");

    let mock = MockIngest::start(|_, _| Reply::Taken);
    let long = event(2).replace("a:1", &"x".repeat(1 << 20));
    let (_dir, path) = file(&[event(1), long, event(3)]);
    let outcome = send(&mock.url(), &path, &["--json"]);
    assert_eq!(outcome.stderr, "line 2: longer than 1 MiB, and no ingest API takes that\n");
    assert_eq!((&outcome.json()["accepted"], &outcome.json()["rejected"]), (&json!(2), &json!(1)));
    // Together too large for a body, each for itself not.
    let wide = |number| event(number).replace("a:1", &"x".repeat(400 << 10));
    let (_dir, path) = file(&[wide(7), wide(14), wide(21), wide(28)]);
    let outcome = send(&mock.url(), &path, &["--json"]);
    assert_eq!((outcome.code, &outcome.json()["accepted"]), (Some(0), &json!(4)), "{}", outcome.stderr);
    assert!(mock.received().iter().all(|request| request.body.len() <= 1 << 20));
}

#[test]
fn acknowledged_lines_are_written_down() {
    let mock = MockIngest::start(|_, _| Reply::Taken);
    let (dir, path) = file(&events(50));
    let acks = dir.path().join("acks");
    let outcome = send(&mock.url(), &path, &["--batch", "10", "--ack-file", acks.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let text = fs::read_to_string(&acks).unwrap();
    let mut numbers: Vec<usize> = text.split_ascii_whitespace().map(|number| number.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
    assert_eq!(text.lines().count(), mock.received().len(), "a line a request");
}

#[test]
fn a_rate_is_kept() {
    let mock = MockIngest::start(|_, _| Reply::Taken);
    let (_dir, path) = file(&events(300));
    let outcome = send(&mock.url(), &path, &["--rate", "500", "--json"]);
    assert!(outcome.json()["seconds"].as_f64().unwrap() > 0.55, "{}", outcome.stdout);

    // Events are not kept back until batches are full, or the file is over: that would take a minute.
    let mock = MockIngest::start(|_, _| Reply::Taken);
    let to = mock.url();
    let running = Running(tally(&["send", path.to_str().unwrap(), "--to", &to, "--rate", "5"]).spawn().unwrap());
    wait_for("some requests", || mock.received().len() > 3);
    assert!(mock.lines().len() < 300, "the file is not over");
    running.interrupt();
    assert!(running.finish().stderr.starts_with("interrupted\n"));
}

/// A child that is killed when a test ends early.
struct Running(Child);

impl Running {
    fn interrupt(&self) {
        assert!(Command::new("kill").arg("-INT").arg(self.0.id().to_string()).status().unwrap().success());
    }

    fn finish(mut self) -> Outcome {
        let mut output = Output { status: self.0.wait().unwrap(), stdout: Vec::new(), stderr: Vec::new() };
        std::io::Read::read_to_end(self.0.stdout.as_mut().unwrap(), &mut output.stdout).unwrap();
        std::io::Read::read_to_end(self.0.stderr.as_mut().unwrap(), &mut output.stderr).unwrap();
        output.into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn standard_input_is_sent_as_it_comes() {
    let mock = MockIngest::start(|_, _| Reply::Taken);
    let mut running =
        Running(tally(&["send", "-", "--to", &mock.url(), "--json"]).stdin(Stdio::piped()).spawn().unwrap());
    let mut stdin = running.0.stdin.take().unwrap();
    for number in 1..=3 {
        writeln!(stdin, "{}", event(number)).unwrap();
        wait_for("a line to arrive before the next is written", || mock.lines().len() == number);
    }
    write!(stdin, "{}", event(4)).unwrap();
    drop(stdin);
    let outcome = running.finish();
    assert_eq!((outcome.code, &outcome.json()["accepted"]), (Some(0), &json!(4)), "{}", outcome.stderr);
}

#[test]
fn an_interrupted_send_says_what_was_acknowledged() {
    let mock = MockIngest::start(|number, _| if number == 0 { Reply::Taken } else { Reply::status(503) });
    let (_dir, path) = file(&events(100));
    let to = mock.url();
    let args = ["send", path.to_str().unwrap(), "--to", &to, "--lanes", "1", "--batch", "10"];
    let running = Running(tally(&args).spawn().unwrap());
    wait_for("the second batch to fail", || mock.received().len() > 2);
    running.interrupt();
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.starts_with("interrupted\n10 lines were acknowledged. Send"), "{}", outcome.stderr);
    assert!(outcome.stdout.starts_with("10 accepted, 0 rejected in "), "{}", outcome.stdout);
}

#[test]
fn a_demo_sends_what_it_is_told_and_ends_well() {
    let mock = MockIngest::start(|_, _| Reply::Taken);
    let demo =
        |flags: &[&str]| -> Outcome { tally(&["demo", "--to", &mock.url()]).args(flags).output().unwrap().into() };
    let outcome = demo(&["--rate", "2000", "--events", "500"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.starts_with("500 accepted, 0 rejected in "), "{}", outcome.stdout);
    assert_eq!(mock.lines().len(), 500);
    assert_eq!(demo(&["--rate", "100", "--seconds", "1"]).code, Some(0));
    let sent = mock.lines().len() - 500;
    assert!(sent <= 110, "{sent}");
    assert!(mock.lines().iter().filter(|line| line.contains(r#""actor_id":"bot"#)).count() > 5);

    let endless = Running(tally(&["demo", "--to", &mock.url(), "--rate", "50"]).spawn().unwrap());
    let before = mock.lines().len();
    wait_for("traffic", || mock.lines().len() > before + 5);
    endless.interrupt();
    let outcome = endless.finish();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.contains(" accepted, 0 rejected in "), "{}", outcome.stdout);
}

#[test]
fn a_demo_outlives_an_ingest_api_that_is_unavailable_for_a_while() {
    let mock = MockIngest::start(|number, _| if (2..5).contains(&number) { Reply::HangUp } else { Reply::Taken });
    let outcome: Outcome =
        tally(&["demo", "--to", &mock.url(), "--rate", "1000", "--events", "300"]).output().unwrap().into();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.starts_with("300 accepted"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains(" requests sent again"), "{}", outcome.stdout);
}

#[test]
fn a_demo_writes_the_same_file_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, flags: &[&str]| {
        let path = dir.path().join(name);
        let end = ["--end", "2026-11-21T08:00:00Z"];
        let mut command = tally(&["demo", "--write", path.to_str().unwrap(), "--events", "1000"]);
        assert!(command.args(end).args(flags).status().unwrap().success());
        fs::read_to_string(path).unwrap()
    };
    let first = write("a", &[]);
    assert_eq!(first.lines().count(), 1_000);
    assert_eq!(first, write("b", &["--shape", "full"]));
    assert_ne!(first, write("c", &["--seed", "2"]));
    assert_ne!(first, write("d", &["--shape", "demo"]));
}
