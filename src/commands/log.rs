//! `tally log`: an embedded log in its directory.

use super::Failure;
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use std::path::{Path, PathBuf};
use tally_model::format_ms;
use tally_streams::log::LogError;
use tally_streams::log::embedded::OfflineLog;

/// Arguments of `tally log`.
#[derive(Args)]
#[command(after_help = "\
`stat` and `verify` also work while a process has the log open; `verify` then checks records, but not the pages of the file.
For `compact`, stop the process first. It leaves what is younger than 3 minutes, and needs room for a second file.")]
pub struct LogArgs {
    /// What to do
    #[arg(value_enum)]
    action: Action,
    /// Directory of the log, as in --log embedded:DIR
    #[arg(value_name = "DIR", default_value = "./data/log")]
    dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    /// Print records, bytes and times of each topic
    Stat,
    /// Read everything and name every damaged place; exit code 1 if there is one
    Verify,
    /// Merge small batches, remove replaced records of compacted topics, and shorten the file
    Compact,
}

/// Opens the log and does it.
pub fn run(args: LogArgs) -> Result<(), Failure> {
    match args.action {
        Action::Stat => stat(&opened(OfflineLog::open_shared(&args.dir))?),
        Action::Verify => verify(&opened(OfflineLog::open_shared(&args.dir))?),
        Action::Compact => compact(opened(OfflineLog::open(&args.dir))?, &args.dir),
    }
}

/// What cannot be opened is a wrong argument, or damage that its address names.
pub(super) fn opened(log: Result<OfflineLog, LogError>) -> Result<OfflineLog, Failure> {
    log.map_err(|error| match error {
        LogError::Corrupt { .. } => Failure::no(error),
        _ => Failure::usage(error),
    })
}

fn stat(log: &OfflineLog) -> Result<(), Failure> {
    let topics = log.stat().map_err(Failure::no)?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "topic",
        "partitions",
        "records",
        "batches",
        "live bytes",
        "file bytes",
        "oldest",
        "newest",
    ]);
    for topic in &topics {
        let numbers = [topic.partitions.into(), topic.records, topic.batches, topic.live_bytes, topic.file_bytes];
        let times = topic.times_ms.map(|(oldest, newest)| [oldest, newest].map(format_ms));
        let cells = [topic.topic.to_string()].into_iter().chain(numbers.map(|number| number.to_string()));
        table.add_row(cells.chain(times.into_iter().flatten()));
    }
    for column in table.column_iter_mut().skip(1).take(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{}", table.trim_fmt());
    if let Some(space) = log.space().map_err(Failure::no)? {
        println!("\nfile: {} bytes, of which {} hold data", space.file_bytes, space.live_bytes);
    }
    Ok(())
}

fn verify(log: &OfflineLog) -> Result<(), Failure> {
    let verified = log.verify().map_err(Failure::no)?;
    if verified.damage.is_empty() {
        let kept = if log.is_shared() {
            "; a process has the log open, so the pages of its file were not verified"
        } else {
            ""
        };
        println!("no damage: {} records in {} bytes{kept}", verified.records, verified.bytes);
        return Ok(());
    }
    Err(Failure::no(format!(
        "{}\n{} damaged places; {} records can be read",
        verified.damage.join("\n"),
        verified.damage.len(),
        verified.records
    )))
}

fn compact(log: OfflineLog, dir: &Path) -> Result<(), Failure> {
    let before = file_bytes(dir)?;
    log.compact().map_err(Failure::no)?;
    println!("{before} bytes became {}", file_bytes(dir)?);
    Ok(())
}

fn file_bytes(dir: &Path) -> Result<u64, Failure> {
    let file = dir.join("data.mdb");
    file.metadata().map(|about| about.len()).map_err(|e| Failure::no(format!("{}: {e}", file.display())))
}
