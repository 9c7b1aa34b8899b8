//! The stores of a process: where each sink writes, and what the API reads.

use super::roles::Roles;
use crate::commands::{CacheAddress, Failure, StoreArgs};
use tally_processors::Actions;
use tally_sinks::{SinkType, StoreAddress, StoreKind, StoreUrl};
use tally_streams::topology::{Sink, SinkUrl, Topology};

/// Where the sinks of a topology write, and what the API reads.
pub struct Stores {
    /// By sink, in the order of the file.
    by_sink: Vec<StoreAddress>,
    /// The database that the API reads, and writes collects to.
    pub database: StoreUrl,
    /// What decided that: a flag, or a sink.
    pub database_from: String,
    /// The cache that the API reads.
    pub cache: CacheAddress,
}

impl Stores {
    /// The stores of these roles. None where they use none.
    pub fn resolve(roles: &Roles, topology: &Topology<Actions>) -> Result<Option<Self>, Failure> {
        let variable = |name: &str| std::env::var(name).ok();
        roles.stores().map(|args| Self::of(topology, args, variable)).transpose()
    }

    /// A sink without an address writes to the store of the flag. The API reads the flag's store where a sink writes there,
    /// or where no sink writes to such a store; otherwise the store of the file's first sink of the kind.
    pub fn of(
        topology: &Topology<Actions>,
        args: &StoreArgs,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let (database, cache) = (StoreUrl::from(args.database()?), args.cache()?);
        let address = |sink: &Sink| {
            let sink_type = SinkType::of_name(sink.kind);
            let sink_type = sink_type.ok_or_else(|| failed(sink, &format!("unknown type `{}`", sink.kind)))?;
            match (&sink.url, sink_type.kind) {
                (Some(url), _) => own_address(sink, sink_type, url, &variable),
                (None, StoreKind::Database) => Ok(StoreAddress::Database(database.clone())),
                (None, StoreKind::Cache) => Ok(match &cache {
                    CacheAddress::Memory => StoreAddress::Memory,
                    CacheAddress::Redis(address) => StoreAddress::Redis(address.clone()),
                }),
            }
        };
        let by_sink = topology.sinks.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        let databases: Vec<_> =
            by_sink.iter().enumerate().filter_map(|(at, store)| Some((at, database_of(store)?))).collect();
        let (database, database_from) = match databases.first() {
            Some((at, first)) if databases.iter().all(|(_, other)| **other != database) => {
                ((*first).clone(), format!("sink `{}`", topology.sinks[*at].name))
            }
            _ => (database, "--database".to_owned()),
        };
        let caches: Vec<_> = by_sink.iter().filter_map(cache_of).collect();
        let cache = match caches.first() {
            Some(first) if !caches.contains(&cache) => first.clone(),
            _ => cache,
        };
        Ok(Self { by_sink, database, database_from, cache })
    }

    /// Each sink, and where it writes.
    pub fn of_sinks<'a>(
        &'a self,
        topology: &'a Topology<Actions>,
    ) -> impl Iterator<Item = (&'a Sink, &'a StoreAddress)> {
        topology.sinks.iter().zip(&self.by_sink)
    }

    /// Whether a sink writes the topic to the store of this kind that the API reads.
    pub fn has(&self, topology: &Topology<Actions>, kind: StoreKind, topic: &str) -> bool {
        let is_read = |store: &StoreAddress| match kind {
            StoreKind::Database => database_of(store) == Some(&self.database),
            StoreKind::Cache => cache_of(store).as_ref() == Some(&self.cache),
        };
        self.of_sinks(topology).any(|(sink, store)| is_read(store) && sink.from.iter().any(|from| from == topic))
    }

    /// Every database of the sinks and the API.
    pub fn databases(&self) -> impl Iterator<Item = &StoreUrl> {
        self.by_sink.iter().filter_map(database_of).chain([&self.database])
    }

    /// Every cache of the sinks and the API.
    pub fn caches(&self) -> impl Iterator<Item = CacheAddress> {
        self.by_sink.iter().filter_map(cache_of).chain([self.cache.clone()])
    }
}

/// Whether a topology has a sink of this kind, and whether one of them writes to the store of the flag.
pub fn sinks_of_kind(topology: &Topology<Actions>, kind: StoreKind) -> (bool, bool) {
    let is_of_kind = |sink: &&Sink| SinkType::of_name(sink.kind).is_some_and(|sink_type| sink_type.kind == kind);
    let sinks = || topology.sinks.iter().filter(is_of_kind);
    (sinks().next().is_some(), sinks().any(|sink| sink.url.is_none()))
}

fn database_of(store: &StoreAddress) -> Option<&StoreUrl> {
    match store {
        StoreAddress::Database(url) => Some(url),
        StoreAddress::Memory | StoreAddress::Redis(_) => None,
    }
}

fn cache_of(store: &StoreAddress) -> Option<CacheAddress> {
    match store {
        StoreAddress::Database(_) => None,
        StoreAddress::Memory => Some(CacheAddress::Memory),
        StoreAddress::Redis(address) => Some(CacheAddress::Redis(address.clone())),
    }
}

/// The address of a sink that has one. No error contains the value of a variable.
fn own_address(
    sink: &Sink,
    sink_type: &SinkType,
    url: &SinkUrl,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<StoreAddress, Failure> {
    let expanded = url.expand(variable).map_err(|unset| failed(sink, &unset.to_string()))?;
    let expanded = StoreUrl::expanded(expanded, url.written());
    (sink_type.parse)(&expanded).map_err(|cause| failed(sink, &cause))
}

fn failed(sink: &Sink, cause: &str) -> Failure {
    Failure::usage(format!("sink `{}`: `url`: {cause}", sink.name))
}

#[cfg(all(feature = "mysql", feature = "redis"))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::DATABASE;
    use tally_processors::REGISTRY;
    use tally_sinks::SINK_TYPES;

    fn stores(sinks: &str, database: &str, cache: &str) -> Result<(Topology<Actions>, Stores), String> {
        let (text, _) = include_str!("../../topology.yaml").split_once("\nsinks:").unwrap();
        let text = format!("{text}\nsinks:\n{sinks}");
        let topology = Topology::load("t", &text, REGISTRY, SINK_TYPES).map_err(|e| e.to_string())?;
        let args = StoreArgs { database: database.into(), cache: cache.into() };
        let variable = |name: &str| (name == "SECRET").then(|| "p%40ss".to_owned());
        match Stores::of(&topology, &args, variable) {
            Ok(stores) => Ok((topology, stores)),
            Err(Failure::Usage(reason)) => Err(reason),
            Err(Failure::No(reason)) => panic!("{reason}"),
        }
    }

    const DEFAULT: &str = "  one: { type: database, from: [counters, reactions] }\n";
    const OWN: &str = "  two: { type: database, from: counters, url: \"mysql://u:${SECRET}@h/db\" }\n";
    const THIRD: &str = "  three: { type: database, from: verdicts, url: \"sqlite:3.db\" }\n";

    #[test]
    fn the_api_reads_the_flags_database_if_a_sink_writes_there_and_otherwise_the_first() {
        for (sinks, database, read, from) in [
            (format!("{OWN}{DEFAULT}"), "sqlite:1.db", "sqlite:1.db", "--database"),
            (format!("{OWN}{THIRD}"), DATABASE, "mysql://u:p%40ss@h/db", "sink `two`"),
            (format!("{OWN}{THIRD}"), "sqlite:3.db", "sqlite:3.db", "--database"),
            ("  cache: { type: cache, from: counters }\n".to_owned(), "sqlite:1.db", "sqlite:1.db", "--database"),
        ] {
            let (_, stores) = stores(&sinks, database, "memory:").unwrap();
            assert_eq!((stores.database.as_str(), stores.database_from.as_str()), (read, from), "{sinks}");
        }
        let (topology, stores) = stores(&format!("{OWN}{DEFAULT}{THIRD}"), "sqlite:1.db", "memory:").unwrap();
        let has = |topic| stores.has(&topology, StoreKind::Database, topic);
        assert_eq!([has("counters"), has("reactions"), has("verdicts")], [true, true, false]);
        assert_eq!(stores.databases().count(), 4);
        assert_eq!(format!("{:?}", stores.by_sink[0]), "Database(mysql://u:…@h/db)");
    }

    #[test]
    fn so_it_is_with_caches() {
        let own = "  two: { type: cache, from: [counters, rankings], url: \"redis://:${SECRET}@h/2\" }\n";
        let default = "  one: { type: cache, from: counters }\n";
        let (topology, of_own) = stores(own, DATABASE, "memory:").unwrap();
        assert!(matches!(&of_own.cache, CacheAddress::Redis(address) if address.to_string() == "redis://:…@h/2"));
        assert!(of_own.has(&topology, StoreKind::Cache, "rankings"));
        let (topology, both) = stores(&format!("{own}{default}"), DATABASE, "memory:").unwrap();
        assert_eq!(both.cache, CacheAddress::Memory);
        let has = |topic| both.has(&topology, StoreKind::Cache, topic);
        assert_eq!([has("counters"), has("rankings")], [true, false]);
        assert_eq!(sinks_of_kind(&topology, StoreKind::Cache), (true, true));
        assert_eq!(sinks_of_kind(&topology, StoreKind::Database), (false, false));
    }

    #[test]
    fn what_cannot_be_is_refused_without_the_value_of_a_variable() {
        for (url, words) in [
            ("mysql://u:${SECRT}@h/db", "sink `x`: `url`: the environment variable `SECRT` is not set"),
            ("${SECRET}", "sink `x`: `url`: use `sqlite:FILE` or"),
            ("mysql://u:${SECRET}@h", "sink `x`: `url`: it names no database"),
            ("postgres://u:${SECRET}@h", "unknown scheme `postgres` of a database"),
        ] {
            let sinks = format!("  x: {{ type: database, from: counters, url: \"{url}\" }}\n");
            let refused = stores(&sinks, DATABASE, "memory:").err().unwrap();
            assert!(refused.contains(words) && !refused.contains("p%40ss"), "{url}: {refused}");
        }
    }
}
