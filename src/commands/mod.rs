//! The subcommands. Exit codes: 0 success, 1 a check or an operation failed, 2 wrong usage or configuration.

mod access;
mod addresses;
mod backup;
mod check;
mod completions;
mod database_address;
mod demo;
mod describe;
mod features;
mod init;
mod key;
mod log;
mod man;
mod plan;
mod restore;
mod roles;
mod run;
mod schema;
mod send;
mod test;

pub use access::{AccessArgs, file_failure};
pub use addresses::{
    CacheAddress, ClockArgs, DATABASE, LogAddress, PageArgs, ReadArgs, SiteArgs, StateArgs, StoreArgs, TopologyFile,
    cache,
};
pub use demo::traffic;
pub use roles::{CallerArgs, IntakeArgs, StreamArgs};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use features::with_missing_features;
use std::process::ExitCode;

/// Stream processor for user-action events: exact counters, reactions and rankings.
#[derive(Parser)]
#[command(name = "tally", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything in one process: ingest API, stream threads, sinks and read API
    Run(run::RunArgs),
    /// Run the ingest API: accepts events over HTTP and writes them to the log
    Ingest(roles::IngestArgs),
    /// Run the stream threads: process the events in the log
    Process(roles::ProcessArgs),
    /// Run the sinks: write results to the database and the cache
    Sink(roles::SinkArgs),
    /// Run the read API, the page and the console
    Api(roles::ApiArgs),
    /// Write the built-in topology with its comments to a file, as a starting point
    Init(init::InitArgs),
    /// Validate the topology; lists every mistake with file, line and column
    Check(check::CheckArgs),
    /// Run the cases in `*_test.yaml` on their topologies, in memory
    Test(test::TestArgs),
    /// Print what a changed topology means for the state in a log, and for its last events
    Plan(plan::PlanArgs),
    /// Print the topology: subtopologies, nodes, stores, topics
    Describe(describe::DescribeArgs),
    /// Print a JSON Schema: of events, from the topology, or of topology files
    Schema(schema::SchemaArgs),
    /// Send a file of events to the ingest API, with retries
    Send(send::SendArgs),
    /// Send seeded synthetic traffic to the ingest API, or write it to a file
    Demo(demo::DemoArgs),
    /// Create an API key, and its entry for the file of keys
    Key(key::KeyArgs),
    /// Inspect, verify or compact an embedded log
    Log(log::LogArgs),
    /// Copy an embedded log and its database to a new directory, also while a process uses them
    Backup(backup::BackupArgs),
    /// Restore an embedded log and its database from a backup
    Restore(restore::RestoreArgs),
    /// Print the completions of a shell, such as `tally completions bash`
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    Man(man::ManArgs),
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

/// The commands and flags, as `docs/commands.md` lists them.
pub fn command_line() -> clap::Command {
    with_missing_features(Cli::command())
}

/// Parses the command line and runs.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&command_line().get_matches()).unwrap_or_else(|error| error.exit());
    let outcome = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Ingest(args) => roles::ingest(args),
        Command::Process(args) => roles::process(args),
        Command::Sink(args) => roles::sink(args),
        Command::Api(args) => roles::api(args),
        Command::Init(args) => init::run(args),
        Command::Check(args) => check::run(args),
        Command::Test(args) => test::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Describe(args) => describe::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Send(args) => send::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Key(args) => key::run(args),
        Command::Log(args) => log::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
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
