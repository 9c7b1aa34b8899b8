//! `tally schema`: JSON Schema of events and of topology files.

mod topology;

use super::Failure;
use super::addresses::TopologyFile;
use crate::process::types_taken;
use clap::{Args, ValueEnum};
use tally_ingest::http::event_schema;

/// Arguments of `tally schema`.
#[derive(Args)]
pub struct SchemaArgs {
    /// What to describe
    #[arg(value_enum)]
    of: Document,
    #[command(flatten)]
    file: TopologyFile,
}

#[derive(Clone, Copy, ValueEnum)]
enum Document {
    /// The events that the ingest API accepts with this topology
    Events,
    /// Topology files, for editors
    Topology,
}

/// Prints the schema.
pub fn run(args: SchemaArgs) -> Result<(), Failure> {
    let schema = match args.of {
        Document::Events => event_schema(&types_taken(&args.file.load()?)),
        Document::Topology => topology::schema(),
    };
    println!("{schema:#}");
    Ok(())
}
