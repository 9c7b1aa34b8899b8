//! The stream processing runtime: topology, tasks, state stores and the log. Knows nothing of likes.

pub mod log;
