//! Collects what is wrong with a file while it is read.

use super::diagnostics::{Diagnostic, Diagnostics};
use super::document::Span;
use super::written;
use std::collections::BTreeSet;

/// More diagnostics than a reader can use; a file of another kind has thousands.
const DIAGNOSTICS_MAX: usize = 100;
/// A message quotes the file, where a name may be as long as the file.
const MESSAGE_CHARS_MAX: usize = 400;
/// A longer line is shown as the part around the place.
const LINE_CHARS_MAX: usize = 200;

/// One file and its problems so far.
pub struct Report<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    // A set: what is wrong within an anchor is found once per alias.
    problems: BTreeSet<(Span, String, Option<String>)>,
}

impl<'a> Report<'a> {
    /// A file without problems. `file` is its name in messages.
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, lines: lines(text), problems: BTreeSet::new() }
    }

    /// Notes a problem.
    pub fn add(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        self.problems.insert((span, message.into(), help));
    }

    /// Notes a problem together with what to do about it.
    pub fn add_with_help(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(span, message, Some(help.into()));
    }

    /// A part of a text in the file, by its characters from 0. None where the file does not have the text as it reads.
    pub fn part(&self, span: Span, text: &str, (start, length): (u32, u32)) -> Option<Span> {
        let (line, column) = written::find(&self.lines, (span.line, span.column), text, start)?;
        Some(Span { line, column, length })
    }

    /// Whether nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The reported mistakes, in the order of the file.
    pub fn finish(self) -> Diagnostics {
        let more = self.problems.len().saturating_sub(DIAGNOSTICS_MAX);
        let mut all: Vec<Diagnostic> = (self.problems.iter().take(DIAGNOSTICS_MAX))
            .map(|(span, message, help)| self.diagnostic(*span, message, help.as_deref()))
            .collect();
        if more > 0
            && let Some(last) = all.last_mut()
        {
            last.help = Some(format!("{more} more problems follow; these come first"));
        }
        Diagnostics(all)
    }

    fn diagnostic(&self, span: Span, message: &str, help: Option<&str>) -> Diagnostic {
        // The parser may place an error behind the end of the text.
        let line = (span.line as usize).clamp(1, self.lines.len());
        let source = self.lines[line - 1];
        let chars = source.chars().count();
        let column = if span.line as usize > line { chars + 1 } else { (span.column as usize).clamp(1, chars + 1) };
        let start = if chars > LINE_CHARS_MAX { (column - 1).saturating_sub(LINE_CHARS_MAX / 2) } else { 0 };
        let source_line = printable(source.chars().skip(start), LINE_CHARS_MAX, true);
        let caret = column - 1 - start;
        let room = source_line.chars().count().saturating_sub(caret);
        Diagnostic {
            file: self.file.to_owned(),
            line,
            column,
            message: printable(message.chars(), MESSAGE_CHARS_MAX, false),
            help: help.map(|help| printable(help.chars(), MESSAGE_CHARS_MAX, false)),
            source_line,
            caret,
            caret_length: (span.length as usize).min(room).max(1),
        }
    }
}

/// One line without characters that could confuse a terminal.
fn printable(chars: impl Iterator<Item = char>, chars_max: usize, keep_tabs: bool) -> String {
    let mut chars = chars.map(|c| if c.is_control() && !(keep_tabs && c == '\t') { ' ' } else { c });
    let mut text: String = chars.by_ref().take(chars_max).collect();
    if chars.next().is_some() && !keep_tabs {
        text.push('…');
    }
    text
}

/// Lines as YAML counts them: `\n`, `\r\n` and `\r` end one. At least one line.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    for piece in text.split('\n') {
        lines.extend(piece.strip_suffix('\r').unwrap_or(piece).split('\r'));
    }
    lines
}
