//! Mistakes in an expression, with their places.

use cel::ParseErrors;
use tally_streams::topology::ParamError;

/// A mistake in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The mistake.
    pub message: String,
    /// The remedy.
    pub help: Option<String>,
    /// Where in the expression: the first character, from 0, and how many. None: the whole.
    pub at: Option<(u32, u32)>,
}

impl Fault {
    /// Without a place and without help.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, at: None }
    }

    /// As the error of the parameter that holds the expression.
    pub fn in_param(self, path: &str) -> ParamError {
        ParamError { path: path.to_owned(), message: self.message, help: self.help, within: self.at }
    }
}

/// What the parser found. It goes on after a mistake; what it finds then mostly follows from the first.
pub fn of_parser(source: &str, errors: &ParseErrors) -> Vec<Fault> {
    let Some(error) = errors.errors.first() else { return vec![Fault::new("does not compile")] };
    let (line, column) = error.pos;
    let (line, column) = (usize::try_from(line).unwrap_or(1), u32::try_from(column).unwrap_or(1));
    let before: usize =
        source.split_inclusive('\n').take(line.saturating_sub(1)).map(|line| line.chars().count()).sum();
    let at = u32::try_from(before).unwrap_or(0).saturating_add(column.saturating_sub(1));
    let end = u32::try_from(source.chars().count()).unwrap_or(u32::MAX);
    let said = error.msg.split('\n').next().unwrap_or_default();
    vec![Fault { message: format!("does not compile: {said}"), help: None, at: Some((at.min(end), 1)) }]
}
