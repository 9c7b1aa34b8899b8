//! The buckets of this process: governor computes the rates, this module bounds the memory.

use super::{Demand, Grant};
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// Buckets per group: eight fill two cache lines.
const WAYS: usize = 8;
/// Number of groups: 131,072 buckets in all, a little over 2 MiB.
const GROUPS: usize = 16_384;

/// One limiter for each size of a bucket, over one table.
#[derive(Default)]
pub(super) struct LocalBuckets {
    by_size: RwLock<HashMap<u32, Arc<Limiter>, ahash::RandomState>>,
    /// Allocated at the first limited request.
    table: OnceLock<Arc<Table>>,
}

type Limiter = RateLimiter<u64, SharedTable, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

impl LocalBuckets {
    /// Takes as many as are available.
    pub(super) fn take(&self, demand: &Demand) -> Grant {
        let limiter = self.limiter(demand.per_minute);
        // The size is part of the key: when a limit changes, every bucket starts over.
        let key = (demand.hash as u64) ^ ((demand.hash >> 64) as u64) ^ u64::from(demand.per_minute).rotate_left(32);
        let mut grant = Grant { rule: demand.rule, left: 0, retry_after: Duration::ZERO };
        while grant.left < demand.pieces {
            match limiter.check_key(&key) {
                Ok(()) => grant.left += 1,
                Err(over) => {
                    grant.retry_after = over.wait_time_from(MonotonicClock.now());
                    break;
                }
            }
        }
        grant
    }

    fn limiter(&self, per_minute: u32) -> Arc<Limiter> {
        if let Some(limiter) = self.by_size.read().unwrap_or_else(PoisonError::into_inner).get(&per_minute) {
            return limiter.clone();
        }
        let size = NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN);
        let table = self.table.get_or_init(|| Arc::new(Table::new(GROUPS))).clone();
        let made = || Arc::new(RateLimiter::new(Quota::per_minute(size), SharedTable(table), MonotonicClock));
        let mut by_size = self.by_size.write().unwrap_or_else(PoisonError::into_inner);
        by_size.entry(per_minute).or_insert_with(made).clone()
    }
}

struct SharedTable(Arc<Table>);

/// A table of fixed size. Each key has one group of places. If all are taken, the bucket that will be full again first
/// is evicted: it holds the least information, and callers over a limit are evicted last.
struct Table {
    groups: Box<[Mutex<[Bucket; WAYS]>]>,
    hasher: ahash::RandomState,
}

/// When a bucket will be full again; an unused place is full.
#[derive(Clone, Copy, Default)]
struct Bucket {
    key: u64,
    full_at: u64,
}

impl Table {
    fn new(groups: usize) -> Self {
        let groups = (0..groups).map(|_| Mutex::default()).collect();
        // Random hash keys, so that callers cannot aim at a group.
        Self { groups, hasher: ahash::RandomState::new() }
    }
}

impl StateStore for SharedTable {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, judge: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let table = &*self.0;
        let group = table.hasher.hash_one(key) as usize % table.groups.len();
        let mut group = table.groups[group].lock().unwrap_or_else(PoisonError::into_inner);
        let known = group.iter().position(|bucket| bucket.key == *key && bucket.full_at > 0);
        let (outcome, full_at) = judge(known.map(|place| Nanos::from(group[place].full_at)))?;
        let fullest = || (0..WAYS).min_by_key(|place| group[*place].full_at).unwrap_or_default();
        let place = known.unwrap_or_else(fullest);
        group[place] = Bucket { key: *key, full_at: full_at.into() };
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn limiter(
        per_minute: u32,
        groups: usize,
    ) -> (RateLimiter<u64, SharedTable, FakeRelativeClock, NoOpMiddleware<Nanos>>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let quota = Quota::per_minute(NonZeroU32::new(per_minute).unwrap());
        (RateLimiter::new(quota, SharedTable(Arc::new(Table::new(groups))), clock.clone()), clock)
    }

    #[test]
    fn a_bucket_holds_a_minutes_worth_and_fills_evenly() {
        let (limiter, clock) = limiter(600, 16);
        let taken = |key| (0..10_000).take_while(|_| limiter.check_key(&key).is_ok()).count();
        assert_eq!((taken(1), taken(1), taken(2)), (600, 0, 600));
        clock.advance(Duration::from_millis(99));
        assert_eq!(taken(1), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(taken(1), 1);
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(taken(1), 600, "never more than one minute's worth");
    }

    #[test]
    fn strangers_do_not_wash_away_who_is_over_the_limit() {
        let (limiter, clock) = limiter(600, 4);
        while limiter.check_key(&1).is_ok() {}
        for stranger in 2..100_000 {
            limiter.check_key(&stranger).unwrap();
        }
        assert!(limiter.check_key(&1).is_err(), "it is the last to be forgotten");
        clock.advance(Duration::from_secs(1));
        assert!(limiter.check_key(&1).is_ok());
    }
}
