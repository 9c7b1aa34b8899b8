//! The tables of node types and of their parameters in docs/topology.md are generated from the node types.
//!
//! Each table is between two comments. With `UPDATE_DOCS` in the environment the test rewrites it, and adds the
//! section of a new node type.

use std::{env, fs};
use tally_processors::{Actions, REGISTRY};
use tally_streams::topology::{NodeType, ParamSpec, Params};

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/topology.md");
const UPDATE: &str = "UPDATE_DOCS=1 cargo test -p tally-processors --test reference";
const END: &str = "<!-- end of generated -->";

/// The heading behind the sections of all node types.
const NEXT_PART: &str = "## CEL expressions";

/// The comment before a table.
fn begin(table: &str) -> String {
    format!("<!-- generated: {table} -->")
}

fn heading(node_type: &NodeType<Actions>) -> String {
    format!("### {}", node_type.name)
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

fn table_of_types() -> String {
    let row = |node_type: &NodeType<Actions>| {
        let NodeType { name, about, input, .. } = node_type;
        format!("| [`{name}`](#{name}) | {about} | {input} | {} |\n", outputs(node_type).join(", "))
    };
    let rows: String = REGISTRY.iter().map(row).collect();
    format!("| type | | input | output |\n|---|---|---|---|\n{rows}")
}

/// What a node of this type writes to its `to`: the values of the node that it implies, if there is one.
fn outputs(node_type: &NodeType<Actions>) -> &'static [&'static str] {
    node_type.then.map_or(node_type.outputs, outputs)
}

fn table_of_parameters(specs: &[ParamSpec]) -> String {
    let row = |ParamSpec { path, kind, default, about }: &ParamSpec| {
        let default = default.as_deref().unwrap_or("required");
        format!("| `{path}` | {kind} | {default} | {about} |\n")
    };
    let rows: String = specs.iter().map(row).collect();
    format!("| parameter | type | default | meaning |\n|---|---|---|---|\n{rows}")
}

/// The text with a table between the two comments of this name; None without the comments.
fn with_table(text: &str, name: &str, table: &str) -> Option<String> {
    let begin = begin(name);
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n\n{table}\n{END}{after}"))
}

/// The text with a section for each node type, in the order of the registry, and the table of its parameters.
fn with_sections(mut text: String) -> String {
    let mut next = NEXT_PART.to_owned();
    for node_type in REGISTRY.iter().rev() {
        let (heading, specs) = (heading(node_type), specs(node_type));
        if !text.contains(&format!("\n{heading}\n")) {
            let section = format!("\n{heading}\n\n{next}\n");
            text = text.replacen(&format!("\n{next}\n"), &section, 1);
        }
        if !specs.is_empty() {
            let (name, table) = (format!("parameters of {}", node_type.name), table_of_parameters(&specs));
            if !text.contains(&begin(&name)) {
                let comments = format!("\n{heading}\n\n{}\n{END}\n", begin(&name));
                text = text.replacen(&format!("\n{heading}\n"), &comments, 1);
            }
            text = with_table(&text, &name, &table).unwrap_or_else(|| panic!("`{}` without `{END}`", begin(&name)));
        }
        next = heading;
    }
    text
}

#[test]
fn the_reference_shows_what_the_node_types_describe() {
    let written = fs::read_to_string(REFERENCE).unwrap();
    let types = with_table(&written, "node types", &table_of_types()).expect("the comments of the table of node types");
    let wanted = with_sections(types);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(REFERENCE, &wanted).unwrap();
        return;
    }
    for (number, (written, wanted)) in (1..).zip(written.lines().zip(wanted.lines())) {
        assert_eq!(written, wanted, "docs/topology.md:{number} is not what the node types say. Run {UPDATE}");
    }
    assert_eq!(written.lines().count(), wanted.lines().count(), "Run {UPDATE}");
    let with_parameters = REGISTRY.iter().filter(|node_type| !specs(node_type).is_empty()).count();
    let tables = written.matches("<!-- generated: parameters of ").count();
    assert_eq!(tables, with_parameters, "docs/topology.md has a table of a node type that does not exist");
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
