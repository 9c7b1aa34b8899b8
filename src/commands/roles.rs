//! `tally ingest`, `process`, `sink` and `api`: the parts of `tally run`, one a process.

use super::Failure;
use super::addresses::{PageArgs, ReadArgs, SiteArgs, StateArgs, StoreArgs};
use crate::process::{Roles, serve};
use clap::Args;

/// How a door is set up.
#[derive(Args, Clone, Debug)]
pub struct DoorArgs {
    /// Proxies whose X-Forwarded-For is believed: addresses or networks, separated by commas
    #[arg(long, env = "TALLY_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<String>,
}

/// How stream threads are set up.
#[derive(Args, Clone, Debug)]
pub struct StreamArgs {
    /// Stream threads; by default one per core
    #[arg(long, env = "TALLY_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Accept stores and subtopologies that the running generation does not have: they start empty
    #[arg(long)]
    pub accept_added: bool,
    /// From now on write records that only this release and later ones read: once all processes run this release
    #[arg(long)]
    pub raise_wire_version: bool,
}

/// Arguments of `tally ingest`.
#[derive(Args)]
pub struct IngestArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    door: DoorArgs,
}

/// Arguments of `tally process`.
#[derive(Args)]
pub struct ProcessArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    streams: StreamArgs,
}

/// Arguments of `tally sink`.
#[derive(Args)]
pub struct SinkArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    stores: StoreArgs,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `tally api`.
#[derive(Args)]
pub struct ApiArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    stores: StoreArgs,
    #[command(flatten)]
    reads: ReadArgs,
    #[command(flatten)]
    page: PageArgs,
}

/// Takes events until SIGTERM or SIGINT.
pub fn ingest(args: IngestArgs) -> Result<(), Failure> {
    serve(Roles { ingest: Some(args.door), ..Roles::none(args.site) })
}

/// Counts until SIGTERM or SIGINT, or until it cannot go on.
pub fn process(args: ProcessArgs) -> Result<(), Failure> {
    serve(Roles { process: Some((args.streams, args.state)), ..Roles::none(args.site) })
}

/// Writes to the stores until SIGTERM or SIGINT, or until it cannot go on.
pub fn sink(args: SinkArgs) -> Result<(), Failure> {
    serve(Roles { sink: Some((args.stores, args.state)), ..Roles::none(args.site) })
}

/// Answers readers until SIGTERM or SIGINT.
pub fn api(args: ApiArgs) -> Result<(), Failure> {
    serve(Roles { api: Some((args.stores, args.reads)), page: args.page, ..Roles::none(args.site) })
}
