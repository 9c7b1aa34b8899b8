//! `tally check`: is the topology well formed?

use super::Failure;
use super::addresses::TopologyFile;
use clap::Args;
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::topology::{Topology, count};

/// Arguments of `tally check`.
#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    file: TopologyFile,
}

/// Prints a summary, or everything that is wrong (exit code 1).
pub fn run(args: CheckArgs) -> Result<(), Failure> {
    // An unreadable file is wrong usage; mistakes in the file are the result of this command.
    let (name, text) = args.file.read()?;
    let topology = Topology::<Actions>::load(&name, &text, REGISTRY, SINK_TYPES).map_err(Failure::no)?;
    let nodes = topology.subtopologies.iter().flat_map(|subtopology| &subtopology.nodes);
    let nodes = nodes.filter(|node| !node.implied).count();
    let subtopologies = topology.subtopologies.len();
    println!(
        "{name}: well formed: {} in {subtopologies} {}, {}, {}",
        count(nodes, "processor"),
        if subtopologies == 1 { "subtopology" } else { "subtopologies" },
        count(topology.topics.len(), "topic"),
        count(topology.sinks.len(), "sink"),
    );
    Ok(())
}
