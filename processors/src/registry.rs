//! The one table of node types.

use crate::item::Actions;
use crate::node::{board, count, decode, dedupe, rate_check, toggle, total, unique};
use tally_streams::topology::NodeType;

/// The types of sinks that the binary can make.
pub const SINK_TYPES: &[&str] = &["database", "cache"];

/// Every node type.
pub const REGISTRY: &[NodeType<Actions>] = &[
    NodeType {
        name: "decode",
        about: "raw records become events; what is no valid event becomes a dead letter",
        input: "raw",
        outputs: &["event", "verdict"],
        key: None,
        partitions: None,
        then: None,
        parse: decode::parse,
    },
    NodeType {
        name: "dedupe",
        about: "an event counts once; late ones not at all",
        input: "event",
        outputs: &["event", "verdict"],
        key: None,
        partitions: None,
        then: None,
        parse: dedupe::parse,
    },
    NodeType {
        name: "rate_check",
        about: "at most so many events per key and window",
        input: "event",
        outputs: &["event", "verdict"],
        key: None,
        partitions: None,
        then: None,
        parse: rate_check::parse,
    },
    NodeType {
        name: "toggle",
        about: "like and unlike: the latest effective time wins, only a change counts",
        input: "event",
        outputs: &["change", "reaction", "verdict"],
        key: None,
        partitions: None,
        then: None,
        parse: toggle::parse,
    },
    NodeType {
        name: "count",
        about: "every event of a type counts one",
        input: "event",
        outputs: &["change", "verdict"],
        key: None,
        partitions: None,
        then: None,
        parse: count::parse,
    },
    NodeType {
        name: "unique",
        about: "distinct actors per subject",
        input: "event",
        outputs: &["change"],
        key: None,
        partitions: None,
        then: None,
        parse: unique::parse,
    },
    NodeType {
        name: "total",
        about: "adds changes up per subject, for all time and in windows",
        input: "change",
        outputs: &["counters", "counter"],
        key: Some("subject_id"),
        partitions: None,
        then: None,
        parse: total::parse,
    },
    NodeType {
        name: "board",
        about: "the subjects with the highest scores, decaying or within a window",
        input: "change",
        outputs: &["top"],
        key: Some("subject_id"),
        partitions: None,
        then: Some(&MERGE),
        parse: board::parse,
    },
];

/// What every board implies. One partition: boards are few and small.
const MERGE: NodeType<Actions> = NodeType {
    name: "merge",
    about: "one board of the tops of all partitions",
    input: "top",
    outputs: &["ranking"],
    key: Some("board"),
    partitions: Some(1),
    then: None,
    parse: board::merge::parse,
};
