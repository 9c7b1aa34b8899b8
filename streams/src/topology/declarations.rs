//! The section `events`: what the file declares about kinds of values.

use super::document::{Mapping, Value, Yaml};
use super::fields::Name;
use super::node_section::NodeSection;
use super::params::Params;
use super::report::Report;
use super::sections::entries;
use super::suggestion;
use crate::processor::Dataflow;
use std::collections::BTreeSet;

/// One line of the section.
pub(super) struct DeclarationSection<D: Dataflow> {
    /// The kind.
    pub name: Name,
    /// None where the file is wrong about it.
    pub declaration: Option<D::Declaration>,
}

/// Reads the section, where there is one.
pub(super) fn read<D: Dataflow>(yaml: Option<&Yaml>, report: &mut Report<'_>) -> Vec<DeclarationSection<D>> {
    let yaml = yaml.filter(|yaml| !yaml.is_empty());
    let entries = entries("events", yaml, report).unwrap_or_default();
    let read = entries.iter().map(|entry| {
        let name = Name { text: entry.key.clone(), span: entry.key_span };
        let mapping = match &entry.value.value {
            Value::Map(mapping) => mapping.clone(),
            Value::Null => Mapping::default(),
            other => {
                report.add(
                    entry.value.span,
                    format!("event type `{}` must be a mapping, but this is {other}", name.text),
                    None,
                );
                return DeclarationSection { name, declaration: None };
            }
        };
        let params = Params::new(entry.value.span, mapping, &[]);
        let declaration = D::declare(&name.text, &params).map(Some).unwrap_or_else(|errors| {
            let owner = format!("event type `{}`", name.text);
            errors.into_iter().for_each(|error| params.report(error, &owner, name.span, report));
            None
        });
        DeclarationSection { name, declaration }
    });
    read.collect()
}

/// Reports declared kinds that are not among those that nodes name: where a node names something similar that is not
/// declared, at that node.
pub(super) fn check<D: Dataflow>(
    sections: &[DeclarationSection<D>],
    nodes: &[NodeSection<'_, D>],
    taken: &BTreeSet<&String>,
    report: &mut Report<'_>,
) {
    let known: BTreeSet<&String> = sections.iter().map(|section| &section.name.text).collect();
    let declared = sections.iter().filter(|section| section.declaration.is_some());
    for name in declared.map(|section| &section.name).filter(|name| !taken.contains(&name.text)) {
        let undeclared = taken.difference(&known).map(|name| name.as_str());
        let meant = suggestion::closest(&name.text, undeclared);
        let place = meant.and_then(|meant| Some((meant, nodes.iter().find_map(|node| node.place_of(meant))?)));
        if let Some((meant, place)) = place {
            let message = format!("event type `{meant}` is not declared");
            report.add_with_help(place, message, format!("did you mean `{}`?", name.text));
            continue;
        }
        let help = suggestion::help(&name.text, taken.iter().map(|name| name.as_str()), "types");
        report.add(name.span, format!("no node takes events of the type `{}`", name.text), help);
    }
}
