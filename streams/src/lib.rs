//! The stream processing runtime, in the vocabulary of Kafka Streams: topology, subtopology, task, stream thread, state
//! store, changelog, repartition topic, punctuator. Knows nothing of likes: what flows is an [`processor::Dataflow`].
//!
//! No decision depends on a clock or a thread: the owner of a [`runtime::StreamThread`] calls `poll_once` and passes
//! the time. Only the engines of the log and the fencing of former owners have threads of their own.

mod lmdb;
pub mod log;
pub mod processor;
pub mod runtime;
pub mod simulation;
pub mod store;
pub mod task;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod topology;
