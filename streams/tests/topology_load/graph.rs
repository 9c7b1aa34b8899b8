//! What a good file becomes.

use crate::dataflow::{GOOD, REGISTRY, SINK_TYPES, Test, changed, changed_in, load};
use std::time::Duration;
use tally_streams::log::{Cleanup, TopicSpec};
use tally_streams::topology::{NodeType, OnError, Output, Repartition, Sink, Subtopology, Target, Topology};

fn loaded(text: &str) -> Topology<Test> {
    load(text).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

fn names(topology: &Topology<Test>) -> Vec<&str> {
    topology.subtopologies.iter().map(|subtopology| &*subtopology.name).collect()
}

fn edge(name: &str) -> usize {
    use tally_streams::processor::Dataflow;
    Test::EDGE_TYPES.iter().position(|edge| *edge == name).unwrap_or(usize::MAX)
}

/// Where values of an edge type go from a node.
fn route<'t>(subtopology: &'t Subtopology<Test>, node: &str, edge_type: &str) -> &'t [Target] {
    let node = subtopology.nodes.iter().find(|other| &*other.name == node);
    node.map_or(&[], |node| node.routes[edge(edge_type)].targets())
}

#[test]
fn settings_and_their_defaults() {
    let settings = loaded(GOOD).settings;
    assert_eq!(settings.application, "test");
    assert_eq!(settings.commit_interval, Duration::from_millis(50));
    assert_eq!(settings.late_after, Duration::from_secs(7_200));
    let settings = loaded(&changed("late_after: 2h", "commit_interval: 10s")).settings;
    assert_eq!(settings.commit_interval, Duration::from_secs(10));
    assert_eq!(settings.late_after, Duration::from_secs(86_400));
}

#[test]
fn subtopologies_are_cut_where_the_key_changes() {
    let topology = loaded(GOOD);
    assert_eq!(&*topology.root, "actions");
    assert_eq!(names(&topology), ["actions", "by-subject_id"]);
    let [first, second] = [&topology.subtopologies[0], &topology.subtopologies[1]];
    assert_eq!((&*first.source, first.upstream, first.key.as_str()), ("actions", None, "actor_id"));
    let hop = "test-actions-by-subject_id-repartition";
    assert_eq!((&*second.source, second.upstream, second.key.as_str()), (hop, Some(0), "subject_id"));
    assert_eq!((&*first.changelog, &*second.changelog), ("test-actions-changelog", "test-by-subject_id-changelog"));
    assert_eq!((first.partitions, second.partitions), (4, 4));
    assert_eq!(first.hops, [Repartition { topic: hop.into(), by: "subject_id".into(), partitions: 4 }]);
    assert_eq!(second.hops, []);
    assert_eq!((first.entries.as_slice(), second.entries.as_slice()), (&[0][..], &[0, 1][..]));
    let stores = |of: &Subtopology<Test>| of.stores.iter().map(|store| store.name.clone()).collect::<Vec<_>>();
    assert_eq!(stores(first), ["fresh", "likes", "views"]);
    assert_eq!(stores(second), ["totals"]);
}

#[test]
fn nodes_keep_what_the_file_says_of_them() {
    let topology = loaded(GOOD);
    let likes = &topology.subtopologies[0].nodes[3];
    assert_eq!((&*likes.name, likes.type_name, likes.input), ("likes", "count", "event"));
    assert_eq!((likes.from.as_slice(), likes.on_error), (&["calm".to_owned()][..], OnError::Halt));
    assert_eq!(topology.subtopologies[1].nodes[0].from, ["likes", "views"]);
}

#[test]
fn values_go_to_every_reader_of_their_type_once() {
    let topology = loaded(GOOD);
    let (first, second) = (&topology.subtopologies[0], &topology.subtopologies[1]);
    assert_eq!(route(first, "calm", "event"), [Target::Node(3), Target::Node(4)]);
    // Two readers behind one hop.
    assert_eq!(route(first, "likes", "change"), [Target::Hop(0)]);
    assert_eq!(route(second, "hot", "ranking"), [Target::Output(1)]);
    // No node takes events as verdicts or changes as events.
    assert_eq!(route(first, "likes", "event"), []);
    assert_eq!(route(first, "valid", "verdict"), [Target::Output(0)]);
    assert_eq!(route(first, "likes", "verdict"), [], "only types that list verdicts have the route");
}

#[test]
fn verdicts_and_dead_letters_are_implicit_outputs() {
    let topology = loaded(GOOD);
    let output = |topic: &str, partitions, co_partitioned| Output { topic: topic.into(), partitions, co_partitioned };
    let (first, second) = (&topology.subtopologies[0], &topology.subtopologies[1]);
    // Raw topics may have another number of partitions.
    assert_eq!(first.outputs, [output("verdicts", 4, true), output("dead-letters", 1, false)]);
    assert_eq!(first.dead_letters, Some(1));
    let dead_letters = output("dead-letters", 1, false);
    assert_eq!(second.outputs, [output("counters", 4, true), output("rankings", 4, true), dead_letters]);
    assert_eq!(second.dead_letters, Some(2));

    let text = changed_in(GOOD, ", on_error: dead-letter", "");
    let without: String = (text.lines().filter(|line| !line.contains("verdicts:") && !line.contains("dead-letters:")))
        .map(|line| format!("{line}\n"))
        .collect();
    let topology = loaded(&without);
    assert_eq!(topology.subtopologies[0].outputs, []);
    assert_eq!(topology.subtopologies[0].dead_letters, None);
    assert_eq!(route(&topology.subtopologies[0], "valid", "verdict"), []);
}

#[test]
fn a_verdict_may_be_written_down_too() {
    let topology = loaded(&changed("from: valid }", "from: valid, to: verdicts }"));
    assert_eq!(route(&topology.subtopologies[0], "fresh", "verdict"), [Target::Output(0)]);
}

#[test]
fn nodes_may_stand_in_any_order() {
    let text = changed("  valid:  { type: decode, from: actions, on_error: dead-letter }\n", "");
    let text = changed_in(&text, "\nsinks:", "  valid:  { type: decode, from: actions }\n\nsinks:");
    let topology = loaded(&text);
    let nodes: Vec<&str> = topology.subtopologies[0].nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(nodes, ["valid", "fresh", "calm", "likes", "views"]);
    assert_eq!(topology.fingerprint(), loaded(GOOD).fingerprint());
}

#[test]
fn by_chooses_the_key_and_the_upstreams_key_makes_no_hop() {
    let text = changed("from: [likes, views], to: counters", "from: [likes, views], by: actor_id, to: counters");
    let topology = loaded(&text);
    let total = topology.subtopologies[0].nodes.iter().find(|node| &*node.name == "totals");
    assert!(total.is_some(), "{}", topology.describe_text());
    assert_eq!(names(&topology), ["actions", "by-subject_id"]);
    let text = changed("from: [likes, views], to: counters", "from: [likes, views], by: tag, to: counters");
    assert_eq!(names(&loaded(&text)), ["actions", "by-tag", "by-subject_id"]);
}

#[test]
fn a_subtopology_is_named_after_its_key_and_after_its_source_where_that_is_taken() {
    let deeper = "  board:  { type: merge,  from: hot }
  again:  { type: again,  from: totals, by: board }
  back:   { type: again,  from: again }

sinks:";
    let topology = loaded(&changed("\nsinks:", deeper));
    let rows: Vec<(&str, &str, Option<usize>)> = (topology.subtopologies.iter())
        .map(|subtopology| (&*subtopology.name, &*subtopology.source, subtopology.upstream))
        .collect();
    let expected = [
        ("actions", "actions", None),
        ("by-subject_id", "test-actions-by-subject_id-repartition", Some(0)),
        // `board` and `again` share it.
        ("by-board", "test-by-subject_id-by-board-repartition", Some(1)),
        ("by-board-by-subject_id", "test-by-board-by-subject_id-repartition", Some(2)),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn names_of_subtopologies_do_not_depend_on_the_order_of_the_file() {
    // `by-b` is fed from `by-a` and from the root; the subtopology fed from the root has the short name, wherever it is
    // in the file.
    let nodes = ["  x: { type: again, from: w, by: b }\n", "  y: { type: total, from: views, by: b }\n"];
    let with = |nodes: &str| {
        let text = format!("  w: {{ type: total, from: likes, by: a }}\n{nodes}\nsinks:");
        let topology = loaded(&changed("\nsinks:", &text));
        let of = |name: &str| {
            let holds = |subtopology: &&std::sync::Arc<Subtopology<Test>>| {
                subtopology.nodes.iter().any(|node| &*node.name == name)
            };
            topology.subtopologies.iter().find(holds).map(|subtopology| subtopology.name.to_string())
        };
        (of("x"), of("y"), topology.fingerprint())
    };
    let (x, y, fingerprint) = with(&nodes.concat());
    assert_eq!((x.as_deref(), y.as_deref()), (Some("by-a-by-b"), Some("by-b")));
    assert_eq!(with(&[nodes[1], nodes[0]].concat()), (x, y, fingerprint));
}

#[test]
fn topics_have_as_many_partitions_as_the_root_where_the_file_does_not_say() {
    let topology = loaded(GOOD);
    assert_eq!(topology.topics["counters"].spec.partitions, 4);
    let topology = loaded(&changed(", partitions: 4", ""));
    assert_eq!(topology.topics["actions"].spec.partitions, 16);
    assert_eq!(topology.topics["counters"].spec.partitions, 16);
    let rankings = &topology.topics["rankings"];
    assert_eq!((rankings.key.join(" "), rankings.partition_by.join(" ")), ("board subject_id".into(), "board".into()));
    assert_eq!(rankings.value, "ranking");
}

#[test]
fn topic_specs_are_those_of_the_file_and_the_internal_ones() {
    let day = Duration::from_secs(86_400);
    let spec = |name: &str, partitions, cleanup, retention| TopicSpec {
        name: name.into(),
        partitions,
        cleanup,
        retention,
        retention_bytes: None,
    };
    let expected = [
        spec("actions", 4, Cleanup::Delete, None),
        spec("counters", 4, Cleanup::Compact, None),
        spec("dead-letters", 1, Cleanup::Delete, Some(14 * day)),
        spec("rankings", 4, Cleanup::CompactAndDelete, Some(90 * day)),
        spec("verdicts", 4, Cleanup::Delete, Some(day)),
        spec("test-actions-by-subject_id-repartition", 4, Cleanup::Delete, None),
        spec("test-actions-changelog", 4, Cleanup::Delete, None),
        spec("test-by-subject_id-changelog", 4, Cleanup::Delete, None),
        spec("test-idle", 4, Cleanup::Delete, None),
        spec("test-progress", 4, Cleanup::CompactAndDelete, None),
        spec("test-control", 1, Cleanup::Compact, None),
    ];
    assert_eq!(loaded(GOOD).topic_specs(), expected);
}

#[test]
fn sinks_and_their_defaults() {
    let sink = |name: &str, from: &[&str], records_max, linger_ms| Sink {
        name: name.into(),
        kind: if name == "cache" { "cache" } else { "database" },
        url: None,
        from: from.iter().map(|topic| (*topic).into()).collect(),
        records_max,
        linger: Duration::from_millis(linger_ms),
    };
    let expected = [sink("database", &["counters", "rankings"], 500, 100), sink("cache", &["counters"], 1_000, 10)];
    assert_eq!(loaded(GOOD).sinks, expected);
    let (without, _) = GOOD.split_once("\nsinks:").unwrap_or_default();
    assert_eq!(loaded(without).sinks, []);
    let at = |url: &str| {
        let text = changed("type: cache, from: counters", &format!("type: cache, from: counters, url: \"{url}\""));
        loaded(&text).sinks.remove(1).url
    };
    for url in ["redis://h", "redis://:${PASSWORD} @h", "${CACHE_URL}", "${SCHEME}:h"] {
        assert_eq!(at(url).map(|at| at.written().to_owned()).as_deref(), Some(url));
    }
}

#[test]
fn anchors_aliases_and_merge_keys_are_written_out() {
    let text = changed("views:  { type: count,  from: calm, event: view", "views:  { <<: *counting, event: view");
    let text = changed_in(&text, "likes:  {", "likes:  &counting {");
    let views = |text: &str| {
        let topology = loaded(text);
        let node = topology.subtopologies[0].nodes.iter().find(|node| &*node.name == "views");
        node.map(|node| (node.type_name, node.from.clone(), node.on_error))
    };
    // It takes the missing keys from `likes`.
    assert_eq!(views(&text), Some(("count", vec!["calm".into()], OnError::Halt)));
}

#[test]
fn a_mistake_within_an_anchor_is_reported_once_where_it_stands() {
    let text = changed("late_after: 2h", "late_after: 2h\n");
    let text = changed_in(
        &text,
        "  likes:  { type: count,  from: calm, event: like",
        "  likes:  { type: count,  from: &in clam, event: like",
    );
    let text = changed_in(&text, "from: calm, event: view", "from: *in, event: view");
    let diagnostics = load(&text).err().map(|all| all.to_string()).unwrap_or_default();
    assert!(diagnostics.starts_with("topology.yaml:18:37: unknown input `clam`\n"), "{diagnostics}");
    assert_eq!(diagnostics.matches("unknown input").count(), 1, "{diagnostics}");
}

#[test]
fn too_many_subtopologies_are_refused() {
    let nodes: String = (0..80).map(|i| format!("  t{i}: {{ type: total, from: likes, by: k{i} }}\n")).collect();
    let diagnostics =
        load(&changed("\nsinks:", &format!("{nodes}\nsinks:"))).err().map(|all| all.0).unwrap_or_default();
    // The root's, `by-subject_id` and 62 more.
    assert_eq!(diagnostics.len(), 80 - 62);
    assert_eq!(diagnostics[0].message, "this would be subtopology number 65");
}

#[test]
fn names_that_meet_those_of_internal_topics_are_refused() {
    let first = |text: &str| load(text).err().map(|all| all.0[0].message.clone()).unwrap_or_default();
    let text = GOOD
        .replace("counters: ", "test-by-subject_id-changelog: ")
        .replace("counters }", "test-by-subject_id-changelog }");
    let text = text.replace("[counters,", "[test-by-subject_id-changelog,");
    assert_eq!(first(&text), "`test-by-subject_id-changelog` is the name of an internal topic");
    let text = GOOD.replace("actions", "by-actions");
    assert_eq!(first(&text), "`by-actions` cannot be the name of the topic that is read");
    let text = GOOD.replace("actions", &"a".repeat(240));
    assert_eq!(first(&text), "an internal topic named after this one would have a name of 271 bytes");
}

#[test]
fn a_verdict_from_behind_a_hop_is_not_co_partitioned() {
    fn parse(
        node: &str,
        params: &tally_streams::topology::Params,
    ) -> Result<Box<dyn tally_streams::topology::Blueprint<Test>>, Vec<tally_streams::topology::ParamError>> {
        let total = REGISTRY.iter().find(|node_type| node_type.name == "total");
        total.map_or_else(|| Err(Vec::new()), |total| (total.parse)(node, params))
    }
    let strict = NodeType {
        name: "strict",
        about: "",
        input: "change",
        outputs: &["counters", "verdict"],
        key: Some("subject_id"),
        partitions: None,
        then: None,
        params: Vec::new,
        parse,
    };
    let mut registry: Vec<NodeType<Test>> = Vec::new();
    for NodeType { name, about, input, outputs, key, partitions, then, params, parse } in REGISTRY {
        let (key, partitions, then, params, parse) = (*key, *partitions, *then, *params, *parse);
        registry.push(NodeType { name, about, input, outputs, key, partitions, then, params, parse });
    }
    registry.push(strict);
    let text = changed("type: total, ", "type: strict,");
    let topology = Topology::load("topology.yaml", &text, &registry, SINK_TYPES);
    let topology = topology.unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    let co_partitioned = |at: usize| {
        let outputs = &topology.subtopologies[at].outputs;
        outputs.iter().find(|output| &*output.topic == "verdicts").map(|output| output.co_partitioned)
    };
    assert_eq!((co_partitioned(0), co_partitioned(1)), (Some(true), Some(false)));
}

/// The good file with a node that implies another, writing a topic of one partition.
fn with_leaders(to: &str) -> String {
    let text =
        changed("retention: 90d }", "retention: 90d }\n  leaders:      { key: board, value: ranking, partitions: 1 }");
    let node = format!("  best:   {{ type: leaders, from: likes, score: {{ likes: 1 }}, top: 3, to: {to} }}\n\nsinks:");
    changed_in(&text, "\nsinks:", &node)
}

#[test]
fn a_node_may_imply_another_that_writes_what_it_is_to_write() {
    let topology = loaded(&with_leaders("leaders"));
    assert_eq!(names(&topology), ["actions", "by-subject_id", "by-board"]);
    let [_, first, second] = topology.subtopologies.as_slice() else { panic!("three") };
    assert_eq!(first.hops[0].partitions, 1);
    assert!(first.outputs.iter().all(|output| &*output.topic != "leaders"));
    assert_eq!((&*second.source, second.partitions), ("test-by-subject_id-by-board-repartition", 1));
    let node = &second.nodes[0];
    assert_eq!((&*node.name, node.implied, node.from.as_slice()), ("best.sum-up", true, &["best".to_owned()][..]));
    assert_eq!(route(first, "best", "top"), [Target::Hop(0)]);
    assert_eq!(route(second, "best.sum-up", "ranking"), [Target::Output(0)]);
    assert!(second.outputs[0].co_partitioned);
    assert_eq!(second.stores[0].name, "best");
    let site = topology.build_site(second, 0, 0);
    assert_eq!((site.upstream_tasks, site.inputs[0].0), (4, "best"));
    let specs = topology.topic_specs();
    let partitions = |name: &str| specs.iter().find(|spec| spec.name == name).map(|spec| spec.partitions);
    assert_eq!(partitions("test-by-subject_id-by-board-repartition"), Some(1));
    assert_eq!(partitions("test-by-board-changelog"), Some(1));
}

#[test]
fn what_is_wrong_with_an_implied_node_is_said_of_the_node_that_stands_in_the_file() {
    let all = |text: &str| load(text).err().map(|all| all.0).unwrap_or_default();
    let first = |text: &str| all(text)[0].message.clone();
    assert_eq!(first(&with_leaders("counters")), "topic `counters` holds `counters`, but node `best` gives `ranking`");
    let of_four = with_leaders("leaders").replace("partitions: 1 }\n  verdicts", "partitions: 4 }\n  verdicts");
    let expected = "topic `leaders` has 4 partitions, but subtopology `by-board`, which writes it, reads 1: \
                    progress is kept per partition";
    assert_eq!(first(&of_four), expected);
    let unknown = with_leaders("leaders").replace("score: { likes: 1 }, top: 3", "scores: { likes: 1 }, top: 3");
    assert!(first(&unknown).contains("`scores`"), "{}", first(&unknown));
    assert_eq!(all(&unknown).len(), 1);
}
