//! A topology for people.

use crate::dataflow::{GOOD, load};

#[test]
fn text() {
    let text = load(GOOD).map(|topology| topology.describe_text());
    assert_eq!(text.unwrap_or_else(|diagnostics| diagnostics.to_string()), include_str!("description.txt"));
}

#[test]
fn mermaid() {
    let chart = load(GOOD).map(|topology| topology.describe_mermaid());
    assert_eq!(chart.unwrap_or_else(|diagnostics| diagnostics.to_string()), include_str!("description.mmd"));
}
