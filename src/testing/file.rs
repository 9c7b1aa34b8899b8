//! A test file, read and checked against its topology.

use super::case::Case;
use super::moment::{default_start_ms, moment};
use super::order::{self, Variation};
use super::step::Steps;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tally_processors::Actions;
use tally_sinks::SINK_TYPES;
use tally_streams::topology::{Diagnostics, Fields, NodeType, Report, Span, Topology, Value, Yaml};

const KEYS: &[&str] = &["topology", "start", "always", "cases"];
const CASE_KEYS: &[&str] = &["name", "given", "steps", "always"];
/// The topology's file if the test file names none.
const TOPOLOGY: &str = "topology.yaml";

/// A test file whose cases can run.
pub struct TestFile {
    /// Its name, for messages.
    pub name: String,
    /// The topology's file.
    pub topology_path: PathBuf,
    /// The topology.
    pub topology: Arc<Topology<Actions>>,
    /// At least one.
    pub cases: Vec<Case>,
}

impl TestFile {
    /// Reads a test file and its topology. `name` is for messages; the topology's path is relative to `folder`.
    ///
    /// Fails with all mistakes of the file, or with those of the topology.
    pub fn load(name: &str, text: &str, folder: &Path, registry: &[NodeType<Actions>]) -> Result<Self, Diagnostics> {
        let mut report = Report::new(name, text);
        let read = Self::read(name, text, folder, registry, &mut report)?;
        match read {
            Some(file) if report.is_empty() => Ok(file),
            _ => Err(report.finish()),
        }
    }

    fn read(
        name: &str,
        text: &str,
        folder: &Path,
        registry: &[NodeType<Actions>],
        report: &mut Report<'_>,
    ) -> Result<Option<Self>, Diagnostics> {
        let start = Span { line: 1, column: 1, length: 0 };
        let Some(yaml) = Yaml::parse(text, report) else { return Ok(None) };
        let Some(fields) = Fields::read("a test file", start, &yaml, KEYS, report) else { return Ok(None) };
        let cases = fields.require("cases", "a list of cases, each with a `name` and `steps`", report);
        let Some(topology_path) = topology_path(folder, &fields, report) else { return Ok(None) };
        let shown = topology_path.display().to_string();
        let topology = match std::fs::read_to_string(&topology_path) {
            Ok(text) => Topology::<Actions>::load_with_drops(&shown, &text, registry, SINK_TYPES)?,
            Err(error) => {
                let span = fields.get("topology").map_or(start, |yaml| yaml.span);
                let help = "`topology:` names the file, relative to this one";
                report.add_with_help(span, format!("{shown}: {error}"), help);
                return Ok(None);
            }
        };
        let start_ms = fields.get("start").and_then(|yaml| moment(yaml, default_start_ms(), report));
        let always = fields.get("always").map(|yaml| order::read(yaml, report)).unwrap_or_default();
        let Some(cases) = cases else { return Ok(None) };
        let Value::List(items) = &cases.value else {
            report.add(cases.span, format!("expected a list of cases, found {}", cases.value), None);
            return Ok(None);
        };
        if items.is_empty() {
            report.add(cases.span, "there are no cases", None);
        }
        let reader = CaseReader { topology: &topology, start_ms: start_ms.unwrap_or_else(default_start_ms), always };
        let mut names: HashMap<String, u32> = HashMap::new();
        let mut read = Vec::new();
        for item in items {
            let Some(case) = reader.read(item, report) else { continue };
            if let Some(line) = names.insert(case.name.clone(), case.place.line) {
                report.add(case.place, format!("a second case named `{}`; first on line {line}", case.name), None);
            }
            read.push(case);
        }
        Ok(Some(Self { name: name.to_owned(), topology_path, topology: Arc::new(topology), cases: read }))
    }
}

fn topology_path(folder: &Path, fields: &Fields<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    let file = match fields.get("topology") {
        Some(yaml) => yaml.text(report)?.text,
        None => TOPOLOGY.to_owned(),
    };
    Some(folder.join(file))
}

struct CaseReader<'a> {
    topology: &'a Topology<Actions>,
    start_ms: i64,
    always: Vec<Variation>,
}

impl CaseReader<'_> {
    fn read(&self, yaml: &Yaml, report: &mut Report<'_>) -> Option<Case> {
        let fields = Fields::read("a case", yaml.span, yaml, CASE_KEYS, report)?;
        let name = fields.require("name", "one line that describes the case", report);
        let name = name.and_then(|name| name.text(report));
        let owned = fields.require("steps", "a list of events and expectations", report);
        let mut steps = Steps::new(self.topology, self.start_ms);
        if let Some(given) = fields.get("given") {
            steps.read_given(given, report);
        }
        let given = steps.len();
        if let Some(list) = owned {
            steps.read_to_the_end(list, report);
        }
        let always = match fields.get("always") {
            Some(yaml) => order::read(yaml, report),
            None => self.always.clone(),
        };
        let name = name?;
        let steps = steps.finish();
        Some(Case { name: name.text, place: name.span, start_ms: self.start_ms, steps, given, always })
    }
}
