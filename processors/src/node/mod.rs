//! The node types, one file or folder each: parameters, blueprint, processor, tests. A topology may name those of
//! [`REGISTRY`].

pub mod aggregate;
pub mod board;
pub mod decode;
pub mod dedupe;
pub mod derive;
pub mod filter;
pub mod rate_check;
pub mod route;
pub mod toggle;
pub mod total;

use crate::dataflow::Actions;
use tally_streams::topology::NodeType;

/// Every node type, in the order of the reference.
pub const REGISTRY: &[NodeType<Actions>] = &[
    decode::NODE_TYPE,
    dedupe::NODE_TYPE,
    rate_check::NODE_TYPE,
    filter::NODE_TYPE,
    derive::NODE_TYPE,
    route::NODE_TYPE,
    toggle::NODE_TYPE,
    aggregate::count::NODE_TYPE,
    aggregate::unique::NODE_TYPE,
    aggregate::NODE_TYPE,
    total::NODE_TYPE,
    board::NODE_TYPE,
];
