//! The node types that a topology may name.

use crate::dataflow::Actions;
use crate::node;
use tally_streams::topology::NodeType;

/// Every node type.
pub const REGISTRY: &[NodeType<Actions>] = &[
    node::decode::NODE_TYPE,
    node::dedupe::NODE_TYPE,
    node::rate_check::NODE_TYPE,
    node::toggle::NODE_TYPE,
    node::count::NODE_TYPE,
    node::unique::NODE_TYPE,
    node::total::NODE_TYPE,
    node::board::NODE_TYPE,
];
