//! Outputs that readers choose by name.

use crate::dataflow::{Nothing, REGISTRY, SINK_TYPES, Test, changed};
use tally_streams::processor::Processor;
use tally_streams::topology::{
    Blueprint, BuildSite, NamedOutput, NodeType, Params, Parsed, StoreSpec, Target, Topology,
};

struct Split;

impl Blueprint<Test> for Split {
    fn stores(&self) -> Vec<StoreSpec> {
        Vec::new()
    }

    fn named_outputs(&self) -> Vec<NamedOutput> {
        let output = |name: &str, value| NamedOutput { name: name.to_owned(), value, sent_by: None };
        vec![output("part", "change"), output("events", "event")]
    }

    fn build(&self, _: &BuildSite<'_, Test>) -> Box<dyn Processor<Test>> {
        Box::new(Nothing)
    }
}

/// The good file with a node `split` of named outputs behind `calm`, and another node.
fn with_split(node: &str) -> Result<Topology<Test>, Vec<(String, Option<String>)>> {
    fn parse(_: &str, _: &Params) -> Parsed<Test> {
        Ok(Box::new(Split))
    }
    let mut registry: Vec<NodeType<Test>> = Vec::new();
    for NodeType { name, about, input, outputs, key, partitions, then, params, parse } in REGISTRY {
        let (key, partitions, then, params, parse) = (*key, *partitions, *then, *params, *parse);
        registry.push(NodeType { name, about, input, outputs, key, partitions, then, params, parse });
    }
    registry.push(NodeType {
        name: "split",
        about: "",
        input: "event",
        outputs: &[],
        key: None,
        partitions: None,
        then: None,
        params: Vec::new,
        parse,
    });
    let text = changed("\nsinks:", &format!("  split:  {{ type: split, from: calm }}\n  {node}\n\nsinks:"));
    let loaded = Topology::load("topology.yaml", &text, &registry, SINK_TYPES);
    loaded.map_err(|all| all.0.into_iter().map(|one| (one.message, one.help)).collect())
}

#[test]
fn a_named_output_goes_to_the_nodes_that_name_it() {
    let topology = with_split("more: { type: count, from: [calm, split.events], event: view }").unwrap();
    let nodes = &topology.subtopologies[0].nodes;
    let split = nodes.iter().position(|node| &*node.name == "split").unwrap();
    let more = nodes.iter().position(|node| &*node.name == "more").unwrap();
    let readers = |output: usize| nodes[split].named[output].route.targets().to_vec();
    assert_eq!((readers(0), readers(1)), (Vec::new(), vec![Target::Node(more)]));
    let site = topology.build_site(&topology.subtopologies[0], more, 0);
    assert_eq!(site.inputs.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["calm", "split"]);
    assert!(topology.describe_mermaid().contains(&format!("s0n{split} -->|events| s0n{more}")));
}

#[test]
fn mistakes_in_the_names_of_outputs_are_reported() {
    let first = |node: &str| with_split(node).err().map(|mut all| all.remove(0)).unwrap();
    let keeps = "read it with a node that keeps the key, and read that node";
    for (node, message, help) in [
        ("more: { type: total, from: split.part }", "node `more` reads `split.part` by another key", Some(keeps)),
        ("more: { type: total, from: split.prat }", "unknown input `split.prat`", Some("did you mean `split.part`?")),
        (
            "more: { type: total, from: split }",
            "node `more` takes `change`, but `split` gives nothing",
            Some("nodes that give `change`: likes, views, split.part"),
        ),
        (
            "more: { type: count, from: split.part, event: view }",
            "node `more` takes `event`, but `split.part` gives `change`",
            Some("nodes that give `event`: valid, fresh, calm, split.events"),
        ),
        (
            "more: { type: count, from: calm, event: view, to: split.part }",
            "`split.part` is a node; `to` names topics",
            Some("a node names what it reads in its own `from`"),
        ),
    ] {
        assert_eq!(first(node), (message.to_owned(), help.map(str::to_owned)), "{node}");
    }
}
