//! Connects to the stores of a process once at the start: errors that need an operator end the start, also for roles
//! that connect only on demand.

use super::roles::Roles;
use super::stores::Stores;
use crate::commands::{CacheAddress, Failure, cache};
use tally_sinks::StoreUrl;

/// Connects to every store that these roles use, to all at the same time. A store that does not answer now may recover.
pub fn reach_stores(roles: &Roles, stores: Option<&Stores>) -> Result<(), Failure> {
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
        let mut asked = Vec::new();
        for (_, url) in databases.iter().enumerate().filter(|(at, url)| !databases[..*at].contains(*url)) {
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
