//! Mistakes in an expression, with their places.

use super::{syntax, tokens};
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

/// What the parser found. It goes on after a mistake; what it finds then mostly follows from the first. Its messages are
/// about the rules of a grammar that no file shows, so none of them is passed on.
pub fn of_parser(source: &str, errors: &ParseErrors) -> Vec<Fault> {
    if let Some(fault) = syntax::mistake(source) {
        return vec![fault];
    }
    let Some(error) = errors.errors.first() else { return vec![Fault::new("cannot be read")] };
    if error.msg.contains("Recursion limit") {
        return vec![Fault::new("is nested too deeply")];
    }
    let (line, column) = error.pos;
    let (line, column) = (usize::try_from(line).unwrap_or(1), usize::try_from(column).unwrap_or(1));
    let before: usize =
        source.split_inclusive('\n').take(line.saturating_sub(1)).map(|line| line.chars().count()).sum();
    let at = before + column.saturating_sub(1);
    let (tokens, _) = tokens::tokens(source);
    let token = tokens.iter().find(|token| at < token.at + token.text.chars().count()).or(tokens.last());
    let Some(token) = token else { return vec![Fault::new("cannot be read")] };
    let shown = &token.text;
    vec![match error.msg.split(':').next().unwrap_or_default() {
        "invalid argument to has() macro" => {
            token.fault("`has` takes a property", Some("write `has(properties.name)`"))
        }
        "argument must be a simple name" => {
            token.fault(format!("expected a name instead of `{shown}`"), Some("`list.all(x, x > 1)` tests each `x`"))
        }
        "reserved identifier" => token.fault(format!("`{shown}` is a reserved word"), None),
        "invalid int literal" | "invalid uint literal" => {
            token.fault(format!("`{shown}` is too large: whole numbers have 64 bits"), None)
        }
        "invalid double literal" => token.fault(format!("`{shown}` is too large"), None),
        _ => token.fault(format!("unexpected `{shown}`"), None),
    }]
}
