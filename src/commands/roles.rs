//! `tally ingest`, `process`, `sink` and `api`: the parts of `tally run`, one a process.

use super::Failure;
use super::addresses::{ClockArgs, IngestPlace, PageArgs, ReadArgs, SiteArgs, StateArgs, StoreArgs};
use crate::process::{Roles, serve};
use clap::Args;
use tally_http::TrustedProxies;

/// Options for callers of the ingest API and of routes that write to the database.
#[derive(Args, Clone, Debug)]
pub struct CallerArgs {
    /// Proxies whose X-Forwarded-For is trusted: addresses or networks
    #[arg(long, env = "TALLY_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<String>,
    /// Toggle events (like, unlike, follow, collect, …) per minute of one actor from one address; 600 by default; 0 for no
    /// limit
    #[arg(long, env = "TALLY_LIMIT_ACTOR", value_name = "N")]
    pub limit_actor: Option<u32>,
    /// Events and collects per minute from one address; unlimited by default and with 0
    #[arg(long, env = "TALLY_LIMIT_IP", value_name = "N")]
    pub limit_ip: Option<u32>,
    /// IPv6 addresses that share a prefix of this length (1 to 128) count as one address for these limits; 64 by default
    #[arg(long, env = "TALLY_LIMIT_IPV6_PREFIX", value_name = "BITS", value_parser = clap::value_parser!(u8).range(1..=128))]
    pub limit_ipv6_prefix: Option<u8>,
}

/// The default: switches per minute of one actor from one address.
const LIMIT_ACTOR: u32 = 600;

impl CallerArgs {
    /// Switches a minute of one actor from one address; None without end.
    pub fn per_actor(&self) -> Option<u32> {
        Some(self.limit_actor.unwrap_or(LIMIT_ACTOR)).filter(|limit| *limit > 0)
    }

    /// Actions a minute from one address; None without end.
    pub fn per_ip(&self) -> Option<u32> {
        self.limit_ip.filter(|limit| *limit > 0)
    }

    /// The proxies whose word is taken.
    pub fn proxies(&self) -> Result<TrustedProxies, Failure> {
        TrustedProxies::parse(&self.trusted_proxy).map_err(|e| Failure::usage(format!("--trusted-proxy: {e}")))
    }

    /// An option that was given; None where there is none.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--trusted-proxy", !self.trusted_proxy.is_empty()),
            ("--limit-actor", self.limit_actor.is_some()),
            ("--limit-ip", self.limit_ip.is_some()),
            ("--limit-ipv6-prefix", self.limit_ipv6_prefix.is_some()),
        ];
        given.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }
}

/// How the ingest service is set up.
#[derive(Args, Clone, Debug)]
pub struct IntakeArgs {
    /// Reject reads without a read token, which proves how long the page was open
    #[arg(long, env = "TALLY_REQUIRE_READ_TOKEN", value_parser = clap::builder::BoolishValueParser::new())]
    pub require_read_token: bool,
}

/// The Redis through which ingest processes share their limits.
#[derive(Args, Clone, Debug)]
pub struct LimitCacheArgs {
    /// Redis through which ingest processes share rate limits: the address of the cache; memory: for none
    #[arg(long, env = "TALLY_CACHE", value_name = "URL", default_value = "memory:", hide_env_values = true)]
    pub cache: String,
}

/// How stream threads are set up.
#[derive(Args, Clone, Debug)]
pub struct StreamArgs {
    /// Stream threads, 1 to 256 and at most one per partition of the root topic; one per core by default
    #[arg(long, env = "TALLY_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Memory that the state of all tasks may take in MiB, by estimate. Above it, entries that checkpoints have are evicted and read from them
    #[arg(long, env = "TALLY_STATE_MIB", value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(16..=1 << 20))]
    pub state_mib: u32,
    /// Accept stores and subtopologies that the current generation does not have; they start empty
    #[arg(long)]
    pub accept_added: bool,
    /// Write records that only this release and later ones can read. Use it once all processes run this release
    #[arg(long)]
    pub raise_wire_version: bool,
    /// Confirm that the wall clock is right although the log's time is ahead; the log's time continues from it. Use it
    /// once, while no other process runs
    #[arg(long)]
    pub confirm_clock: bool,
}

/// Arguments of `tally ingest`.
#[derive(Args)]
pub struct IngestArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    clocks: ClockArgs,
    #[command(flatten)]
    intake: IntakeArgs,
    #[command(flatten)]
    callers: CallerArgs,
    #[command(flatten)]
    cache: LimitCacheArgs,
}

/// Arguments of `tally process`.
#[derive(Args)]
pub struct ProcessArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    clocks: ClockArgs,
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

/// What every process with an API needs, in the order of `--help`.
#[derive(Args)]
pub struct ReaderArgs {
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    clocks: ClockArgs,
    #[command(flatten)]
    pub(super) stores: StoreArgs,
    #[command(flatten)]
    reads: ReadArgs,
    #[command(flatten)]
    page: PageArgs,
}

impl ReaderArgs {
    /// The role of the API.
    pub(super) fn roles(self, callers: CallerArgs) -> Roles {
        let callers = Some((callers, self.stores.cache.clone()));
        let api = Some((self.stores, self.reads));
        Roles { api, callers, page: self.page, clocks: Some(self.clocks), ..Roles::none(self.site) }
    }
}

/// Arguments of `tally api`.
#[derive(Args)]
pub struct ApiArgs {
    #[command(flatten)]
    reader: ReaderArgs,
    #[command(flatten)]
    ingest: IngestPlace,
    #[command(flatten)]
    callers: CallerArgs,
}

/// Takes events until SIGTERM or SIGINT.
pub fn ingest(args: IngestArgs) -> Result<(), Failure> {
    let callers = Some((args.callers, args.cache.cache));
    serve(Roles { ingest: Some(args.intake), callers, clocks: Some(args.clocks), ..Roles::none(args.site) })
}

/// Counts until SIGTERM or SIGINT, or until it cannot go on.
pub fn process(args: ProcessArgs) -> Result<(), Failure> {
    let process = Some((args.streams, args.state));
    serve(Roles { process, clocks: Some(args.clocks), ..Roles::none(args.site) })
}

/// Writes to the stores until SIGTERM or SIGINT, or until it cannot go on.
pub fn sink(args: SinkArgs) -> Result<(), Failure> {
    serve(Roles { sink: Some((args.stores, args.state)), ..Roles::none(args.site) })
}

/// Answers readers until SIGTERM or SIGINT.
pub fn api(args: ApiArgs) -> Result<(), Failure> {
    let mut roles = args.reader.roles(args.callers);
    roles.page.ingest_url = args.ingest.ingest_url;
    serve(roles)
}
