//! Mistakes in a file, with their places.

use std::fmt;

/// All mistakes of a file, ordered by line. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

/// A mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file's name as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The mistake.
    pub message: String,
    /// The remedy.
    pub help: Option<String>,
    /// The line, or the part of a very long line around the place.
    pub source_line: String,
    /// The place of the caret in `source_line`, from 0, in characters.
    pub caret: usize,
    /// How many characters it underlines; at least 1.
    pub caret_length: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        let number = self.line.to_string();
        // Tabs stay tabs, so that the caret stands under its character whatever a tab's width is.
        let indent: String =
            self.source_line.chars().take(self.caret).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let source = self.source_line.trim_end();
        writeln!(f, "{number} |{}{source}", if source.is_empty() { "" } else { " " })?;
        write!(f, "{:width$} | {indent}{}", "", "^".repeat(self.caret_length), width = number.len())?;
        match &self.help {
            Some(help) => write!(f, "\nhelp: {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
