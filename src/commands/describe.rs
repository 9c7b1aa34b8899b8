//! `tally describe`: the graph as text or Mermaid.

use super::Failure;
use super::addresses::TopologyFile;
use clap::{Args, ValueEnum};

/// Arguments of `tally describe`.
#[derive(Args)]
pub struct DescribeArgs {
    #[command(flatten)]
    file: TopologyFile,
    /// Output format
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// Tables for the terminal
    Text,
    /// A Mermaid flowchart for Markdown
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
