//! A large run, checked to the last event: `cargo run --release --example exact -- --events 2000000 --kills 50`.
//!
//! It writes a workload, sends it to the ingest API of a real process, kills that process `--kills` times, restarts it on the
//! same data, and compares every count, reaction and verdict with a naive model that reads the log. The last line begins with
//! `exact:`, or there are differences and the exit code is 1.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use tally_exactness::ExactRun;

// As in the binary: this process is the binary too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends a workload through a real process and compares everything with a naive model.
#[derive(Parser)]
struct Args {
    /// Lines of the workload at least: it sends on until all kills and moments are done
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Seed of the workload and of the moments of the kills
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// SIGKILLs while it sends
    #[arg(long, default_value_t = 0)]
    kills: u32,
    /// Pauses while it sends, to compare all boards; once more at the end
    #[arg(long, default_value_t = 20)]
    moments: u32,
    /// Events a second; by default as fast as it goes, or with kills so that there is one a second
    #[arg(long)]
    rate: Option<u64>,
    /// Where everything is kept afterwards; by default it is thrown away
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    // Started under this name by itself: `cargo run --example` builds no binaries, and this way none can be out of date.
    if std::env::args().next().as_deref() == Some("tally") {
        return tally::commands::main();
    }
    let args = Args::parse();
    let scratch = tempfile::tempdir().expect("a directory for the run");
    let dir = args.dir.unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    let begun = Instant::now();
    let binary = std::env::current_exe().expect("the path of this program");
    let run = ExactRun {
        binary: &binary,
        dir: &dir,
        events: args.events,
        seed: args.seed,
        kills: args.kills,
        moments: args.moments,
        rate: args.rate.or_else(|| (args.kills > 0).then(|| (args.events / u64::from(args.kills)).max(1))),
        say: &|line| println!("{:>6.1} s  {line}", begun.elapsed().as_secs_f64()),
    };
    run.run().report()
}
