//! Connects to the stores of a process once at the start: errors that need an operator end the start, also for roles
//! that connect only on demand.

use super::roles::Roles;
use super::stores::Stores;
use crate::commands::{CacheAddress, Failure, cache};
use std::thread::ScopedJoinHandle;
use tally_sinks::{Reached, StoreUrl};

/// Connects to every store that these roles use, to all at the same time. A store that does not answer now may recover.
/// Returns the databases; keep them until those that use them have connected.
pub fn reach_stores(roles: &Roles, stores: Option<&Stores>) -> Result<Vec<Reached>, Failure> {
    let (mut databases, mut caches) = (Vec::<StoreUrl>::new(), Vec::new());
    if let Some(stores) = stores.filter(|_| roles.sink.is_some()) {
        databases.extend(stores.databases().cloned());
        caches.extend(stores.caches());
    }
    if let (Some(stores), Some((_, reads))) = (stores, &roles.api) {
        databases.push(stores.database.clone());
        databases.extend(reads.database()?);
        caches.push(reads.cache(&stores.cache)?);
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
        let (mut of_databases, mut of_caches) = (Vec::new(), Vec::new());
        for (_, url) in databases.iter().enumerate().filter(|(at, url)| !databases[..*at].contains(*url)) {
            of_databases.push(scope.spawn(move || tally_sinks::reach(url).map_err(Failure::usage)));
        }
        for address in &addresses {
            of_caches.push(scope.spawn(move || tally_cache::redis::reach(address).map_err(Failure::usage)));
        }
        let reached = of_databases.into_iter().map(outcome).collect::<Result<_, _>>()?;
        of_caches.into_iter().try_for_each(outcome)?;
        Ok(reached)
    })
}

fn outcome<T>(asked: ScopedJoinHandle<'_, Result<T, Failure>>) -> Result<T, Failure> {
    asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
