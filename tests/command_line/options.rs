//! Options without effect: each is rejected with a message, none is silently ignored.

use super::{stage, tally, tally_with};
use std::fs;
use tally_testkit::Site;

const RUN: &str = "run --listen 127.0.0.1:0";
const KAFKA: &str = "--listen 127.0.0.1:0 --log kafka://127.0.0.1:1";

/// Command line behind [`RUN`] or another one, and what the refusal begins with.
const REFUSED: &[(&str, &str, &str)] = &[
    (RUN, "--jwks-ca x.pem", "error: the following required arguments were not provided:"),
    (RUN, "--jwks-refresh 5s", "error: the following required arguments were not provided:"),
    (RUN, "--jwks jwks.json --jwks-ca x.pem", "--jwks-ca: --jwks is a file, and this is for an address: leave it out"),
    (RUN, "--jwks jwks.json --jwks-refresh 5s", "--jwks-refresh: --jwks is a file, and this is for an address"),
    (
        RUN,
        "--jwks http://id.example/keys",
        "--jwks http://id.example/keys: without TLS a third party could substitute its own keys",
    ),
    (
        RUN,
        "--jwks http://127.0.0.1:1/keys --jwks-ca x.pem",
        "--jwks http://127.0.0.1:1/keys: a file of certificates needs an https URL",
    ),
    (
        RUN,
        "--jwks https://id.example/keys --jwks-ca text",
        "--jwks https://id.example/keys: the certificates in text: ",
    ),
    (RUN, "--jwt-leeway 5s", "error: the following required arguments were not provided:"),
    (RUN, "--jwt-audience a", "error: the following required arguments were not provided:"),
    (
        RUN,
        "--jwks jwks.json --jwt-leeway 2days",
        "error: invalid value '2days' for '--jwt-leeway <TIME>': must be at most",
    ),
    (RUN, "--open-to-everyone", "--open-to-everyone: only this machine reaches --listen 127.0.0.1:0"),
    (RUN, "--trusted-proxy ::ffff:10.0.0.0/8", "--trusted-proxy: `::ffff:10.0.0.0/8` is wider than all of IPv4"),
    (RUN, "--trusted-proxy 10.0.0.0/8,nginx", "--trusted-proxy: `nginx` is not an IP address or a network"),
    (RUN, "--limit-ipv6-prefix 0", "error: invalid value '0' for '--limit-ipv6-prefix <BITS>': 0 is not in 1..=128"),
    (RUN, "--limit-ipv6-prefix 129", "error: invalid value '129' for '--limit-ipv6-prefix <BITS>'"),
    (RUN, "--limit-actor 0 --limit-ipv6-prefix 48", "--limit-ipv6-prefix: there are no limits that it could be for"),
    (RUN, "--log-properties text", "--log-properties text: only kafka:// has properties"),
    (RUN, "--cache-read redis://h", "--cache-read: only a Redis has replicas"),
    (RUN, "--demo --keys keys.yaml", "--demo: its traffic has no key: leave out --keys"),
    (RUN, "--database mysql://u:secret@h/d?tls=yes", "--database mysql://…: `?tls` is not known; known are ssl-mode"),
    (
        RUN,
        "--database mysql://u:secret@h/d?ssl-ca=a.pem",
        "--database mysql://…: `?ssl-ca` has no effect: no certificate",
    ),
    (
        RUN,
        "--database mysql://u:secret@h/d?ssl-mode=DISABLED&ssl-cert=a&ssl-key=b",
        "--database mysql://…: `?ssl-cert` has no effect with ssl-mode=DISABLED",
    ),
    (RUN, "--demo 0", "error: invalid value '0' for '--demo [<RATE>]': 0 is not in 1..=100000"),
    (RUN, "--cors-origin *,https://a.example", "--cors-origin: `*` is every origin, without credentials"),
    (RUN, "--topology bare.yaml --limit-actor 5", "--limit-actor: the topology has no toggle, so there is nothing"),
    (
        RUN,
        "--topology bare.yaml --limit-ipv6-prefix 48",
        "--limit-ipv6-prefix: there are no limits that it could be for",
    ),
    (
        RUN,
        "--topology bare.yaml --keys keys.yaml --limit-ipv6-prefix 48",
        "--limit-ipv6-prefix: there are no limits that it could be for",
    ),
    (RUN, "--topology bare.yaml --require-read-token", "--require-read-token: no processor of the topology counts"),
    (RUN, "--topology bare.yaml --cache redis://h --cache-read redis://r", "--cache-read: the topology has no sink of"),
    (RUN, "--cache redis://h --cache-mib 64", "--cache-mib: the cache is a Redis, which has `maxmemory`"),
    (RUN, "--topology bare.yaml --cache-mib 64", "--cache-mib: the topology has no sink of `type: cache`"),
    (RUN, "--cache-mib 0", "error: invalid value '0' for '--cache-mib <MIB>': 0 is not in 1..=1048576"),
    ("ingest", "--limit-actor 0 --cache redis://h", "--cache: there are no limits that it could be for"),
    ("ingest", "--topology bare.yaml --cache redis://h", "--cache: there are no limits that it could be for"),
    ("ingest", "--topology bare.yaml --limit-actor 0", "--limit-actor: the topology has no toggle"),
    (
        "ingest",
        "--log-properties plain.properties",
        "plain.properties:2: `ssl.ca.location` has no effect: set security.p",
    ),
    ("sink", "--clock-jump 1m", "error: unexpected argument '--clock-jump' found"),
    ("sink", "--clock-settle 1m", "error: unexpected argument '--clock-settle' found"),
    (
        "sink",
        "--topology cached.yaml --database sqlite:x.db",
        "--database: the topology has no sink of `type: database`",
    ),
    ("api", "--limit-actor 0 --trusted-proxy 10.0.0.1", "--trusted-proxy: there are no limits that it could be for"),
    ("ingest", "--topology bare.yaml --require-read-token", "--require-read-token: no processor"),
    (
        "sink",
        "--topology bare.yaml --cache redis://h",
        "--cache: the topology has no sink of `type: cache`: leave it out",
    ),
    (
        "api",
        "--topology bare.yaml --cache redis://h",
        "--cache: the topology has no sink of `type: cache`: leave it out",
    ),
    ("api", "--topology bare.yaml --trusted-proxy 10.0.0.1", "--trusted-proxy: has no effect here: the topology"),
    ("api", "--topology bare.yaml --limit-ip 5", "--limit-ip: has no effect here: the topology has no toggle"),
    ("api", "--topology bare.yaml --limit-actor 5", "--limit-actor: has no effect here"),
    ("api", "--topology bare.yaml --limit-ipv6-prefix 48", "--limit-ipv6-prefix: has no effect here"),
    ("demo --write x --events 5", "--to http://h", "--to: with --write nothing is sent"),
    ("demo --write x --events 5", "--api-key=x", "--api-key: with --write nothing is sent"),
    (
        "demo --write x --events 5",
        "--give-up 5s",
        "error: the argument '--write <FILE>' cannot be used with '--give-up",
    ),
    ("key --name a --scope read", "--events-per-minute 5", "--events-per-minute: without `--scope write`"),
    ("key --name a --scope admin", "--per-actor-per-minute 5", "--per-actor-per-minute: without `--scope write`"),
];

/// A topology that counts views and nothing else, for a database and no cache.
const BARE: &str = "\
application: bare
topics:
  user-actions: { key: actor_id, value: event, partitions: 2 }
  counters: { key: subject_id, value: counters, partitions: 2, cleanup: compact }
  dead-letters: { key: raw, value: raw, partitions: 1, retention: 14d }
processors:
  valid: { type: decode, from: user-actions }
  views: { type: count, from: valid, event: view }
  totals: { type: total, from: [views], by: subject_id, to: [counters] }
sinks:
  database: { type: database, from: [counters, dead-letters] }
";

#[test]
fn an_option_without_effect_is_refused() {
    let dir = stage();
    fs::write(dir.path().join("bare.yaml"), BARE).unwrap();
    fs::write(
        dir.path().join("cached.yaml"),
        BARE.replace(
            "  database: { type: database, from: [counters, dead-letters] }",
            "  cache: { type: cache, from: counters }",
        ),
    )
    .unwrap();
    fs::write(dir.path().join("plain.properties"), "# TLS\nssl.ca.location=/secret\n").unwrap();
    for topology in ["bare.yaml", "cached.yaml"] {
        let checked = tally(dir.path(), &format!("check --topology {topology}"));
        assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    let made = tally(dir.path(), "key --name a --scope write --append keys.yaml");
    assert_eq!(made.status.code(), Some(0));
    for (command, options, expected) in REFUSED {
        let is_role = ["ingest", "sink", "api"].contains(command);
        let address = if is_role { KAFKA } else { "" };
        let line = format!("{command} {address} {options}");
        let output = tally(dir.path(), &line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.starts_with(expected), "{line}\n  said: {said}\n  not:  {expected}");
        assert!(!said.contains("secret") && !said.contains("panicked"), "{line}: {said}");
    }
    assert!(!dir.path().join("x").exists());
}

#[test]
fn what_the_environment_says_for_other_commands_is_no_option() {
    let dir = stage();
    let environment = [("TALLY_TO", "http://127.0.0.1:1"), ("TALLY_API_KEY", "tally_x")];
    let output = tally_with(dir.path(), "demo --write x --events 5", &environment);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A deployment may give the same number to every process, so it is no mistake; the log reports the effect.
#[test]
fn more_threads_than_partitions_are_told() {
    let dir = stage();
    let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
    site.flags = ["--threads", "256"].map(str::to_owned).into();
    let service = site.start();
    assert_eq!(service.terminate().0.code(), Some(0));
    let messages = site.messages();
    let line = messages.lines().find(|line| line.contains("--threads: ")).unwrap_or_else(|| panic!("{messages}"));
    assert!(line.contains("\"threads\":256") && line.contains("\"partitions\":") && line.contains("WARN"), "{line}");
    assert!(line.contains("`user-actions`"), "{line}");
}
