//! The stream processing runtime, in the vocabulary of Kafka Streams: topology, subtopology, task, stream thread, state
//! store, changelog, repartition topic, punctuator. Knows nothing of likes: what flows is an [`processor::Dataflow`].
//!
//! Nothing in here reads a clock or spawns a thread by itself: [`runtime::StreamThread::poll_once`] is told the time,
//! and whoever owns it decides when it runs.

mod lmdb;
pub mod log;
pub mod processor;
pub mod runtime;
pub mod store;
pub mod task;
pub mod testkit;
pub mod topology;
