//! The cache: the totals of the subjects that are asked for. [`MemoryTarget`] is the sink's side of a
//! [`tally_cache::MemoryCache`].

mod memory;

pub use memory::MemoryTarget;
