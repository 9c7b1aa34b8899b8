//! The sinks of a file, as written.

use super::document::Entry;
use super::fields::{Fields, Name};
use super::report::Report;
use super::suggestion;
use std::time::Duration;

const KEYS: &[&str] = &["type", "from", "batch"];
const BATCH_KEYS: &[&str] = &["records_max", "linger"];
const RECORDS_MAX: u32 = 10_000;
const RECORDS_DEFAULT: u32 = 1_000;
const LINGER_MAX: Duration = Duration::from_secs(60);
const LINGER_DEFAULT: Duration = Duration::from_millis(10);

/// A sink of the file.
pub(super) struct SinkSection {
    pub name: Name,
    pub kind: Option<String>,
    /// Topics; whether they exist is found out later.
    pub from: Vec<Name>,
    pub records_max: u32,
    pub linger: Duration,
}

impl SinkSection {
    pub fn read(entry: &Entry, sink_types: &[&str], report: &mut Report<'_>) -> Self {
        let name = Name { text: entry.key.clone(), span: entry.key_span };
        let mut sink =
            Self { name, kind: None, from: Vec::new(), records_max: RECORDS_DEFAULT, linger: LINGER_DEFAULT };
        let (owner, span) = (format!("sink `{}`", sink.name.text), sink.name.span);
        let Some(fields) = Fields::read(owner, span, &entry.value, KEYS, report) else {
            return sink;
        };
        let help = format!("one of: {}", sink_types.join(", "));
        let kind = fields.require("type", &help, report).and_then(|kind| kind.text(report));
        sink.kind = kind.and_then(|kind| {
            let known = sink_types.contains(&kind.text.as_str());
            if !known {
                let help = suggestion::help(&kind.text, sink_types.iter().copied(), "sink types");
                report.add(kind.span, format!("unknown sink type `{}`", kind.text), help);
            }
            known.then_some(kind.text)
        });
        let from = fields.require("from", "the topics it reads: `from: [counters]`", report);
        sink.from = from.and_then(|from| from.names(report)).unwrap_or_default();

        let owner = format!("`batch` of sink `{}`", sink.name.text);
        let batch = fields.get("batch").and_then(|yaml| Fields::read(owner, yaml.span, yaml, BATCH_KEYS, report));
        let of_batch = |key| batch.as_ref().and_then(|batch| batch.get(key));
        if let Some(records_max) = of_batch("records_max").and_then(|yaml| yaml.integer(1..=RECORDS_MAX, report)) {
            sink.records_max = records_max;
        }
        if let Some(linger) = of_batch("linger").and_then(|yaml| yaml.duration(Duration::ZERO..=LINGER_MAX, report)) {
            sink.linger = linger;
        }
        sink
    }
}
