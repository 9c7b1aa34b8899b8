//! A case, checked: what the file says with every time, id and name filled in.

use super::expectation::Expectation;
use super::order::Variation;
use tally_streams::topology::Span;

/// A case of a test file.
pub struct Case {
    /// Its name, unique in the file.
    pub name: String,
    /// Where the case stands in the file.
    pub place: Span,
    /// When it begins, in milliseconds since 1970.
    pub start_ms: i64,
    /// Its steps; those of `given` come first.
    pub steps: Vec<Step>,
    /// How many of the steps are `given`: no expectation is about the records that they write.
    pub given: usize,
    /// The orders in which it runs besides that of the file.
    pub always: Vec<Variation>,
}

/// A step.
pub enum Step {
    /// A record is appended to the root topic.
    Append(AppendedRecord),
    /// The wall clock moves to this time, in milliseconds since 1970, without records.
    Pass(i64),
    /// Everything is processed and committed, and compared.
    Expect(Expectation),
}

/// A record for the root topic.
#[derive(Debug, PartialEq)]
pub struct AppendedRecord {
    /// Its key.
    pub key: Option<String>,
    /// Its value.
    pub value: String,
    /// The number that the database gave the event, where the database owns it.
    pub sequence: Option<i64>,
    /// When it is appended, in milliseconds since 1970.
    pub append_time_ms: i64,
}
