//! Lists and numbers in `docs/` agree with the code. `UPDATE_DOCS=1 cargo test -p tally --test docs` rewrites what is
//! generated: `docs/commands.md`, and types and help texts in the tables of `docs/metrics.md`.

#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/constants.rs"]
mod constants;
#[path = "docs/golden_tests.rs"]
mod golden_tests;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/metrics.rs"]
mod metrics;
#[path = "docs/sources.rs"]
mod sources;

use std::fs;

const UPDATE: &str = "UPDATE_DOCS=1 cargo test -p tally --test docs";

/// Fails where a generated document differs from the code, or rewrites it.
#[track_caller]
fn assert_generated(document: &str, expected: &str) {
    let path = sources::root().join(document);
    let text = fs::read_to_string(&path).unwrap_or_default();
    if text == expected {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
        return;
    }
    let mut pairs = (1..).zip(text.lines().zip(expected.lines()));
    let (line, (found, generated)) =
        pairs.find(|(_, (found, generated))| found != generated).unwrap_or((0, ("", "(the length differs)")));
    panic!("{document}:{line} differs from the code\n  document: {found}\n  code:     {generated}\nRun {UPDATE}");
}
