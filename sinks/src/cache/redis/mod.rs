//! Redis, alone or as a Cluster, as a target.
//!
//! Unlike in a database, no transaction spans several shards, and all data can be lost at any moment. So
//!
//! - totals are written first, positions when all totals are acknowledged. A crash in between leaves totals that are
//!   newer than the positions, never older; when they are read again, the guard rejects them or they change nothing;
//! - positions are compared before the totals are written, too: a sink that was overtaken writes nothing, unless it was
//!   overtaken at that very moment;
//! - a loss is detected before the next position is written, and about every second without traffic ([`session`]).
//!   Until then readers are safe: missing data is a miss, data of another epoch is a miss, and a master that is not
//!   among those of the progress is not trusted.

mod scripts;
mod session;
mod writer;

use crate::batch::Batch;
use crate::target::{StoredPosition, Target, TargetError};
use prometheus::IntCounter;
use std::sync::Arc;
use tally_cache::redis::RedisAddress;
use tally_streams::log::TopicPartition;
use tokio::runtime::{Builder, Runtime};
use writer::Writer;

/// Redis as a target of a sink. Several sinks may write to one, each its own partitions.
///
/// It connects when it is first used, and again after every failure. It blocks: use it on a thread of its own, not
/// within an async runtime.
pub struct RedisTarget {
    /// Used by this thread only; it owns the timers and sockets of the connections.
    runtime: Runtime,
    writer: Writer,
}

impl RedisTarget {
    /// A target that has not connected yet. `refills` counts how often it began to be filled from the start.
    pub fn new(address: RedisAddress, refills: IntCounter) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, writer: Writer::new(address, refills) })
    }
}

impl Target for RedisTarget {
    fn positions(&mut self, topics: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError> {
        Ok(self.runtime.block_on(self.writer.positions(topics))?)
    }

    fn begin(&mut self, goals: &[(TopicPartition, u64)]) {
        self.writer.begin(goals);
    }

    fn write(&mut self, batch: &Batch) -> Result<(), TargetError> {
        self.runtime.block_on(self.writer.write(batch))
    }

    fn probe(&mut self) -> Result<(), TargetError> {
        self.runtime.block_on(self.writer.probe())
    }

    fn is_cache(&self) -> bool {
        true
    }

    fn check(&mut self) -> Result<(), TargetError> {
        self.runtime.block_on(self.writer.check())
    }
}
