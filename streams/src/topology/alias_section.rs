//! `cloud_event_types`: the names that CloudEvents use for event types.

use super::document::{Entry, Yaml};
use super::fields::Name;
use super::report::Report;
use super::sections::entries;
use super::suggestion;
use std::collections::BTreeSet;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// One line of the section.
pub(super) struct AliasSection {
    /// What it is called outside.
    pub name: Name,
    /// The type that is meant.
    pub meant: Name,
}

/// Reads the section, where there is one. What is wrong is reported and left out.
pub(super) fn read(yaml: Option<&Yaml>, report: &mut Report<'_>) -> Vec<AliasSection> {
    let yaml = yaml.filter(|yaml| !yaml.is_empty());
    let entries = entries("cloud_event_types", yaml, report).unwrap_or_default();
    entries.iter().filter_map(|entry| AliasSection::read(entry, report)).collect()
}

impl AliasSection {
    fn read(entry: &Entry, report: &mut Report<'_>) -> Option<Self> {
        let name = Name { text: entry.key.clone(), span: entry.key_span };
        let is_sound = (1..=NAME_BYTES_MAX).contains(&name.text.len())
            && !name.text.chars().any(|c| c.is_whitespace() || c.is_control());
        if !is_sound {
            let message = format!("`{}` cannot be the type of a CloudEvent", name.text);
            report.add_with_help(
                name.span,
                message,
                "up to 256 bytes without blanks, like `com.example.article.liked`",
            );
        }
        let meant = entry.value.text(report)?;
        is_sound.then_some(Self { name, meant })
    }
}

/// Reports unknown event types, and names that are event types themselves. `known` are the types that nodes take.
pub(super) fn check(aliases: &[AliasSection], known: &BTreeSet<String>, report: &mut Report<'_>) {
    for AliasSection { name, meant } in aliases {
        if !known.contains(&meant.text) {
            let help = suggestion::help(&meant.text, known.iter().map(String::as_str), "types");
            let message = format!("no node takes events of the type `{}` from the ingest API", meant.text);
            report.add(meant.span, message, help);
        }
        if known.contains(&name.text) && name.text != meant.text {
            let message = format!("`{}` is a type already", name.text);
            report.add_with_help(name.span, message, "an event of this type is meant as it is: leave this line out");
        }
    }
}
