//! The ingest service of a process, and the rules for its callers.

use super::Site;
use crate::commands::{CacheAddress, CallerArgs, Failure, IntakeArgs, cache};
use std::sync::Arc;
use tally_access::{AccessMetrics, ActionLimits, Buckets, IPV6_PREFIX_BITS, SharedBuckets};
use tally_http::TrustedProxies;
use tally_ingest::{EventTypes, IngestConfig, IngestService};
use tally_processors::{Actions, event_types, owned_toggle, switches};
use tally_streams::topology::Topology;

/// Types of events that need no actor.
const ANONYMOUS: &[&str] = &["view", "read", "api_call"];

/// The limits of callers, and how their addresses are determined.
pub struct CallerRules {
    pub limits: ActionLimits,
    pub trusted_proxies: TrustedProxies,
}

/// Limits are shared through the cache if that is a Redis.
pub fn caller_rules(
    site: &Site,
    args: &CallerArgs,
    cache_url: &str,
    metrics: &AccessMetrics,
) -> Result<CallerRules, Failure> {
    let trusted_proxies = args.proxies()?;
    let shared = match cache("--cache", cache_url)? {
        CacheAddress::Memory => None,
        CacheAddress::Redis(address) => Some((SharedBuckets::new(address), site.control.hash_seed())),
    };
    let limits = ActionLimits {
        per_ip: args.per_ip(),
        per_actor: args.per_actor(),
        ipv6_prefix_bits: args.limit_ipv6_prefix.unwrap_or(IPV6_PREFIX_BITS),
        switches: switches(&site.topology).into_iter().collect(),
        buckets: Arc::new(Buckets::new(shared, metrics.clone())),
    };
    Ok(CallerRules { limits, trusted_proxies })
}

/// The event types that the ingest API takes.
pub fn types_taken(topology: &Topology<Actions>) -> EventTypes {
    let may_be_anonymous = |name: &String| {
        let declared = topology.declarations.get(name).and_then(|declaration| declaration.anonymous);
        declared.unwrap_or(ANONYMOUS.contains(&name.as_str()))
    };
    let (anonymous, named): (Vec<_>, Vec<_>) = event_types(topology).into_iter().partition(may_be_anonymous);
    let mut types = EventTypes::default().named(named).anonymous(anonymous);
    if let Some(owned) = owned_toggle(topology) {
        types = types.owned_by_database(&owned.metric, &owned.on, &owned.off);
    }
    types.of_cloud_events(topology.cloud_event_types.clone()).declared(topology.declarations.clone())
}

/// An ingest service in front of the process's log.
pub fn ingest_service(site: &Site, args: &IntakeArgs, rules: &CallerRules) -> Result<IngestService, Failure> {
    let types = types_taken(&site.topology);
    let root = site.topology.root.to_string();
    let partitions = site.log.partitions(&root).map_err(Failure::no)?;
    let config = IngestConfig {
        limits: Some(rules.limits.clone()),
        read_token_required: args.require_read_token,
        ..IngestConfig::new(root, partitions, types, site.control.secret)
    };
    let appender = site.log.appender().map_err(Failure::no)?;
    IngestService::new(config, appender, site.receipt_key(), site.trusted_clock(), &site.registry).map_err(Failure::no)
}
