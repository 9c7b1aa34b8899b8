//! Connects to the stores of a process once at the start: errors that need an operator end the start, also for roles
//! that connect only on demand.

use super::roles::Roles;
use crate::commands::{CacheAddress, Failure, cache};
use std::collections::BTreeSet;

/// Connects to every store that these roles use, to all at the same time. One that does not answer now may come back.
pub fn reach_stores(roles: &Roles) -> Result<(), Failure> {
    let (mut databases, mut caches) = (BTreeSet::new(), Vec::new());
    if let Some((stores, _)) = &roles.sink {
        databases.insert(stores.database()?);
        caches.push(stores.cache()?);
    }
    if let Some((stores, reads)) = &roles.api {
        databases.extend([stores.database()?, reads.database(stores)?]);
        caches.push(reads.cache(stores)?);
    }
    if let Some((_, url)) = &roles.callers {
        caches.push(cache("--cache", url)?);
    }
    let mut addresses = Vec::new();
    for cache in caches {
        if let CacheAddress::Redis(address) = cache
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    std::thread::scope(|scope| {
        let mut asked = Vec::new();
        for url in databases {
            asked.push(scope.spawn(move || tally_sinks::reach(url).map_err(Failure::usage)));
        }
        for address in &addresses {
            asked.push(scope.spawn(move || tally_cache::redis::reach(address).map_err(Failure::usage)));
        }
        asked.into_iter().try_for_each(|asked| match asked.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}
