//! Redis, alone or as a Cluster, as a target.
//!
//! What makes it different from a database: there is no transaction over several shards, and all of it can be lost at
//! any moment. So
//!
//! - totals are written first and positions when all are acknowledged. A crash in between leaves totals that are newer
//!   than the positions claim, never older; what is then read again is refused by the guard, or changes nothing;
//! - positions are compared before the totals are written, too: what a sink that was left behind has in its hands is
//!   not written at all, unless it was overtaken in that very moment;
//! - a loss is noticed before the next position is written, and about every second without traffic ([`session`]). From
//!   the loss until then readers are safe by themselves: what is missing is a miss, what another epoch wrote is a miss,
//!   and a master that is not among those of the progress is not trusted.

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
    /// Of this thread alone; the connections' timers and sockets live in it.
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
