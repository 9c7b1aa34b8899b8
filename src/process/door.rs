//! The door of a process.

use super::{Site, now_ms};
use crate::commands::Failure;
use std::sync::Arc;
use tally_http::TrustedProxies;
use tally_ingest::{Door, DoorConfig, EventTypes};
use tally_processors::{event_types, owned_toggle};

/// Types of events that need no actor.
const ANONYMOUS: &[&str] = &["view", "read", "api_call"];

/// A door in front of the process's log.
pub fn door(site: &Site, trusted_proxies: &[String]) -> Result<Door, Failure> {
    let (anonymous, named): (Vec<_>, Vec<_>) =
        event_types(&site.topology).into_iter().partition(|name| ANONYMOUS.contains(&name.as_str()));
    let mut types = EventTypes::default().named(named).anonymous(anonymous);
    if let Some(owned) = owned_toggle(&site.topology) {
        types = types.owned_by_database(&owned.metric, &owned.on, &owned.off);
    }
    let root = site.topology.root.to_string();
    let partitions = site.log.partitions(&root).map_err(Failure::no)?;
    let trusted_proxies = TrustedProxies::parse(trusted_proxies)
        .map_err(|e| Failure::usage(format!("--trusted-proxy: {e}: name addresses or networks, like 10.0.0.0/8")))?;
    let config = DoorConfig { trusted_proxies, ..DoorConfig::new(root, partitions, types, site.control.secret) };
    let appender = site.log.appender().map_err(Failure::no)?;
    Door::new(config, appender, site.receipt_key(), Arc::new(now_ms), &site.registry).map_err(Failure::no)
}
