//! Limits per minute: token buckets, computed by the generic cell rate algorithm.
//!
//! Each process has its own buckets. Several processes share theirs through Redis: what the local buckets grant is also
//! requested from Redis; while Redis is unavailable, the local buckets decide alone.

mod local;
#[cfg_attr(not(feature = "redis"), path = "buckets/without_shared.rs")]
mod shared;

pub use shared::SharedBuckets;

use crate::metrics::AccessMetrics;
use local::LocalBuckets;
use std::collections::HashMap;
use std::time::Duration;

/// A kind of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Requests of a key.
    Requests,
    /// Events of a key.
    Key,
    /// Events from an address.
    Ip,
    /// Toggle events of one actor from one address.
    Actor,
}

impl Rule {
    /// Its name in metrics and Redis keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Key => "key",
            Self::Ip => "ip",
            Self::Actor => "actor",
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Requests => "requests per minute for this key",
            Self::Key => "events per minute for this key",
            Self::Ip => "events per minute for this address",
            Self::Actor => "toggle events per minute for this actor and address",
        }
    }
}

/// The counted subject as a hash, which does not reveal it.
pub type LimitHash = u128;

/// The demands of a request on its buckets.
#[derive(Default)]
pub struct Demands {
    list: Vec<Demand>,
    places: HashMap<LimitHash, u32, ahash::RandomState>,
}

/// A number of tokens from one bucket.
#[derive(Clone, Copy, Debug)]
struct Demand {
    rule: Rule,
    hash: LimitHash,
    per_minute: u32,
    pieces: u32,
}

impl Demands {
    /// Demands one more token from a bucket that holds `per_minute`. Returns the index of its grant.
    pub fn add(&mut self, rule: Rule, per_minute: u32, hash: LimitHash) -> u32 {
        // Most requests have one or two demands.
        let last = self.list.len().wrapping_sub(1);
        let place = match self.list.last() {
            Some(demand) if demand.hash == hash => last,
            _ => *self.places.entry(hash).or_insert(self.list.len() as u32) as usize,
        };
        if place == self.list.len() {
            self.list.push(Demand { rule, hash, per_minute: per_minute.max(1), pieces: 0 });
        }
        self.list[place].pieces += 1;
        place as u32
    }

    /// Whether there is no demand.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// The tokens granted to a request.
pub struct Grants {
    list: Vec<Grant>,
    metrics: AccessMetrics,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Grant {
    rule: Rule,
    left: u32,
    retry_after: Duration,
}

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// The limit that is reached.
    pub rule: Rule,
    /// Time until the bucket has a token again.
    pub retry_after_s: u32,
}

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the limit of {}; retry in {} s", self.rule.told(), self.retry_after_s)
    }
}

impl Grants {
    /// Takes a token at each of these places, or none at all.
    pub fn take(&mut self, places: &[u32]) -> Result<(), Over> {
        let over = places.iter().map(|place| self.list[*place as usize]).find(|grant| grant.left == 0);
        if let Some(Grant { rule, retry_after, .. }) = over {
            self.metrics.over(rule);
            return Err(Over { rule, retry_after_s: (retry_after.as_millis().div_ceil(1_000) as u32).max(1) });
        }
        places.iter().for_each(|place| self.list[*place as usize].left -= 1);
        Ok(())
    }
}

impl std::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buckets").field("shared", &self.shared.is_some()).finish_non_exhaustive()
    }
}

/// The buckets of this process, and the shared ones if any.
pub struct Buckets {
    local: LocalBuckets,
    shared: Option<SharedBuckets>,
    seed: u64,
    metrics: AccessMetrics,
}

impl Buckets {
    /// New buckets. All processes that share buckets must use the same seed.
    pub fn new(shared: Option<(SharedBuckets, u64)>, metrics: AccessMetrics) -> Self {
        let (shared, seed) = shared.map_or((None, 0), |(shared, seed)| (Some(shared), seed));
        Self { local: LocalBuckets::default(), shared, seed, metrics }
    }

    /// The hash of the subject that these parts name.
    pub fn hash(&self, rule: Rule, parts: &[&str]) -> LimitHash {
        let mut bytes = Vec::with_capacity(192);
        bytes.extend_from_slice(rule.as_str().as_bytes());
        for part in parts {
            bytes.push(0);
            bytes.extend_from_slice(part.as_bytes());
        }
        xxhash_rust::xxh3::xxh3_128_with_seed(&bytes, self.seed)
    }

    /// Takes the available tokens for the demands.
    pub async fn admit(&self, demands: Demands) -> Grants {
        let mut list: Vec<_> = demands.list.iter().map(|demand| self.local.take(demand)).collect();
        if let Some(shared) = &self.shared {
            // A demand above the local limit is above the shared one too.
            let asked = demands.list.iter().zip(&list).enumerate().filter(|(_, (_, grant))| grant.left > 0);
            let asked: Vec<_> =
                asked.map(|(place, (demand, grant))| (place, Demand { pieces: grant.left, ..*demand })).collect();
            if let Some(granted) = shared.take(&asked, &self.metrics).await {
                granted.into_iter().for_each(|(place, grant)| list[place] = grant);
            }
        }
        Grants { list, metrics: self.metrics.clone() }
    }
}

#[cfg(test)]
#[path = "buckets/tests.rs"]
mod tests;
