//! Ties the parts together: one file a subcommand in [`commands`].

pub mod commands;
pub mod effect;
pub mod process;
pub mod testing;
pub mod workload;
