//! The roles of a process: all four, or one of them.

use super::stores::sinks_of_kind;
use crate::commands::{
    CacheAddress, CallerArgs, ClockArgs, Failure, IntakeArgs, LogAddress, PageArgs, ReadArgs, SiteArgs, StateArgs,
    StoreArgs, StreamArgs, cache,
};
use tally_processors::{Actions, event_types, owned_toggle, switches};
use tally_sinks::StoreKind;
use tally_streams::topology::Topology;

/// The roles of a process, each with its arguments.
#[derive(Clone)]
pub struct Roles {
    /// What all of them need.
    pub site: SiteArgs,
    /// When the wall clock is doubted, where the process reads it.
    pub clocks: Option<ClockArgs>,
    /// Takes events.
    pub ingest: Option<IntakeArgs>,
    /// Counts.
    pub process: Option<(StreamArgs, StateArgs)>,
    /// Writes results to the stores.
    pub sink: Option<(StoreArgs, StateArgs)>,
    /// Answers from the stores.
    pub api: Option<(StoreArgs, ReadArgs)>,
    /// The rules for callers of ingest APIs and of APIs that write, and the cache through which these share their
    /// limits.
    pub callers: Option<(CallerArgs, String)>,
    /// The page, which a process with an API serves too.
    pub page: PageArgs,
    /// Sample traffic to the process's own ingest API, events per second.
    pub demo: Option<u32>,
}

impl Roles {
    /// No role yet.
    pub fn none(site: SiteArgs) -> Self {
        let page = PageArgs::default();
        Self { site, clocks: None, ingest: None, process: None, sink: None, api: None, callers: None, page, demo: None }
    }

    /// Whether the process needs no other.
    pub fn is_whole(&self) -> bool {
        self.ingest.is_some() && self.process.is_some() && self.sink.is_some() && self.api.is_some()
    }

    /// The state directory of the process, if it has one.
    pub fn state(&self) -> Option<&StateArgs> {
        let process = self.process.as_ref().map(|(_, state)| state);
        process.or(self.sink.as_ref().map(|(_, state)| state))
    }

    /// The flags of the stores that these roles use.
    pub fn stores(&self) -> Option<&StoreArgs> {
        let sink = self.sink.as_ref().map(|(stores, _)| stores);
        sink.or(self.api.as_ref().map(|(stores, _)| stores))
    }

    /// Refuses addresses that these roles cannot work with, before anything is opened.
    pub fn check(&self) -> Result<LogAddress, Failure> {
        let log = self.site.log()?;
        if matches!(log, LogAddress::Embedded(_)) && !self.is_whole() {
            return Err(Failure::usage(format!(
                "--log {}: an embedded log belongs to one process: use `tally run`, or name a log that processes share, \
                 like kafka://host:9092",
                self.site.log
            )));
        }
        if let Some((callers, url)) = &self.callers {
            callers.proxies()?;
            cache("--cache", url)?;
        }
        if self.demo.is_some() && self.site.access.asks() {
            return Err(Failure::usage(
                "--demo: its traffic has no key: leave out --keys and --jwks, or start `tally demo --api-key …` beside this",
            ));
        }
        if let Some(stores) = self.stores() {
            stores.database()?;
            stores.cache()?;
        }
        if let Some((_, reads)) = &self.api {
            reads.database()?;
            self.page.check()?;
        }
        Ok(log)
    }

    /// Refuses options without effect under this topology, before anything is opened.
    pub fn check_effects(&self, topology: &Topology<Actions>) -> Result<(), Failure> {
        let (has_cache, writes_to_flags_cache) = sinks_of_kind(topology, StoreKind::Cache);
        let collects = owned_toggle(topology).is_some();
        if self.ingest.as_ref().is_some_and(|intake| intake.require_read_token)
            && !event_types(topology).contains("read")
        {
            return refused("--require-read-token", "no processor of the topology counts events of type `read`");
        }
        if let Some((callers, cache_url)) = &self.callers {
            self.check_callers(callers, cache_url, topology)?;
        }
        if self.api.as_ref().is_some_and(|(_, reads)| reads.cache_read.is_some()) && !has_cache {
            return refused("--cache-read", "the topology has no sink of `type: cache`, so nothing is read from one");
        }
        if self.api.as_ref().is_some_and(|(_, reads)| reads.cache_mib.is_some()) {
            if !has_cache {
                return refused("--cache-mib", "the topology has no sink of `type: cache`");
            }
            if self.stores().is_some_and(|stores| stores.cache().is_ok_and(|cache| cache != CacheAddress::Memory)) {
                return refused("--cache-mib", "the cache is a Redis, which has `maxmemory`");
            }
        }
        let limits_are_shared = self.ingest.is_some() || self.api.is_some() && collects;
        if let Some(stores) = self.stores()
            && stores.cache()? != CacheAddress::Memory
            && !writes_to_flags_cache
            && !limits_are_shared
        {
            return match has_cache {
                true => refused("--cache", "every sink of `type: cache` has a `url` of its own"),
                false => refused("--cache", "the topology has no sink of `type: cache`"),
            };
        }
        // The API may read a database that no sink writes.
        let (has_database, writes_to_flags_database) = sinks_of_kind(topology, StoreKind::Database);
        if self.sink.as_ref().is_some_and(|(stores, _)| !stores.is_default_database())
            && self.api.is_none()
            && !writes_to_flags_database
        {
            return match has_database {
                true => refused("--database", "every sink of `type: database` has a `url` of its own"),
                false => refused("--database", "the topology has no sink of `type: database`"),
            };
        }
        Ok(())
    }

    /// Rejects flags for callers in a process without routes for them, and flags for limits in a process without
    /// limits.
    fn check_callers(&self, args: &CallerArgs, cache_url: &str, topology: &Topology<Actions>) -> Result<(), Failure> {
        let only_reads = self.ingest.is_none() && owned_toggle(topology).is_none();
        if let Some(flag) = args.given().filter(|_| only_reads) {
            let why = "has no effect here: the topology has no toggle with `owner: database`";
            return refused(flag, why);
        }
        let has_switches = !switches(topology).is_empty();
        if args.limit_actor.is_some() && !has_switches {
            return refused("--limit-actor", "the topology has no toggle, so there is nothing to switch on or off");
        }
        // Keys may have their own limits: of events, and of toggle events of one actor from one address.
        let has_keys = self.site.access.keys.is_some();
        let per_address = args.per_ip().is_some() || has_switches && (has_keys || args.per_actor().is_some());
        let no_limits = |flag: &str| {
            let why = "there are no limits that it could be for: give --limit-actor or --limit-ip, or leave it out";
            Err(Failure::usage(format!("{flag}: {why}")))
        };
        if args.limit_ipv6_prefix.is_some() && !per_address {
            return no_limits("--limit-ipv6-prefix");
        }
        // Beside limits, events carry the address of their caller.
        if self.ingest.is_none() && !args.trusted_proxy.is_empty() && !per_address {
            return no_limits("--trusted-proxy");
        }
        let is_shared = cache("--cache", cache_url)? != CacheAddress::Memory;
        if self.api.is_none() && is_shared && !has_keys && !per_address {
            return no_limits("--cache");
        }
        Ok(())
    }
}

fn refused(flag: &str, why: &str) -> Result<(), Failure> {
    Err(Failure::usage(format!("{flag}: {why}: leave it out")))
}
