//! One table: each block of `table.txt` replaces a part of a topology without mistakes, and has what is printed then, exactly.
//!
//! Blocks follow the `base:` that they change: a file beside this one, or the shipped topology. `UPDATE_MISTAKES=1` writes what
//! is printed now.

use crate::{AGGREGATES, CLOSED, EVENTS, changed, mistakes};
use std::collections::BTreeSet;
use std::fmt::Write;
use tally_testkit::SHIPPED_TOPOLOGY;

const BASES: [(&str, &str); 4] =
    [("events", EVENTS), ("aggregates", AGGREGATES), ("closed", CLOSED), ("shipped", SHIPPED_TOPOLOGY)];
const TABLE: &str = include_str!("table.txt");

/// Everything that is printed about a file, without blank lines; nothing where it is right.
fn printed(text: &str) -> String {
    let mistakes = mistakes(text);
    let printed = if mistakes.0.is_empty() { String::new() } else { mistakes.to_string() };
    printed.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// One blank behind the key is not part of the value.
fn unescaped(field: &str) -> String {
    let field = field.strip_prefix(' ').unwrap_or(field);
    field.replace("\\\\", "\0").replace("\\n", "\n").replace('\0', "\\")
}

#[test]
fn the_bases_are_right() {
    for (base, text) in BASES {
        assert_eq!(printed(text), "", "{base}");
    }
}

#[test]
fn every_mistake_is_printed_once_with_its_place_and_the_remedy() {
    let (mut now, mut wrong) = (String::new(), Vec::new());
    let (mut base, mut rows) = (BASES[0].1, BTreeSet::new());
    for block in TABLE.split("\n\n").map(str::trim_end) {
        if let Some(name) = block.strip_prefix("base: ") {
            base = BASES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no base `{name}`")).1;
        }
        let Some(fields) = block.strip_prefix("replace:") else {
            writeln!(now, "{block}\n").unwrap();
            continue;
        };
        let (from, rest) = fields.split_once("\nwith:").unwrap_or_else(|| panic!("without `with`:\n{block}"));
        let (to, expected) = rest.split_once('\n').unwrap_or((rest, ""));
        let (old, new) = (unescaped(from), unescaped(to));
        let text = changed(base, &old, &new);
        assert!(rows.insert(text.clone()), "twice in the table:\n{block}");
        let found = printed(&text);
        writeln!(now, "replace:{from}\nwith:{to}\n{found}\n").unwrap();
        if found != expected || found.is_empty() {
            wrong.push(format!("{block}\n  prints\n{found}"));
        }
    }
    if std::env::var_os("UPDATE_MISTAKES").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mistakes/table.txt");
        std::fs::write(file, format!("{}\n", now.trim_end())).unwrap();
        return;
    }
    assert!(rows.len() >= 60, "only {} rows", rows.len());
    assert!(wrong.is_empty(), "{} of {} rows:\n\n{}", wrong.len(), rows.len(), wrong.join("\n\n"));
}
