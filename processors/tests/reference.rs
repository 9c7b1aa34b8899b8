//! The tables of node parameters in docs/topology.md are generated from the node types.
//!
//! Each table is between two comments. With `UPDATE_DOCS` in the environment the test rewrites it.

use std::{env, fs};
use tally_processors::{Actions, REGISTRY};
use tally_streams::topology::{NodeType, ParamSpec, Params};

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/topology.md");
const UPDATE: &str = "UPDATE_DOCS=1 cargo test -p tally-processors --test reference";
const END: &str = "<!-- end of generated -->";

fn begin(node_type: &str) -> String {
    format!("<!-- generated: parameters of {node_type} -->")
}

/// The type's own parameters, and `by` where the loader takes it.
fn specs(node_type: &NodeType<Actions>) -> Vec<ParamSpec> {
    let by = node_type.key.map(|key| ParamSpec {
        path: "by".into(),
        kind: "name of a key".into(),
        default: Some(format!("`{key}`")),
        about: "Key by which the input is partitioned. The repartition topic and the subtopology are named after it."
            .into(),
    });
    (node_type.params)().into_iter().chain(by).collect()
}

fn table(specs: &[ParamSpec]) -> String {
    let row = |ParamSpec { path, kind, default, about }: &ParamSpec| {
        let default = default.as_deref().unwrap_or("required");
        format!("| `{path}` | {kind} | {default} | {about} |\n")
    };
    let rows: String = specs.iter().map(row).collect();
    format!("| parameter | type | default | meaning |\n|---|---|---|---|\n{rows}")
}

/// The text with the type's table between its two comments.
fn with_table(text: &str, node_type: &NodeType<Actions>) -> String {
    let (name, begin) = (node_type.name, begin(node_type.name));
    let part = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = part.unwrap_or_else(|| {
        panic!("docs/topology.md needs a section `### {name}` with the lines\n\n{begin}\n{END}\n\nThen run {UPDATE}")
    });
    format!("{before}{begin}\n\n{}\n{END}{after}", table(&specs(node_type)))
}

#[test]
fn the_reference_shows_the_parameters_that_are_parsed() {
    let written = fs::read_to_string(REFERENCE).unwrap();
    let with_parameters = || REGISTRY.iter().filter(|node_type| !specs(node_type).is_empty());
    let wanted = with_parameters().fold(written.clone(), |text, node_type| with_table(&text, node_type));
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(REFERENCE, &wanted).unwrap();
        return;
    }
    for (number, (written, wanted)) in (1..).zip(written.lines().zip(wanted.lines())) {
        assert_eq!(written, wanted, "docs/topology.md:{number} is not what the node types say. Run {UPDATE}");
    }
    assert_eq!(written.lines().count(), wanted.lines().count(), "Run {UPDATE}");
    let tables = written.matches("<!-- generated: parameters of ").count();
    assert_eq!(tables, with_parameters().count(), "docs/topology.md has a table of a node type that does not exist");
}

#[test]
fn every_node_type_has_its_section_and_its_row_among_the_types() {
    let written = fs::read_to_string(REFERENCE).unwrap();
    for NodeType { name, input, .. } in REGISTRY {
        assert!(written.contains(&format!("\n### {name}\n")), "docs/topology.md has no section `### {name}`");
        let row = format!("\n| [`{name}`](#{name}) | {input} | ");
        assert!(written.contains(&row), "the table of node types in docs/topology.md has no row `{}`", row.trim());
    }
}

#[test]
fn a_parameter_that_is_shown_with_a_default_may_be_left_out() {
    for NodeType { name, params, parse, .. } in REGISTRY {
        let (items, own): (Vec<_>, Vec<_>) = params().into_iter().partition(|spec| spec.path.contains("[]."));
        let required = |specs: &[ParamSpec]| {
            let specs = specs.iter().filter(|spec| spec.default.is_none());
            specs.map(|spec| format!("{}: ~, ", spec.path.rsplit('.').next().unwrap())).collect::<String>()
        };
        let lists = items.chunk_by(|a, b| a.path.split('[').next() == b.path.split('[').next());
        let lists: String = lists
            .map(|items| format!("{}: [{{ {} }}], ", items[0].path.split('[').next().unwrap(), required(items)))
            .collect();
        let own: Vec<_> = own.into_iter().filter(|spec| !lists.contains(&format!("{}: [", spec.path))).collect();
        let yaml = format!("{{ {lists}{} }}", required(&own));
        // The values are wrong, but none is missing.
        let errors = parse("x", &Params::from_yaml(&yaml).unwrap()).err().unwrap_or_default();
        let missing = errors.iter().find(|error| error.message.ends_with("is missing"));
        assert_eq!(missing, None, "{name}: {yaml}");
    }
}
