//! The addresses that every subcommand takes; an address's scheme picks the engine.

use super::Failure;
use clap::Args;
use std::path::PathBuf;
use tally_cache::redis::RedisAddress;
use tally_processors::{Actions, REGISTRY, SINK_TYPES};
use tally_streams::topology::Topology;

/// The topology alone.
#[derive(Args, Clone, Debug)]
pub struct TopologyFile {
    /// The pipeline's file
    #[arg(long, env = "TALLY_TOPOLOGY", value_name = "FILE", default_value = "topology.yaml")]
    pub topology: PathBuf,
}

/// Everything that a running process needs.
#[derive(Args, Clone, Debug)]
pub struct Addresses {
    // No doc comment: clap would print it as the help of every subcommand.
    #[allow(missing_docs)]
    #[command(flatten)]
    pub file: TopologyFile,
    /// The log: embedded:DIR
    #[arg(long, env = "TALLY_LOG", value_name = "URL", default_value = "embedded:./data/log")]
    pub log: String,
    /// The database: sqlite:FILE or mysql://user:password@host[:port]/db (MySQL 8, MariaDB 10.11)
    #[arg(
        long,
        env = "TALLY_DATABASE",
        value_name = "URL",
        default_value = "sqlite:./data/tally.db",
        hide_env_values = true
    )]
    pub database: String,
    /// A replica of the database that the API reads from; by default the database itself
    #[arg(long, env = "TALLY_DATABASE_READ", value_name = "URL", hide_env_values = true)]
    pub database_read: Option<String>,
    /// The cache: memory:, redis://host:6379[/db], redis+cluster://host:port,host2:port2; rediss for TLS
    #[arg(long, env = "TALLY_CACHE", value_name = "URL", default_value = "memory:", hide_env_values = true)]
    pub cache: String,
    /// A replica of the cache's Redis that the API reads from; by default the cache itself
    #[arg(long, env = "TALLY_CACHE_READ", value_name = "URL", hide_env_values = true)]
    pub cache_read: Option<String>,
    /// Where checkpoints are kept
    #[arg(long, env = "TALLY_STATE", value_name = "DIR", default_value = "./data/state")]
    pub state: PathBuf,
    /// Where HTTP is served
    #[arg(long, env = "TALLY_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: String,
}

impl TopologyFile {
    /// Reads and checks the file.
    pub fn load(&self) -> Result<Topology<Actions>, Failure> {
        let name = self.topology.display().to_string();
        let text = std::fs::read_to_string(&self.topology).map_err(|e| {
            Failure::usage(format!("{name}: {e}: name the pipeline's file with --topology or TALLY_TOPOLOGY"))
        })?;
        Topology::load(&name, &text, REGISTRY, SINK_TYPES).map_err(Failure::usage)
    }
}

impl Addresses {
    /// The directory of the embedded log.
    pub fn log_dir(&self) -> Result<PathBuf, Failure> {
        address(&self.log, "embedded:", "--log", "embedded:DIR")
    }

    /// The database that the sinks write to.
    pub fn database(&self) -> Result<&str, Failure> {
        database("--database", &self.database)
    }

    /// The database that the API reads from.
    pub fn database_read(&self) -> Result<&str, Failure> {
        match &self.database_read {
            Some(url) => database("--database-read", url),
            None => self.database(),
        }
    }

    /// The cache that the sinks write to.
    pub fn cache(&self) -> Result<CacheAddress, Failure> {
        cache("--cache", &self.cache)
    }

    /// The cache that the API reads from.
    pub fn cache_read(&self) -> Result<CacheAddress, Failure> {
        let written = self.cache()?;
        let Some(url) = &self.cache_read else { return Ok(written) };
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

fn cache(flag: &str, url: &str) -> Result<CacheAddress, Failure> {
    if url == "memory:" {
        return Ok(CacheAddress::Memory);
    }
    if RedisAddress::is_redis(url) {
        let address = RedisAddress::parse(url).map_err(|e| Failure::usage(format!("{flag} {e}")))?;
        return Ok(CacheAddress::Redis(address));
    }
    let forms = "`memory:`, `redis://host:6379`, `rediss://…` or `redis+cluster://host:port,host2:port2`";
    Err(Failure::usage(format!("{flag} {}: not known; use {forms}", shown(url))))
}

fn address(value: &str, scheme: &str, flag: &str, form: &str) -> Result<PathBuf, Failure> {
    match value.strip_prefix(scheme) {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(Failure::usage(format!("{flag} {}: not known; this version takes `{form}`", shown(value)))),
    }
}

/// Checks the scheme of a database's address; whoever opens it looks at the rest.
fn database<'a>(flag: &str, url: &'a str) -> Result<&'a str, Failure> {
    match url.split_once(':') {
        Some(("sqlite", rest)) if !rest.is_empty() => Ok(url),
        Some(("mysql", rest)) if rest.starts_with("//") => Ok(url),
        _ => {
            let form = "`sqlite:FILE` or `mysql://user:password@host[:port]/db`";
            Err(Failure::usage(format!("{flag} {}: not known; use {form}", shown(url))))
        }
    }
}

/// What of an address may be shown. Where it may hold a password that is its scheme.
fn shown(url: &str) -> &str {
    match url.split_once(':') {
        _ if !url.contains('@') && !url.contains("//") => url,
        Some((scheme, _)) => scheme,
        None => "…",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_that_is_not_known_is_refused_without_its_password() {
        for url in ["sqlite:./data/tally.db", "mysql://u:secret@h/db"] {
            assert_eq!(database("--database", url).ok(), Some(url));
        }
        for (url, shown) in [
            ("postgres://u:secret@h/db", "postgres"),
            ("mysql:u:secret@h/db", "mysql"),
            ("sqlite:", "sqlite:"),
            ("u/secret@h", "…"),
            ("tally.db", "tally.db"),
        ] {
            let Err(Failure::Usage(refused)) = database("--database-read", url) else { panic!("{url}") };
            let expected = format!("--database-read {shown}: not known; use `sqlite:FILE` or `mysql://");
            assert!(refused.starts_with(&expected) && !refused.contains("secret"), "{refused}");
        }
    }

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
