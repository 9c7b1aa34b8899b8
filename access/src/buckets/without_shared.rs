//! A build without Redis, through which processes share their buckets. No address of one can be made, and so no shared
//! buckets.

use super::{Demand, Grant};
use crate::metrics::AccessMetrics;
use std::convert::Infallible;
use tally_cache::redis::RedisAddress;

/// Buckets in a Redis: none.
pub struct SharedBuckets(Infallible);

impl SharedBuckets {
    /// Buckets at an address.
    pub fn new(address: RedisAddress) -> Self {
        address.absurd()
    }

    /// Takes what there is.
    pub(super) async fn take(&self, _: &[(usize, Demand)], _: &AccessMetrics) -> Option<Vec<(usize, Grant)>> {
        match self.0 {}
    }
}
