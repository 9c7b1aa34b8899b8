//! The subcommands. Exit codes: 0 success, 1 a check or an operation failed, 2 wrong usage or configuration.

mod access;
mod addresses;
mod check;
mod database_address;
mod demo;
mod describe;
mod init;
mod key;
mod roles;
mod run;
mod send;

pub use access::{AccessArgs, file_failure};
pub use addresses::{CacheAddress, ClockArgs, LogAddress, PageArgs, ReadArgs, SiteArgs, StateArgs, StoreArgs, cache};
pub use demo::traffic;
pub use roles::{CallerArgs, IntakeArgs, StreamArgs};

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Counts what people do, ranks what is hot, and is right to the last event.
#[derive(Parser)]
#[command(name = "tally", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything in one process: door, processors, sinks and API
    Run(run::RunArgs),
    /// Run the door alone: takes events and writes them to the log
    Ingest(roles::IngestArgs),
    /// Run the processors alone: they count what the log has
    Process(roles::ProcessArgs),
    /// Run the sinks alone: they write what was counted to the database and the cache
    Sink(roles::SinkArgs),
    /// Run the API alone: it answers readers
    Api(roles::ApiArgs),
    /// Write the built-in topology to a file, with comments, to change it
    Init(init::InitArgs),
    /// Say whether the topology is well formed, and what is wrong with it
    Check(check::CheckArgs),
    /// Draw the topology: subtopologies, nodes, stores, topics
    Describe(describe::DescribeArgs),
    /// Feed a file of events through the door
    Send(send::SendArgs),
    /// Send seeded synthetic traffic to a running door
    Demo(demo::DemoArgs),
    /// Make an API key, and the entry for the file of keys
    Key(key::KeyArgs),
}

/// Why a command failed, and with which exit code.
#[derive(Debug)]
pub enum Failure {
    /// A check or an operation failed: exit code 1.
    No(String),
    /// Wrong usage or configuration: exit code 2.
    Usage(String),
}

impl Failure {
    /// A check or an operation failed.
    pub fn no(reason: impl std::fmt::Display) -> Self {
        Self::No(reason.to_string())
    }

    /// Wrong usage or configuration.
    pub fn usage(reason: impl std::fmt::Display) -> Self {
        Self::Usage(reason.to_string())
    }
}

/// Parses the command line and runs.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Ingest(args) => roles::ingest(args),
        Command::Process(args) => roles::process(args),
        Command::Sink(args) => roles::sink(args),
        Command::Api(args) => roles::api(args),
        Command::Init(args) => init::run(args),
        Command::Check(args) => check::run(args),
        Command::Describe(args) => describe::run(args),
        Command::Send(args) => send::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Key(args) => key::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::No(reason)) => fail(&reason, 1),
        Err(Failure::Usage(reason)) => fail(&reason, 2),
    }
}

fn fail(reason: &str, code: u8) -> ExitCode {
    if !reason.is_empty() {
        eprintln!("{reason}");
    }
    ExitCode::from(code)
}
