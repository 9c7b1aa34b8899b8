//! `cloud_event_types` of a topology: what CloudEvents call the types that nodes take.

use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::topology::Topology;
use tally_testkit::SHIPPED_TOPOLOGY;

/// The shipped topology with such a section; its mistakes, each with its place and its help.
fn load(section: &str) -> Result<Topology<Actions>, Vec<String>> {
    let text = format!("{SHIPPED_TOPOLOGY}\ncloud_event_types:\n{section}\n");
    Topology::load("t.yaml", &text, REGISTRY, SINK_TYPES)
        .map_err(|diagnostics| diagnostics.0.iter().map(ToString::to_string).collect())
}

#[test]
fn names_from_outside_stand_for_types_that_nodes_take() {
    let topology = load("  com.example.article.liked: like\n  \"urn:x:read\": read\n  view: view").unwrap();
    let names: Vec<_> =
        topology.cloud_event_types.iter().map(|(name, meant)| (name.as_str(), meant.as_str())).collect();
    assert_eq!(names, [("com.example.article.liked", "like"), ("urn:x:read", "read"), ("view", "view")]);
    // They change nothing that the state depends on.
    let plain = Topology::load("t.yaml", SHIPPED_TOPOLOGY, REGISTRY, SINK_TYPES).unwrap();
    assert_eq!(topology.fingerprint(), plain.fingerprint());
    assert!(load("").unwrap().cloud_event_types.is_empty());
}

#[test]
fn each_mistake_is_named_with_its_place() {
    let first = SHIPPED_TOPOLOGY.lines().count() + 3;
    let long = format!("  {}: like", "x".repeat(257));
    for (section, message, help) in [
        ("  com.example.liked: liek", "no node takes events of the type `liek`", "did you mean `like`?"),
        ("  com.example.collected: collect", "no node takes events of the type `collect`", "known types: "),
        ("  like: unlike", "`like` is a type already", "leave this line out"),
        ("  \"a b\": like", "`a b` cannot be the type of a CloudEvent", "without blanks"),
        ("  \"\": like", "`` cannot be the type", "256 bytes"),
        (&long, "cannot be the type", "256 bytes"),
        ("  a: 1", "expected a name, found the number 1", ""),
        ("  a: like\n  a: view", "`a` is here twice", "keep one"),
        ("  - like", "must be a mapping", ""),
    ] {
        let mistakes = load(section).err().unwrap_or_default();
        let [mistake] = &mistakes[..] else { panic!("{section}: {mistakes:?}") };
        assert!(mistake.contains(message) && mistake.contains(help), "{section}: {mistake}");
        assert!(mistake.starts_with(&format!("t.yaml:{}:", first + section.lines().count() - 1)), "{mistake}");
    }
}
