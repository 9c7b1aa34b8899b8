//! Ties the parts together: one file a subcommand in [`commands`].

pub mod backup;
pub mod commands;
pub mod effect;
pub mod process;
pub mod testing;
pub mod workload;
