//! `tally check`: is the topology well formed?

use super::Failure;
use super::addresses::TopologyFile;
use clap::Args;

/// Arguments of `tally check`.
#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    file: TopologyFile,
}

/// Prints a summary, or everything that is wrong (exit code 1).
pub fn run(args: CheckArgs) -> Result<(), Failure> {
    let name = args.file.topology.display();
    let unread = args.file.topology.metadata().is_err();
    let topology = args.file.load().map_err(|failure| match failure {
        // A file that cannot be read is wrong usage; one that is wrong is what this command is asked about.
        Failure::Usage(reason) if !unread => Failure::No(reason),
        other => other,
    })?;
    let nodes = topology.subtopologies.iter().flat_map(|subtopology| &subtopology.nodes);
    let nodes = nodes.filter(|node| !node.implied).count();
    let (topics, sinks) = (topology.topics.len(), topology.sinks.len());
    println!(
        "{name}: well formed: {nodes} processors in {} subtopologies, {topics} topics, {sinks} sinks",
        topology.subtopologies.len()
    );
    Ok(())
}
