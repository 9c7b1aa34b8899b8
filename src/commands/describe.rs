//! `tally describe`: the graph as text or Mermaid.

use super::Failure;
use super::addresses::TopologyFile;
use clap::{Args, ValueEnum};

/// Arguments of `tally describe`.
#[derive(Args)]
pub struct DescribeArgs {
    #[command(flatten)]
    file: TopologyFile,
    /// How it is drawn
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// For the terminal
    Text,
    /// For Markdown
    Mermaid,
}

/// Prints the graph.
pub fn run(args: DescribeArgs) -> Result<(), Failure> {
    let topology = args.file.load()?;
    match args.format {
        Form::Text => print!("{}", topology.describe_text()),
        Form::Mermaid => print!("{}", topology.describe_mermaid()),
    }
    Ok(())
}
