//! What several of the node types that count share.

pub mod windows;
