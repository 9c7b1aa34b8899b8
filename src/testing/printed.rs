//! Results as text.

use super::case::Case;
use super::comparison::Difference;
use super::order::Order;
use super::run::{CaseFailure, Cause, Outcome};
use std::fmt::Write;
use tally_streams::topology::count;

/// How many actions of tasks are shown: the last ones.
const TRACE_SHOWN: usize = 24;
const INDENT: &str = "      ";

/// How many cases there were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Test files.
    pub files: usize,
    /// Cases that passed.
    pub passed: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Files that could not be read.
    pub mistaken: usize,
}

impl Summary {
    /// One line.
    pub fn text(&self) -> String {
        let cases = count(self.passed + self.failed, "case");
        let mut text = format!("{cases} in {}: {} passed", count(self.files, "file"), self.passed);
        if self.failed > 0 {
            let _ = write!(text, ", {} failed", self.failed);
        }
        if self.mistaken > 0 {
            let _ = write!(text, "; {} with mistakes", count(self.mistaken, "file"));
        }
        text
    }
}

/// A case as text: one line, and what failed.
pub fn print_case(file: &str, case: &Case, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed(1) => format!("ok    {file}: {}\n", case.name),
        Outcome::Passed(runs) => format!("ok    {file}: {} ({runs} runs)\n", case.name),
        Outcome::Failed(failure) => format!("FAIL  {file}: {}\n{}", case.name, failure_text(file, failure)),
    }
}

/// What failed, indented.
pub fn failure_text(file: &str, failure: &CaseFailure) -> String {
    let mut text = String::new();
    let place = match failure.place {
        Some(place) => format!("{file}:{}:{}", place.line, place.column),
        None => file.to_owned(),
    };
    let order = match failure.order {
        Order::AsWritten => String::new(),
        order => format!(" ({order})"),
    };
    match &failure.cause {
        Cause::Differences(differences) => {
            let _ = writeln!(text, "{INDENT}{place}{order}");
            text += &table(differences);
            if !failure.drops.is_empty() {
                let _ = writeln!(text, "{INDENT}dropped since the last expectation:");
                text += &drops(&failure.drops);
            }
        }
        Cause::Stopped(reason) => {
            let _ = writeln!(text, "{INDENT}{place}{order}: the topology stopped: {reason}");
        }
    }
    if matches!(failure.order, Order::Shuffled(_) | Order::Crashing(_)) {
        let _ = writeln!(text, "{INDENT}the same seed repeats this order; it ended with:");
        let skipped = failure.trace.len().saturating_sub(TRACE_SHOWN);
        for line in folded(&failure.trace[skipped..]) {
            let _ = writeln!(text, "{INDENT}  {line}");
        }
    }
    text
}

/// One line for each verdict and dead letter, in columns.
fn drops(drops: &[[String; 3]]) -> String {
    let width = |column: usize| drops.iter().map(|drop| drop[column].chars().count()).max().unwrap_or_default();
    let (section_width, id_width) = (width(0), width(1));
    drops
        .iter()
        .map(|[section, id, reason]| format!("{INDENT}  {section:section_width$}  {id:id_width$}  {reason}\n"))
        .collect()
}

/// Equal actions in a row as one line.
fn folded(trace: &[String]) -> Vec<String> {
    let groups = trace.chunk_by(|one, next| one == next);
    groups
        .map(|group| if group.len() == 1 { group[0].clone() } else { format!("{} × {}", group[0], group.len()) })
        .collect()
}

/// One line for each record, in columns.
fn table(differences: &[Difference]) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    let rows: Vec<[String; 4]> = differences
        .iter()
        .map(|one| [one.section.to_owned(), one.key.clone(), shown(&one.expected), shown(&one.got)])
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (section_width, key_width, expected_width) = (width(0), width(1), width(2));
    let mut text = String::new();
    for [section, key, expected, got] in &rows {
        let _ = writeln!(
            text,
            "{INDENT}  {section:section_width$}  {key:key_width$}  expected {expected:expected_width$}  got {got}"
        );
    }
    text
}
