//! Faults of all kinds on real Kafka, MariaDB and Redis, with roles apart, checked to the last event:
//! `cargo run --release --example faults -- --events 2000000 --kills 100 --seed 1`.
//!
//! It starts services of its own (`deploy/services.sh`), sends a workload to the ingest API of real processes, and does
//! harm meanwhile: SIGKILL of roles, SIGSTOP for longer than a session lasts, restarts of Kafka, MariaDB and Redis,
//! FLUSHALL, connections cut at chosen requests. Then every count in topic, tables, hashes and API is compared with a
//! naive model that reads the log. The last line begins with `exact:`, or there are differences and the exit code is 1.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tally_exactness::faults::FaultRun;

// As in the binary: this process is the binary too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends a workload through roles apart on real services, does harm, and compares everything with a naive model.
#[derive(Parser)]
struct Args {
    /// Lines of the workload at least: it sends on until all kills are done
    #[arg(long, default_value_t = 500_000)]
    events: u64,
    /// Seed of the workload and of the faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// SIGKILLs while it sends; other faults come with them
    #[arg(long, default_value_t = 100)]
    kills: u32,
    /// Pauses between kills, to compare all boards; once more at the end
    #[arg(long, default_value_t = 20)]
    moments: u32,
    /// How long a stopped process is stopped
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    zombie: Duration,
    /// Events a second; by default as fast as it goes, or with kills so that there is one every four seconds
    #[arg(long)]
    rate: Option<u64>,
    /// A tally binary to use instead of the one in this program
    #[arg(long)]
    binary: Option<PathBuf>,
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
    let binary = args.binary.unwrap_or_else(|| std::env::current_exe().expect("the path of this program"));
    let run = FaultRun {
        binary: &binary,
        dir: &dir,
        events: args.events,
        seed: args.seed,
        collects: 0,
        kills: args.kills,
        moments: args.moments,
        zombie: args.zombie,
        rate: args.rate.or_else(|| (args.kills > 0).then(|| (args.events / u64::from(args.kills) / 4).max(1))),
        say: &|line| println!("{:>6.1} s  {line}", begun.elapsed().as_secs_f64()),
    };
    run.run().report()
}
