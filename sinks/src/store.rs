//! Where sinks write: the types of sinks, and the addresses of the stores behind them.

use crate::cache::{self, MemoryTarget, RedisTarget};
use crate::database::{self, Database, DatabaseError, Retention};
use crate::metrics::SinkMetrics;
use crate::target::Target;
use std::fmt;
use std::sync::Arc;
use tally_cache::MemoryCache;
use tally_cache::redis::RedisAddress;
use tally_model::OutputType;
use tally_streams::topology;

/// Every type of sinks.
pub const SINK_TYPES: &[SinkType] = &[database::SINK_TYPE, cache::SINK_TYPE];

/// A type of sinks that a topology may name.
pub struct SinkType {
    /// As in `type: database`.
    pub name: &'static str,
    /// What sinks of this type write to.
    pub kind: StoreKind,
    /// What its addresses may begin with, without the colon.
    pub schemes: &'static [&'static str],
    /// The values of the topics that it stores.
    pub values: &'static [OutputType],
    /// Reads an address. An error names the mistake and never contains a password.
    pub parse: fn(url: &StoreUrl) -> Result<StoreAddress, String>,
}

/// What sinks write to. Sinks of one kind without an address of their own share the process's store of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// A database: it keeps everything.
    Database,
    /// A cache: it may lose everything, and is filled again.
    Cache,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreAddress {
    /// A database.
    Database(StoreUrl),
    /// The cache of this process.
    Memory,
    /// A cache in Redis, alone or as a Cluster.
    Redis(RedisAddress),
}

/// An address with its secrets, and what messages show of it.
#[derive(Clone)]
pub struct StoreUrl {
    url: String,
    shown: String,
}

/// What a sink's target is made from, besides its address.
pub struct TargetSite<'a> {
    /// The sink's name.
    pub sink: &'a str,
    /// The metrics of sinks.
    pub metrics: &'a SinkMetrics,
    /// The log that the sink reads.
    pub log_id: [u8; 8],
    /// How long rows are kept.
    pub retention: Retention,
    /// Whether the process writes to stores that processes share: it has the role of sinks.
    pub writes: bool,
    /// The cache of this process, if it has one.
    pub memory: Option<Arc<MemoryCache>>,
}

/// Why a target cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something that a person must put right.
    #[error("{0}")]
    Database(#[from] DatabaseError),
    /// The system lacks what a connection needs.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

impl topology::SinkType for SinkType {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schemes(&self) -> &'static [&'static str] {
        self.schemes
    }

    fn values(&self) -> Vec<&'static str> {
        self.values.iter().map(|value| value.name()).collect()
    }

    fn check(&self, url: &str) -> Result<(), String> {
        (self.parse)(&StoreUrl::from(url)).map(drop)
    }
}

impl SinkType {
    /// The type of this name.
    pub fn of_name(name: &str) -> Option<&'static Self> {
        SINK_TYPES.iter().find(|sink_type| sink_type.name == name)
    }
}

impl StoreAddress {
    /// What kind of store it is.
    pub fn kind(&self) -> StoreKind {
        match self {
            Self::Database(_) => StoreKind::Database,
            Self::Memory | Self::Redis(_) => StoreKind::Cache,
        }
    }

    /// Makes the target of a sink. None where this process does not write there.
    pub fn open(&self, site: &TargetSite<'_>) -> Result<Option<Box<dyn Target>>, OpenError> {
        Ok(match self {
            Self::Database(url) if site.writes => {
                Some(Box::new(Database::open(url.clone(), site.retention.clone())?.of_log(site.log_id)))
            }
            Self::Redis(address) if site.writes => {
                Some(Box::new(RedisTarget::new(address.clone(), site.metrics.refills(site.sink))?))
            }
            Self::Memory => site
                .memory
                .clone()
                .map(|cache| Box::new(MemoryTarget::new(cache).measured(site.metrics, site.sink)) as Box<dyn Target>),
            Self::Database(_) | Self::Redis(_) => None,
        })
    }
}

impl StoreUrl {
    /// An address that messages show as it was written, with the names of variables instead of their values.
    pub fn expanded(url: String, written: &str) -> Self {
        Self { url, shown: redacted(written) }
    }

    /// The address, with its secrets: it must not be shown.
    pub fn as_str(&self) -> &str {
        &self.url
    }
}

impl From<&str> for StoreUrl {
    fn from(url: &str) -> Self {
        Self { url: url.to_owned(), shown: redacted(url) }
    }
}

impl From<&String> for StoreUrl {
    fn from(url: &String) -> Self {
        url.as_str().into()
    }
}

impl PartialEq for StoreUrl {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// An address without its password, whatever else is wrong with it.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once(':').filter(|(scheme, _)| *scheme != "sqlite") else {
        return url.to_owned();
    };
    let (slashes, rest) = rest.strip_prefix("//").map_or(("", rest), |rest| ("//", rest));
    match rest.rsplit_once('@') {
        Some((login, host)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}:{slashes}{user}:…@{host}")
        }
        None => format!("{scheme}:{slashes}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_an_address_shows_its_password() {
        for (url, shown) in [
            ("mysql://u:secret@h/db", "mysql://u:…@h/db"),
            ("mysql://u:sec/ret@h:3306/db?ssl-mode=REQUIRED", "mysql://u:…@h:3306/db?ssl-mode=REQUIRED"),
            ("mysql://u:sec@ret@h/db", "mysql://u:…@h/db"),
            ("mysql:u:secret@h/db", "mysql:u:…@h/db"),
            ("postgres://u:secret@h/db", "postgres://u:…@h/db"),
            ("mysql://h/db", "mysql://h/db"),
            ("sqlite:./a@b.db", "sqlite:./a@b.db"),
            ("nonsense", "nonsense"),
        ] {
            let address = StoreUrl::from(url);
            assert_eq!(address.to_string(), shown, "{url}");
            for sink_type in SINK_TYPES {
                let refused = (sink_type.parse)(&address).err().unwrap_or_default();
                assert!(!refused.contains("secret"), "{url}: {refused}");
            }
        }
        let expanded = StoreUrl::expanded("mysql://u:secret@h/db".into(), "mysql://${USER}:${PW}@${HOST}/db");
        assert_eq!(format!("{expanded} {expanded:?}"), "mysql://${USER}:…@${HOST}/db mysql://${USER}:…@${HOST}/db");
    }

    #[test]
    fn a_type_takes_the_addresses_of_its_schemes() {
        let parse = |name: &str, url: &str| (SinkType::of_name(name).unwrap().parse)(&url.into());
        assert_eq!(parse("database", "sqlite:a.db"), Ok(StoreAddress::Database("sqlite:a.db".into())));
        assert_eq!(parse("cache", "memory:"), Ok(StoreAddress::Memory));
        assert!(matches!(parse("cache", "rediss://h:1/2"), Ok(StoreAddress::Redis(_))));
        for (name, url, part) in [
            ("database", "redis://h", "use `sqlite:FILE` or `mysql://"),
            ("database", "mysql://u:p@h/db?tls=true", "`?tls` is not known"),
            ("cache", "sqlite:a.db", "use `memory:`, `redis://host:6379`"),
            ("cache", "hunter2", "use `memory:`, `redis://host:6379`"),
            ("cache", "redis://h:x", "names no host and port"),
        ] {
            let refused = parse(name, url).unwrap_err();
            assert!(refused.contains(part) && !refused.contains("hunter2"), "{url}: {refused}");
        }
    }
}
