//! Links between documents lead to headings that exist.

use crate::sources;
use std::collections::BTreeMap;

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The lines of a document that are not within a block of code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

#[test]
fn anchors_exist() {
    let documents = sources::documents();
    let headings = |text: &str| {
        prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| anchor(line)).collect::<Vec<_>>()
    };
    let anchors: BTreeMap<_, _> = documents.iter().map(|(name, text)| (name.as_str(), headings(text))).collect();
    let mut wrong = Vec::new();
    for (name, text) in &documents {
        for (number, line) in prose(text) {
            for link in line.split("](").skip(1) {
                let Some((file, anchor)) = link.split(')').next().and_then(|target| target.split_once('#')) else {
                    continue;
                };
                if file.contains("://") {
                    continue;
                }
                let file = match file {
                    "" => name.clone(),
                    file => match file.strip_prefix("../") {
                        Some(file) => file.to_owned(),
                        None if name.starts_with("docs/") => format!("docs/{file}"),
                        None => file.to_owned(),
                    },
                };
                if let Some(known) = anchors.get(file.as_str())
                    && !known.iter().any(|known| known == anchor)
                {
                    wrong.push(format!("{name}:{number}: {file}#{anchor}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no such heading:\n  {}", wrong.join("\n  "));
}

#[test]
fn anchors_are_those_of_github() {
    assert_eq!(anchor("### GET /v1/subjects/{subject_id}/counters"), "get-v1subjectssubject_idcounters");
    assert_eq!(anchor("## TLS and SASL"), "tls-and-sasl");
}
