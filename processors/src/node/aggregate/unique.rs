//! `type: unique`: a short form of `aggregate` with one value, the number of distinct actors. Exact up to 256, then an
//! estimate (see [`crate::Sketch`]).

use super::argument::Argument;
use super::params::add_faults;
use super::short::Short;
use crate::counting::aggregation::Function;
use crate::counting::windows;
use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::facts::Emit;
use crate::params::{code, one_of, params};
use serde::{Deserialize, Serialize};
use tally_streams::topology::{ConfigDuration, NodeType, Params, Parsed};

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "unique",
    about: "counts the distinct actors of each subject",
    input: EdgeType::Event.name(),
    outputs: &[EdgeType::Change.name()],
    key: None,
    partitions: None,
    then: None,
    params: UniqueParams::specs,
    parse,
};

params! {
    /// Parameters of `type: unique`.
    pub struct UniqueParams {
        /// Type of the events whose actors are counted.
        #[param("event type")]
        pub event: String,
        /// Field that identifies a visitor.
        #[param(one_of([VisitorField::ActorId]))]
        pub by: VisitorField,
        /// Lengths of the fixed windows, each once. All time is always counted.
        #[param("list of durations", default = "none", limits = windows::LIMITS)]
        #[serde(default)]
        pub windows: Vec<ConfigDuration>,
        /// When the value of a window is written.
        #[param(one_of([Emit::OnUpdate, Emit::OnClose]), default = code(Emit::default()), limits = windows::EMIT)]
        pub emit: Option<Emit>,
    }
}

/// Field that identifies a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisitorField {
    /// The actor.
    ActorId,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    let UniqueParams { event, by: VisitorField::ActorId, windows, emit } = params.parse()?;
    let mut errors = Vec::new();
    let function = Function::Distinct;
    let argument = Argument::compile("actor_id", function);
    let argument = argument.map_err(|faults| add_faults("by", faults, &mut errors)).ok();
    let short = Short { event, windows, emit, function, argument };
    short.check(node, errors).map(|aggregate| Box::new(aggregate) as _)
}
