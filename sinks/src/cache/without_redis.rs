//! A build without Redis. No address of one can be made, and so no target.

use crate::batch::Batch;
use crate::target::{StoredPosition, Target, TargetError};
use prometheus::IntCounter;
use std::convert::Infallible;
use std::sync::Arc;
use tally_cache::redis::RedisAddress;

/// Redis as a target of a sink: none.
pub struct RedisTarget(Infallible);

impl RedisTarget {
    /// A target that has not connected yet.
    pub fn new(address: RedisAddress, _: IntCounter) -> std::io::Result<Self> {
        address.absurd()
    }
}

impl Target for RedisTarget {
    fn positions(&mut self, _: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError> {
        match self.0 {}
    }

    fn write(&mut self, _: &Batch) -> Result<(), TargetError> {
        match self.0 {}
    }
}
