//! The sinks of a file, as written.

use super::document::{Entry, Yaml};
use super::fields::{Fields, Name};
use super::report::Report;
use super::suggestion;
use super::{SinkType, SinkUrl};
use std::time::Duration;

const KEYS: &[&str] = &["type", "from", "url", "batch"];
const BATCH_KEYS: &[&str] = &["records_max", "linger"];
const RECORDS_MAX: u32 = 100_000;
const RECORDS_DEFAULT: u32 = 1_000;
const LINGER_MAX: Duration = Duration::from_secs(60);
const LINGER_DEFAULT: Duration = Duration::from_millis(10);

/// A sink of the file.
pub(super) struct SinkSection {
    pub name: Name,
    /// None where the file is wrong about it.
    pub kind: Option<&'static str>,
    /// Where it writes, if the file names that.
    pub url: Option<SinkUrl>,
    /// Topics; whether they exist is checked later.
    pub from: Vec<Name>,
    pub records_max: u32,
    pub linger: Duration,
}

impl SinkSection {
    pub fn read<S: SinkType>(entry: &Entry, sink_types: &[S], report: &mut Report<'_>) -> Self {
        let name = Name { text: entry.key.clone(), span: entry.key_span };
        let mut sink = Self {
            name,
            kind: None,
            url: None,
            from: Vec::new(),
            records_max: RECORDS_DEFAULT,
            linger: LINGER_DEFAULT,
        };
        let (owner, span) = (format!("sink `{}`", sink.name.text), sink.name.span);
        let Some(fields) = Fields::read(owner, span, &entry.value, KEYS, report) else {
            return sink;
        };
        let type_names = || sink_types.iter().map(S::name);
        let help = format!("one of: {}", type_names().collect::<Vec<_>>().join(", "));
        let kind = fields.require("type", &help, report).and_then(|kind| kind.text(report));
        let sink_type = kind.and_then(|kind| {
            let found = sink_types.iter().find(|sink_type| sink_type.name() == kind.text);
            if found.is_none() {
                let help = suggestion::help(&kind.text, type_names(), "sink types");
                report.add(kind.span, format!("unknown sink type `{}`", kind.text), help);
            }
            found
        });
        sink.kind = sink_type.map(S::name);
        sink.url = fields.get("url").and_then(|url| read_url(url, sink_type, report));
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

/// Checks an address as far as it is known before its variables are.
fn read_url(yaml: &Yaml, sink_type: Option<&impl SinkType>, report: &mut Report<'_>) -> Option<SinkUrl> {
    let text = yaml.text(report)?;
    let url = match SinkUrl::parse(&text.text) {
        Ok(url) => url,
        Err(message) => {
            report.add_with_help(text.span, message, "`${NAME}` is the value of the environment variable NAME");
            return None;
        }
    };
    let Some(sink_type) = sink_type else { return Some(url) };
    match url.scheme() {
        Some(scheme) if !sink_type.schemes().contains(&scheme) => {
            let help = suggestion::help(scheme, sink_type.schemes().iter().copied(), "schemes");
            report.add(text.span, format!("unknown scheme `{scheme}` of a {}", sink_type.name()), help);
        }
        None if !url.has_variables() => {
            let help = format!("known schemes: {}", sink_type.schemes().join(", "));
            report.add_with_help(text.span, "an address begins with a scheme and a colon", help);
        }
        Some(_) if !url.has_variables() => {
            if let Err(message) = sink_type.check(&text.text) {
                report.add(text.span, message, None);
            }
        }
        _ => {}
    }
    Some(url)
}
