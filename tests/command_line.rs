//! The command line as scripts see it: exit codes and texts. 0 well, 1 the answer is no, 2 wrong usage.

#[path = "command_line/access.rs"]
mod access;
#[path = "command_line/beginning.rs"]
mod beginning;
#[path = "command_line/effect.rs"]
mod effect;
#[path = "command_line/log.rs"]
mod log;
#[path = "command_line/options.rs"]
mod options;
#[path = "command_line/plan.rs"]
mod plan;
#[path = "command_line/refused.rs"]
mod refused;
#[path = "command_line/sinks.rs"]
mod sinks;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tally_testkit::{SHIPPED_TOPOLOGY, Scratch, Site};

/// Runs `tally` in a directory, with nothing of the caller's environment.
fn tally(dir: &Path, line: &str) -> Output {
    tally_with(dir, line, &[])
}

fn tally_with(dir: &Path, line: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tally"));
    command.args(line.split_ascii_whitespace()).current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TALLY_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied()).output().unwrap()
}

/// A directory with a good topology and some files that are nothing of the kind.
fn stage() -> Scratch {
    let dir = Scratch::new();
    let good = SHIPPED_TOPOLOGY;
    let put = |name: &str, text: &[u8]| fs::write(dir.path().join(name), text).unwrap();
    put("topology.yaml", good.as_bytes());
    put("misspelt.yaml", good.replace("type: dedupe", "type: dedup").as_bytes());
    put("empty.yaml", b"");
    put("list.yaml", b"- a\n- b\n");
    put("broken.yaml", b"application: [tally\n");
    put("text", b"no database, no directory");
    put("events.ndjson", b"{\"event_id\":\"e\",\"type\":\"view\",\"actor_id\":\"u\",\"subject_id\":\"a:1\"}\n");
    put("misspelt.properties", b"# TLS\nsecurity.protocol=SASL_SSL\nsasl.pasword=secret\n");
    put("half.properties", b"security.protocol=SASL_SSL\nsasl.mechanism=NONE-SUCH\nsasl.password=secret\n");
    fs::create_dir(dir.path().join("folder")).unwrap();
    dir
}

/// Command line, exit code, and what the first line of its words begins with (stdout for 0, stderr otherwise).
type Case = (&'static str, i32, &'static str);

const USAGE: &[Case] = &[
    ("", 2, "Stream processor for user-action events"),
    ("frobnicate", 2, "error: unrecognized subcommand 'frobnicate'"),
    ("--version", 0, "tally "),
    ("--help", 0, "Stream processor for user-action events"),
    ("run --bogus", 2, "error: unexpected argument '--bogus' found"),
    ("run --listen", 2, "error: a value is required for '--listen <ADDR>'"),
    ("run --threads 0", 2, "error: invalid value '0' for '--threads <N>': 0 is not in 1..=256"),
    ("run --threads many", 2, "error: invalid value 'many' for '--threads <N>'"),
    ("check topology.yaml", 2, "error: unexpected argument 'topology.yaml' found"),
    ("describe --format svg", 2, "error: invalid value 'svg' for '--format <FORMAT>'"),
    ("send", 2, "error: the following required arguments were not provided"),
    ("send events.ndjson --lanes 0", 2, "error: invalid value '0' for '--lanes <N>': 0 is not in 1..=256"),
    ("send events.ndjson --batch 1001", 2, "error: invalid value '1001' for '--batch <N>': 1001 is not in 1..=1000"),
    ("send events.ndjson --rate 0", 2, "error: invalid value '0' for '--rate <N>'"),
    ("send events.ndjson --give-up soon", 2, "error: invalid value 'soon' for '--give-up <TIME>'"),
    ("demo --rate 0", 2, "error: invalid value '0' for '--rate <N>'"),
    ("demo --seconds soon", 2, "error: invalid value 'soon' for '--seconds <N|forever>': must be a whole number"),
    ("demo --write x.ndjson", 2, "error: the following required arguments were not provided:"),
    (
        "demo --write x.ndjson --events 5 --rate 7",
        2,
        "error: the argument '--write <FILE>' cannot be used with '--rate",
    ),
    ("demo --shape huge", 2, "error: invalid value 'huge' for '--shape <SHAPE>'"),
    ("demo --end 2026-11-21T08:00:00Z", 2, "error: the following required arguments were not provided:"),
];

const TOPOLOGIES: &[Case] = &[
    ("check", 0, "topology.yaml: well formed: 14 processors in 3 subtopologies, 7 topics, 2 sinks"),
    (
        "check --topology gone.yaml",
        2,
        "gone.yaml: No such file or directory (os error 2): name the pipeline's file with",
    ),
    ("check --topology misspelt.yaml", 1, "misspelt.yaml:18:21: unknown node type `dedup`"),
    ("check --topology empty.yaml", 1, "empty.yaml:1:1: the file is empty"),
    ("check --topology list.yaml", 1, "list.yaml:1:1: "),
    ("check --topology broken.yaml", 1, "broken.yaml:"),
    ("describe --topology gone.yaml", 2, "gone.yaml: No such file or directory (os error 2): name the pipeline's file"),
    ("describe --topology misspelt.yaml", 2, "misspelt.yaml:18:21: unknown node type `dedup`"),
    ("describe", 0, "application tally, commits every 50ms, late after 1d"),
    ("describe --format mermaid", 0, "flowchart LR"),
    ("schema topology", 0, "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\""),
    ("schema events", 0, "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\""),
    ("schema sinks", 2, "error: invalid value 'sinks' for '<OF>'"),
    ("run --topology gone.yaml --listen 127.0.0.1:0", 2, "gone.yaml: No such file or directory (os error 2): name the"),
    ("run --topology misspelt.yaml --listen 127.0.0.1:0", 2, "misspelt.yaml:18:21: unknown node type `dedup`"),
];

const ROLES: &[Case] = &[
    (
        "ingest --listen 127.0.0.1:0",
        2,
        "--log embedded:./data/log: an embedded log belongs to one process: use `tally run`",
    ),
    ("process --listen 127.0.0.1:0", 2, "--log embedded:./data/log: an embedded log belongs to one process"),
    ("sink --listen 127.0.0.1:0", 2, "--log embedded:./data/log: an embedded log belongs to one process"),
    ("api --listen 127.0.0.1:0 --log embedded:x", 2, "--log embedded:x: an embedded log belongs to one process"),
    ("ingest --state x", 2, "error: unexpected argument '--state' found"),
    ("ingest --database x", 2, "error: unexpected argument '--database' found"),
    ("ingest --threads 2", 2, "error: unexpected argument '--threads' found"),
    ("process --database x", 2, "error: unexpected argument '--database' found"),
    ("process --trusted-proxy 10.0.0.0/8", 2, "error: unexpected argument '--trusted-proxy' found"),
    ("sink --threads 2", 2, "error: unexpected argument '--threads' found"),
    ("sink --database-read x", 2, "error: unexpected argument '--database-read' found"),
    ("api --state x", 2, "error: unexpected argument '--state' found"),
    ("api --accept-added", 2, "error: unexpected argument '--accept-added' found"),
    ("api --demo", 2, "error: unexpected argument '--demo' found"),
    (
        "api --listen 127.0.0.1:0 --log kafka://h --database ftp:x",
        2,
        "--database ftp:x: not known; use `sqlite:FILE` or",
    ),
    ("sink --listen 127.0.0.1:0 --log kafka://h --cache ftp:x", 2, "--cache ftp:x: not known"),
    ("process --listen 127.0.0.1:0 --log kafka://h --state text", 2, "state directory text: "),
    ("ingest --listen 127.0.0.1:0 --log kafka://h --log-properties gone", 2, "gone: No such file or directory"),
    (
        "ingest --listen 127.0.0.1:0 --log kafka://h --log-properties misspelt.properties",
        2,
        "misspelt.properties:3: there is",
    ),
    (
        "ingest --listen 127.0.0.1:0 --log kafka://h --log-properties half.properties",
        2,
        "log kafka://h: Kafka client: ",
    ),
];

const ACCESS: &[Case] = &[
    (
        "run --listen 0.0.0.0:0",
        2,
        "--listen 0.0.0.0:0: other machines would reach this, and nothing says who may: name a file of keys with --keys",
    ),
    ("run --listen [::]:0", 2, "--listen [::]:0: other machines would reach this"),
    ("process --listen 0.0.0.0:0 --log kafka://h", 2, "--listen 0.0.0.0:0: other machines would reach this"),
    ("run --listen 127.0.0.1:0 --keys gone.yaml", 2, "--keys gone.yaml: No such file or directory"),
    ("run --listen 127.0.0.1:0 --keys list.yaml", 2, "--keys list.yaml:1:3: is not a list of keys"),
    ("run --listen 127.0.0.1:0 --jwks gone.json", 2, "--jwks gone.json: No such file or directory"),
    ("run --listen 127.0.0.1:0 --jwks text", 2, "--jwks text:1:2: is not a JWKS"),
    ("run --listen 127.0.0.1:0 --jwt-issuer x", 2, "error: the following required arguments were not provided:"),
    ("run --listen 127.0.0.1:0 --cors-origin https://a/", 2, "--cors-origin: `https://a/` is not an origin"),
    (
        "run --listen 127.0.0.1:0 --keys text --open-to-everyone",
        2,
        "--open-to-everyone: has no effect beside --keys and --jwks",
    ),
    ("ingest --listen 127.0.0.1:0 --log kafka://h --cache ftp:x", 2, "--cache ftp:x: not known"),
    ("key --name shop", 2, "error: the following required arguments were not provided:"),
    ("key --name shop --scope root", 2, "error: invalid value 'root' for '--scope <SCOPE>': must be `write`, `read`"),
    ("key --name a+b --scope read", 2, "--name a+b: must be 1 to 64 letters, digits"),
    ("key --name shop --scope read --expires soon", 2, "error: invalid value 'soon' for '--expires <TIME>'"),
    ("key --name shop --scope read --append list.yaml", 2, "--append list.yaml:"),
    ("key --name shop --scope write,read --expires 90d --events-per-minute 5", 0, "tally_"),
];

const ADDRESSES: &[Case] = &[
    ("run --listen nonsense", 2, "--listen nonsense: invalid socket address"),
    ("run --listen 127.0.0.1:65536", 2, "--listen 127.0.0.1:65536: invalid port value"),
    ("run --listen 127.0.0.1:0 --log ftp:x", 2, "--log ftp:x: not known; use `embedded:DIR` or `kafka://host:9092"),
    ("run --listen 127.0.0.1:0 --log embedded:", 2, "--log embedded:: not known; use `embedded:DIR` or `kafka://host"),
    ("run --listen 127.0.0.1:0 --log kafka://u:secret@h", 2, "--log kafka:…: user and password are client properties"),
    ("run --listen 127.0.0.1:0 --log-properties text", 2, "--log-properties text: only kafka:// has properties, and"),
    ("run --listen 127.0.0.1:0 --log embedded:text", 2, "text: File exists"),
    ("run --listen 127.0.0.1:0 --database postgres://h/d", 2, "--database postgres: not known; use"),
    ("run --listen 127.0.0.1:0 --database sqlite:folder", 2, "database `sqlite:folder`: "),
    ("run --listen 127.0.0.1:0 --database sqlite:text", 2, "database `sqlite:text`: "),
    (
        "run --listen 127.0.0.1:0 --cache memcached://h",
        2,
        "--cache memcached: not known; use `memory:`, `redis://host:6379`",
    ),
    ("run --listen 127.0.0.1:0 --cache redis://u:p@h:x", 2, "--cache redis://…: names no host and port"),
    ("run --listen 127.0.0.1:0 --cache-read redis://h", 2, "--cache-read: only a Redis has replicas"),
    ("run --listen 127.0.0.1:0 --state text", 2, "state directory text: "),
    ("run --listen 127.0.0.1:0 --peers h:8081", 2, "--peers h:8081: needs the form http://host:port"),
    ("run --listen 127.0.0.1:0 --peers http://a:1,https://b", 2, "--peers https://b: needs the form http://host:port"),
    ("run --listen 127.0.0.1:0 --peer-key x", 2, "error: the following required arguments were not provided:"),
    ("run --ingest-url http://h", 2, "error: unexpected argument '--ingest-url' found"),
    (
        "api --listen 127.0.0.1:0 --log kafka://h --ingest-url ftp:x",
        2,
        "--ingest-url ftp:x: needs the form https://host or http://host:port",
    ),
    ("send gone.ndjson", 2, "gone.ndjson: No such file or directory"),
    ("send folder", 2, "folder: is a directory"),
    ("send events.ndjson --to localhost:8080", 2, "--to localhost:8080: needs the form http://host:port"),
    (
        "send events.ndjson --to https://localhost",
        2,
        "--to https://localhost: https is not spoken here yet: send to an",
    ),
    ("send events.ndjson --ack-file folder", 2, "folder: Is a directory (os error 21): choose another --ack-file"),
    ("demo --to nowhere", 2, "--to nowhere: needs the form http://host:port"),
    ("demo --write folder --events 5", 2, "folder: Is a directory (os error 21)"),
    (
        "demo --write x.ndjson --events 5 --end yesterday",
        2,
        "--end yesterday: must be a time like 2026-11-21T08:00:00Z",
    ),
];

#[track_caller]
fn assert_case(output: &Output, (line, code, begin): Case) {
    let said = if code == 0 { &output.stdout } else { &output.stderr };
    let said = String::from_utf8_lossy(said);
    let all = format!("`tally {line}`: {:?}\n{said}", output.status.code());
    assert_eq!(output.status.code(), Some(code), "{all}");
    assert!(said.starts_with(begin), "{all}\n  does not begin with: {begin}");
    assert!(!said.contains("panicked") && !said.contains("secret"), "{all}");
    if code != 0 {
        assert!(output.stdout.is_empty(), "{all}: answers and errors are kept apart");
    }
}

fn assert_cases(cases: &[Case]) {
    let dir = stage();
    for case in cases {
        assert_case(&tally(dir.path(), case.0), *case);
    }
}

#[test]
fn wrong_usage() {
    assert_cases(USAGE);
}

#[test]
fn topologies() {
    assert_cases(TOPOLOGIES);
}

#[test]
fn roles() {
    assert_cases(ROLES);
}

/// A process started before its log is up is restarted by its supervisor: this is no configuration error.
#[test]
fn a_log_that_does_not_answer_is_told_with_its_address() {
    let dir = stage();
    let case =
        ("ingest --listen 127.0.0.1:0 --log kafka://127.0.0.1:1", 1, "log kafka://127.0.0.1:1: the log does not");
    let output = tally(dir.path(), case.0);
    assert_case(&output, case);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Kafka at 127.0.0.1:1: ") && said.contains("Connection refused"), "{said}");
}

#[test]
fn who_may() {
    assert_cases(ACCESS);
}

#[test]
fn addresses_and_files() {
    assert_cases(ADDRESSES);
}

#[test]
fn the_environment_says_what_the_flags_do_not() {
    let dir = stage();
    let case = ("check", 1, "misspelt.yaml:18:21: ");
    assert_case(&tally_with(dir.path(), case.0, &[("TALLY_TOPOLOGY", "misspelt.yaml")]), case);
    let case = ("check --topology topology.yaml", 0, "topology.yaml: well formed");
    assert_case(&tally_with(dir.path(), case.0, &[("TALLY_TOPOLOGY", "misspelt.yaml")]), case);
    for (name, value, expected) in [
        ("TALLY_LOG", "ftp:x", "--log ftp:x: not known"),
        ("TALLY_LOG_PROPERTIES", "text", "--log-properties text: only kafka:// has properties"),
        ("TALLY_DATABASE", "x", "--database x: not known"),
        ("TALLY_CACHE", "x", "--cache x: not known"),
        ("TALLY_STATE", "text", "state directory text: "),
        ("TALLY_LISTEN", "x", "--listen x: invalid socket address"),
    ] {
        let environment = [("TALLY_LISTEN", "127.0.0.1:0"), (name, value)];
        assert_case(&tally_with(dir.path(), "run", &environment), ("run", 2, expected));
    }
    let case = ("send events.ndjson", 2, "--to x: needs the form http://host:port");
    assert_case(&tally_with(dir.path(), case.0, &[("TALLY_TO", "x")]), case);
}

#[test]
fn every_subcommand_has_help() {
    let dir = stage();
    for command in
        ["run", "ingest", "process", "sink", "api", "init", "check", "describe", "schema", "send", "demo", "key"]
    {
        let output = tally(dir.path(), &format!("{command} --help"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(text.contains(&format!("Usage: tally {command}")), "{text}");
    }
}

#[test]
fn an_address_in_use_is_told() {
    let dir = stage();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = tally(dir.path(), &format!("run --listen {address}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let expected =
        format!("--listen {address}: Address already in use (os error 98): name a free address with --listen\n");
    assert_eq!(said, expected);
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let dir = Scratch::new();
    let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
    let service = site.start();
    site.listen = "127.0.0.1:0".to_owned();
    let refused = |site: &Site, expected: &str| {
        let output = site.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(output.stdout.is_empty());
    };
    let held = "another tally uses it: stop that one, or give this one its own with --state";
    refused(&site, &format!("state directory {}: {held}", site.state_dir.display()));
    site.state_dir = dir.path().join("another");
    let (log, process) = (site.log_dir(), service.id());
    refused(&site, &format!("the log in {} is in use by process {process}: stop that one, or choose", log.display()));
    let (status, _) = service.terminate();
    assert_eq!(status.code(), Some(0), "the first was not disturbed");
}
