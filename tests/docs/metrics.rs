//! The tables of `docs/metrics.md`: name, type, labels and help text of every metric.
//!
//! A metric is defined where its name is followed by its help text, both string literals. What a process exposes is held
//! against the same tables; a series with labels is exposed only once it has a value.

use crate::{UPDATE, assert_generated, sources};
use std::collections::{BTreeMap, BTreeSet};
use tally_testkit::{Client, Scratch, Site, wait_until};

const DOCUMENT: &str = "docs/metrics.md";

#[derive(Debug, PartialEq)]
struct Metric {
    kind: String,
    help: String,
}

/// The text of a string literal that `text` begins with, and what follows it.
fn literal(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?.chars();
    let mut value = String::new();
    loop {
        match rest.next()? {
            '"' => return Some((value, rest.as_str())),
            '\\' => match rest.next()? {
                '\n' => rest = rest.as_str().trim_start().chars(),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
}

fn is_name(text: &str) -> bool {
    let is_ours = text.starts_with("tally_") || text.starts_with("process_");
    is_ours && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The metrics that a file defines.
fn metrics_in(text: &str) -> Vec<(String, Metric)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('"') {
        let Some((name, rest)) = literal(&text[at..]).filter(|(name, _)| is_name(name)) else { continue };
        let Some(rest) = rest.trim_start().strip_prefix(',') else { continue };
        let Some((help, _)) = literal(rest.trim_start()) else { continue };
        let before = text[..at].trim_end().trim_end_matches('(');
        let kind = match () {
            () if before.ends_with("histogram") || before.ends_with("HistogramOpts::new") => "histogram",
            () if name.ends_with("_total") => "counter",
            () => "gauge",
        };
        found.push((name, Metric { kind: kind.to_owned(), help }));
    }
    found
}

fn defined() -> BTreeMap<String, Metric> {
    let files = sources::CRATES.iter().flat_map(|krate| sources::code(krate));
    files.flat_map(|(_, text)| metrics_in(&text)).collect()
}

/// A row of a table of metrics: name, type, labels, help.
fn row(line: &str) -> Option<[&str; 4]> {
    let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split('|').map(str::trim).collect();
    let [name, kind, labels, help] = cells[..] else { return None };
    let name = name.strip_prefix('`')?.strip_suffix('`')?;
    is_name(name).then_some([name, kind, labels, help])
}

fn shared_prefix(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// The document with the metrics of the code. A new one comes behind the one with the most similar name.
fn generated(document: &str, metrics: &BTreeMap<String, Metric>) -> String {
    let line = |name: &str, labels: &str, metric: &Metric| {
        let labels = if labels.is_empty() { String::new() } else { format!("{labels} ") };
        format!("| `{name}` | {} | {labels}| {} |", metric.kind, metric.help)
    };
    let mut lines = Vec::new();
    let mut written = Vec::new();
    for text in document.lines() {
        let Some([name, _, labels, _]) = row(text) else {
            lines.push((None, text.to_owned()));
            continue;
        };
        if let Some(metric) = metrics.get(name) {
            lines.push((Some(name), line(name, labels, metric)));
            written.push(name);
        }
    }
    for (name, metric) in metrics.iter().filter(|(name, _)| !written.contains(&name.as_str())) {
        let similar =
            |(_, (known, _)): &(usize, &(Option<&str>, String))| known.map_or(0, |known| shared_prefix(known, name));
        let place = lines.iter().enumerate().max_by_key(similar).map_or(0, |(place, _)| place + 1);
        lines.insert(place, (Some(name), line(name, "", metric)));
    }
    lines.into_iter().map(|(_, line)| line + "\n").collect()
}

#[test]
fn the_tables_have_the_metrics_of_the_code() {
    assert_generated(DOCUMENT, &generated(&sources::document(DOCUMENT), &defined()));
}

/// The words in backquotes.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What a process exposes: type, help text and labels of each family.
fn exposed(text: &str) -> BTreeMap<String, (Metric, BTreeSet<String>)> {
    let mut families: BTreeMap<String, (Metric, BTreeSet<String>)> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            current = name.to_owned();
            let metric = Metric { kind: String::new(), help: help.to_owned() };
            families.insert(current.clone(), (metric, BTreeSet::new()));
        } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.get_mut(&current).unwrap().0.kind = kind.to_owned();
        } else if let Some((_, labels)) = line.split_once('{') {
            let names = labels.split("=\"").filter_map(|part| part.rsplit(['"', ',', '{']).next());
            let names = names.filter(|name| !name.is_empty() && !name.starts_with('}') && *name != "le");
            families.get_mut(&current).unwrap().1.extend(names.map(str::to_owned));
        }
    }
    families
}

#[test]
fn a_process_exposes_what_the_tables_say() {
    let dir = Scratch::new();
    let site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
    let service = site.start();
    let client = Client(site.listen.clone());
    let event = br#"{"event_id":"e1","type":"view","actor_id":"u1","subject_id":"article:7"}"#;
    assert_eq!(client.post("/v1/events", "application/json", event).unwrap().status, 202);
    client.wait_until_applied();
    let metrics = || String::from_utf8(client.get("/metrics").unwrap().body).unwrap();
    wait_until("a task to have a clock", || metrics().contains("\ntally_task_clock_seconds{").then_some(()));
    let exposed = exposed(&metrics());
    drop(service);
    assert!(exposed.len() > 50, "{}", exposed.len());
    let document = sources::document(DOCUMENT);
    let rows: BTreeMap<_, _> = document.lines().filter_map(row).map(|[name, rest @ ..]| (name, rest)).collect();
    let mut wrong = Vec::new();
    for (name, (metric, labels)) in &exposed {
        let Some([kind, documented, help]) = rows.get(name.as_str()) else {
            wrong.push(format!("{name}: not in {DOCUMENT}; run {UPDATE}"));
            continue;
        };
        if (metric.kind.as_str(), metric.help.as_str()) != (kind, help) {
            wrong.push(format!("{name}: {kind}, {help}\n    exposed: {metric:?}"));
        }
        if *labels != quoted(documented) {
            wrong.push(format!("{name}: labels {documented}\n    exposed: {labels:?}"));
        }
    }
    assert!(wrong.is_empty(), "{DOCUMENT}:\n  {}", wrong.join("\n  "));
}

#[test]
fn definitions_are_found_in_code() {
    let code = r#"
        let known = family("tally_a_total");
        Opts::new(
            "tally_a_total",
            "Says \"a\", \
             twice.",
        );
        histogram("tally_b_seconds", "How long."); let c = [("tally_c", 1)];
    "#;
    let metric = |kind: &str, help: &str| Metric { kind: kind.to_owned(), help: help.to_owned() };
    let expected = [
        ("tally_a_total".to_owned(), metric("counter", "Says \"a\", twice.")),
        ("tally_b_seconds".to_owned(), metric("histogram", "How long.")),
    ];
    assert_eq!(metrics_in(code), expected);
    let table = "| `tally_b_seconds` | gauge | `x` | old |\n| `tally_gone` | gauge | | old |\nend\n";
    let metrics = expected.into_iter().collect();
    let expected = "| `tally_b_seconds` | histogram | `x` | How long. |\n| `tally_a_total` | counter | | Says \"a\", twice. |\nend\n";
    assert_eq!(generated(table, &metrics), expected);
}
