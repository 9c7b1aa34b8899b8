//! The addresses that every subcommand takes; an address's scheme picks the engine.

use super::Failure;
use super::access::AccessArgs;
use super::database_address::database;
use crate::process::kafka::Brokers;
use clap::Args;
use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tally_api::{Peer, PeerError};
use tally_cache::CacheLimits;
use tally_cache::is_redis;
use tally_cache::redis::RedisAddress;
use tally_http::PageFiles;
use tally_processors::{Actions, REGISTRY};
use tally_sinks::{SINK_TYPES, StoreUrl};
use tally_streams::log::WallLimits;
use tally_streams::topology::Topology;

/// The topology alone.
#[derive(Args, Clone, Debug)]
pub struct TopologyFile {
    /// The topology file; topology.yaml by default if it exists, else the built-in topology (see `tally init`)
    #[arg(long, env = "TALLY_TOPOLOGY", value_name = "FILE")]
    pub topology: Option<PathBuf>,
}

/// The pipeline's file if none is given.
pub const TOPOLOGY_FILE: &str = "topology.yaml";
/// The topology if there is no file: the shipped one.
pub const BUILT_IN_TOPOLOGY: &str = include_str!("../../topology.yaml");
/// Its name in messages.
const BUILT_IN: &str = "the built-in topology";

/// What every running process needs.
#[derive(Args, Clone, Debug)]
pub struct SiteArgs {
    // No doc comment: clap would print it as the help of every subcommand.
    #[allow(missing_docs)]
    #[command(flatten)]
    pub file: TopologyFile,
    /// The log: embedded:DIR for a single process, or kafka://host:9092,host2:9092 (Kafka 4.0 or newer)
    #[arg(long, env = "TALLY_LOG", value_name = "URL", default_value = "embedded:./data/log")]
    pub log: String,
    /// Kafka client properties such as TLS and SASL: a file with one name=value per line
    #[arg(long, env = "TALLY_LOG_PROPERTIES", value_name = "FILE")]
    pub log_properties: Option<PathBuf>,
    /// Address to serve HTTP on; port 0 picks a free port
    #[arg(long, env = "TALLY_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: String,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub access: AccessArgs,
}

/// When the wall clock is doubted, by every role that reads it.
#[derive(Args, Clone, Debug)]
pub struct ClockArgs {
    /// Largest step of the wall clock, and largest difference from the log, before the clock is no longer trusted
    #[arg(long, env = "TALLY_CLOCK_JUMP", value_name = "TIME", default_value_t = WallLimits::default().jump.into())]
    pub clock_jump: humantime::Duration,
    /// Time after which a wall clock that has jumped is trusted again
    #[arg(long, env = "TALLY_CLOCK_SETTLE", value_name = "TIME", default_value_t = WallLimits::default().settle.into())]
    pub clock_settle: humantime::Duration,
}

impl ClockArgs {
    /// The same for a clock.
    pub fn limits(&self) -> WallLimits {
        WallLimits { jump: *self.clock_jump, settle: *self.clock_settle }
    }
}

/// Where a process keeps its state.
#[derive(Args, Clone, Debug)]
pub struct StateArgs {
    /// Directory of checkpoints and the process id; one directory per process
    #[arg(long, env = "TALLY_STATE", value_name = "DIR", default_value = "./data/state")]
    pub state: PathBuf,
}

/// The default database.
pub const DATABASE: &str = "sqlite:./data/tally.db";

/// What sinks without an address of their own write to, and the API reads from.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    /// The database: sqlite:FILE or mysql://user:password@host[:port]/db (MySQL 8, MariaDB 10.11)
    #[arg(
        long,
        env = "TALLY_DATABASE",
        value_name = "URL",
        default_value = DATABASE,
        hide_env_values = true
    )]
    pub database: String,
    /// The cache: memory:, redis://host:6379[/db], redis+cluster://host:port,host2:port2; rediss for TLS
    #[arg(long, env = "TALLY_CACHE", value_name = "URL", default_value = "memory:", hide_env_values = true)]
    pub cache: String,
}

/// Where the page's files are.
#[derive(Args, Clone, Debug, Default)]
pub struct PageArgs {
    /// Directory of the built page and console, read at the start; web/dist by default if it exists, else a plain page
    #[arg(long, env = "TALLY_WEB", value_name = "DIR")]
    pub web: Option<PathBuf>,
    /// Other processes whose /metrics the console shows: http://host:port
    #[arg(long, env = "TALLY_PEERS", value_name = "URL", value_delimiter = ',')]
    pub peers: Vec<String>,
    /// API key to read the metrics of --peers
    #[arg(long, env = "TALLY_PEER_KEY", value_name = "KEY", requires = "peers", hide_env_values = true)]
    pub peer_key: Option<String>,
    /// Where events go, for readers of a page whose process takes none
    #[arg(skip)]
    pub ingest_url: Option<String>,
}

/// Flags of `tally api` for the response to events.
#[derive(Args, Clone, Debug, Default)]
pub struct IngestPlace {
    /// URL of the ingest API for senders; named in the response to events sent to this process
    #[arg(long, env = "TALLY_INGEST_URL", value_name = "URL")]
    pub ingest_url: Option<String>,
}

/// Where `npm run build` puts the page, seen from the repository.
const BUILT_PAGE: &str = "web/dist";

impl PageArgs {
    /// Refuses invalid addresses.
    pub fn check(&self) -> Result<(), Failure> {
        self.peers()?;
        let Some(url) = &self.ingest_url else { return Ok(()) };
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        match host.is_some_and(|host| !host.is_empty() && !url.contains(|c: char| c.is_whitespace() || c == '@')) {
            true => Ok(()),
            false => Err(Failure::usage(format!(
                "--ingest-url {}: needs the form https://host or http://host:port",
                shown(url)
            ))),
        }
    }

    /// The other processes that the console shows.
    pub fn peers(&self) -> Result<Vec<Peer>, Failure> {
        let refused = |error| match error {
            PeerError::Key => Failure::usage(format!("--peer-key: {error}")),
            error => Failure::usage(format!("--peers {error}")),
        };
        self.peers.iter().map(|address| Peer::new(address, self.peer_key.as_deref()).map_err(refused)).collect()
    }

    /// The page's files; None if none are built or named.
    pub fn files(&self) -> Result<Option<PageFiles>, Failure> {
        match &self.web {
            Some(named) => {
                PageFiles::read(named).map(Some).map_err(|e| Failure::usage(format!("the page (--web): {e}")))
            }
            None if Path::new(BUILT_PAGE).join("index.html").is_file() => {
                match PageFiles::read(Path::new(BUILT_PAGE)) {
                    Ok(files) => Ok(Some(files)),
                    // The default directory: no flag asks for it.
                    Err(error) => {
                        tracing::warn!("the page: {error}; a plain one is served instead");
                        Ok(None)
                    }
                }
            }
            None => Ok(None),
        }
    }
}

/// What the API alone reads from.
#[derive(Args, Clone, Debug)]
pub struct ReadArgs {
    /// Replica of the database for reads; the database itself by default
    #[arg(long, env = "TALLY_DATABASE_READ", value_name = "URL", hide_env_values = true)]
    pub database_read: Option<String>,
    /// Replica of the cache's Redis for reads; the cache itself by default
    #[arg(long, env = "TALLY_CACHE_READ", value_name = "URL", hide_env_values = true)]
    pub cache_read: Option<String>,
    /// Size of the cache in this process (--cache memory:) in MiB, by estimate; 256 by default. Subjects that do not fit are read from the database
    #[arg(long, env = "TALLY_CACHE_MIB", value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub cache_mib: Option<u32>,
    /// Maximum number of open live streams; one more gets 503. Their connections are in addition to the 10,000 for requests
    #[arg(long, env = "TALLY_LIVE_STREAMS", value_name = "N", default_value_t = 10_000)]
    pub live_streams: usize,
}

impl TopologyFile {
    /// Reads the file: its name and its content. If none is given and none exists, the built-in topology.
    pub fn read(&self) -> Result<(String, Cow<'static, str>), Failure> {
        let file = self.topology.as_deref().unwrap_or(Path::new(TOPOLOGY_FILE));
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => Ok((name, text.into())),
            Err(error) if self.topology.is_none() && error.kind() == ErrorKind::NotFound => {
                Ok((BUILT_IN.to_owned(), BUILT_IN_TOPOLOGY.into()))
            }
            Err(error) => {
                let what_to_do = "name the pipeline's file with --topology or TALLY_TOPOLOGY";
                Err(Failure::usage(format!("{name}: {error}: {what_to_do}")))
            }
        }
    }

    /// Reads and checks the file, and logs the use of the built-in topology.
    pub fn load(&self) -> Result<Topology<Actions>, Failure> {
        let (name, text) = self.read()?;
        if name == BUILT_IN {
            tracing::info!("there is no {TOPOLOGY_FILE} here: {BUILT_IN} is used; `tally init` writes it to a file");
        }
        Topology::load(&name, &text, REGISTRY, SINK_TYPES).map_err(Failure::usage)
    }
}

/// Where the log is.
#[derive(Clone, Debug, PartialEq)]
pub enum LogAddress {
    /// A directory that one process owns.
    Embedded(PathBuf),
    /// A cluster.
    Kafka(Brokers),
}

impl LogAddress {
    /// Reads an address; None if the text is not one. No error contains a password.
    pub fn parse(text: &str) -> Result<Option<Self>, Failure> {
        Ok(match text.split_once(':') {
            Some(("embedded", dir)) if !dir.is_empty() => Some(Self::Embedded(PathBuf::from(dir))),
            Some(("kafka", rest)) => Some(Self::Kafka(Brokers::parse(rest)?)),
            _ => None,
        })
    }
}

impl SiteArgs {
    /// Where the log is. No error contains a password.
    pub fn log(&self) -> Result<LogAddress, Failure> {
        let address = LogAddress::parse(&self.log)?.ok_or_else(|| {
            let form = "`embedded:DIR` or `kafka://host:9092,host2:9092`";
            Failure::usage(format!("--log {}: not known; use {form}", shown(&self.log)))
        })?;
        match (&address, &self.log_properties) {
            (LogAddress::Embedded(_), Some(file)) => Err(Failure::usage(format!(
                "--log-properties {}: only kafka:// has properties, and the log is {}",
                file.display(),
                self.log
            ))),
            _ => Ok(address),
        }
    }
}

impl StoreArgs {
    /// The database of sinks without an address of their own.
    pub fn database(&self) -> Result<&str, Failure> {
        database("--database", &self.database)
    }

    /// Whether the database is the default one.
    pub fn is_default_database(&self) -> bool {
        self.database == DATABASE
    }

    /// The cache of sinks without an address of their own.
    pub fn cache(&self) -> Result<CacheAddress, Failure> {
        cache("--cache", &self.cache)
    }
}

impl ReadArgs {
    /// A replica of the database that the API reads instead, if there is one.
    pub fn database(&self) -> Result<Option<StoreUrl>, Failure> {
        let url = self.database_read.as_deref().map(|url| database("--database-read", url)).transpose()?;
        Ok(url.map(StoreUrl::from))
    }

    /// How large the cache in this process may grow.
    pub fn cache_limits(&self) -> CacheLimits {
        self.cache_mib.map_or_else(CacheLimits::default, |mib| CacheLimits { size_bytes_max: (mib as usize) << 20 })
    }

    /// The cache that the API reads: the one that sinks write to, or a replica of it.
    pub fn cache(&self, written: &CacheAddress) -> Result<CacheAddress, Failure> {
        let Some(url) = &self.cache_read else { return Ok(written.clone()) };
        match (written, cache("--cache-read", url)?) {
            (CacheAddress::Redis(_), read @ CacheAddress::Redis(_)) => Ok(read),
            _ => Err(Failure::usage(
                "--cache-read: only a Redis has replicas: name it, and the Redis itself with --cache",
            )),
        }
    }
}

/// Where totals are cached.
#[derive(Clone, Debug, PartialEq)]
pub enum CacheAddress {
    /// In this process.
    Memory,
    /// In Redis, alone or as a Cluster.
    Redis(RedisAddress),
}

/// Reads the address of a cache. No error contains a password.
pub fn cache(flag: &str, url: &str) -> Result<CacheAddress, Failure> {
    if url == "memory:" {
        return Ok(CacheAddress::Memory);
    }
    if is_redis(url) {
        let address = RedisAddress::parse(url).map_err(|e| Failure::usage(format!("{flag} {e}")))?;
        return Ok(CacheAddress::Redis(address));
    }
    let forms = "`memory:`, `redis://host:6379`, `rediss://…` or `redis+cluster://host:port,host2:port2`";
    Err(Failure::usage(format!("{flag} {}: not known; use {forms}", shown(url))))
}

/// The part of an address that may be printed: only its scheme if it may contain a password.
pub(super) fn shown(url: &str) -> &str {
    match url.split_once(':') {
        _ if !url.contains('@') && !url.contains("//") => url,
        Some((scheme, _)) => scheme,
        None => "…",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "redis")]
    #[test]
    fn a_cache_is_named_by_its_scheme_and_refused_without_its_password() {
        assert_eq!(cache("--cache", "memory:").ok(), Some(CacheAddress::Memory));
        for url in ["redis://me:secret@h", "rediss://h:1/2", "redis+cluster://h:1,h:2", "rediss+cluster://h"] {
            assert!(matches!(cache("--cache", url), Ok(CacheAddress::Redis(_))), "{url}");
        }
        for (url, expected) in [
            ("memcached://me:secret@h", "--cache-read memcached: not known; use `memory:`, `redis://host:6379`"),
            ("redis://me:secret@h:x", "--cache-read redis://…: names no host and port"),
            ("redis+cluster://me:secret@h/3", "--cache-read redis+cluster://…: a Cluster has only database 0"),
        ] {
            let Err(Failure::Usage(refused)) = cache("--cache-read", url) else { panic!("{url}") };
            assert!(refused.starts_with(expected) && !refused.contains("secret"), "{refused}");
        }
    }
}
