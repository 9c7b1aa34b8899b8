//! `tally run`: everything in one process.

use super::Failure;
use super::addresses::StateArgs;
use super::roles::{CallerArgs, IntakeArgs, ReaderArgs, StreamArgs};
use crate::process::{Roles, serve};
use clap::Args;

/// Arguments of `tally run`.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    reader: ReaderArgs,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    streams: StreamArgs,
    #[command(flatten)]
    intake: IntakeArgs,
    #[command(flatten)]
    callers: CallerArgs,
    /// Send sample traffic to this process, in events per second; 200 without a value
    #[arg(
        long,
        value_name = "RATE",
        num_args = 0..=1,
        default_missing_value = "200",
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    demo: Option<u32>,
}

/// Runs until SIGTERM or SIGINT, or until a part cannot go on.
pub fn run(args: RunArgs) -> Result<(), Failure> {
    serve(Roles {
        ingest: Some(args.intake),
        process: Some((args.streams, args.state.clone())),
        sink: Some((args.reader.stores.clone(), args.state)),
        demo: args.demo,
        ..args.reader.roles(args.callers)
    })
}
