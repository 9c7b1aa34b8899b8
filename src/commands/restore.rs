//! `tally restore`: a log and its database from a backup.

use super::Failure;
use super::addresses::StateArgs;
use super::backup::PlaceArgs;
use crate::backup::{DATABASE_FILE, Identity, LOG_FILE, Manifest, Place, refuse_data, with_suffix};
use clap::Args;
use std::path::{Path, PathBuf};
use tally_sinks::{log_name, log_of, rename_log};
use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::runtime::renew_log_id;

/// The ending of what is not complete yet.
const UNFINISHED: &str = ".restoring";

/// Arguments of `tally restore`.
#[derive(Args)]
#[command(after_help = "\
Nothing is overwritten: log, database and state directory must be empty or missing. The restored log gets another id, so
that receipts of the lost one are answered with 410.")]
pub struct RestoreArgs {
    /// Directory of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    places: PlaceArgs,
    #[command(flatten)]
    state: StateArgs,
}

/// What a log was called, and is called now.
struct Renewed {
    before: Identity,
    log_id: String,
}

/// Copies the files of the backup, and gives the log its new id.
pub fn run(args: RestoreArgs) -> Result<(), Failure> {
    let (log_dir, database) = (args.places.log_dir()?, args.places.database_file()?);
    let manifest = Manifest::read(&args.from).map_err(Failure::no)?;
    if database.is_none() && manifest.file(DATABASE_FILE).is_some() {
        return Err(Failure::usage(
            "the backup has the file of a database: name a place for it with --database sqlite:FILE",
        ));
    }
    // A checkpoint that is newer than the log would be taken for valid once the log has grown past it.
    refuse_data(&args.state.state).map_err(Failure::usage)?;
    if let Some(file) = &database {
        // SQLite would apply these to the restored file.
        for suffix in ["", "-wal", "-shm", "-journal"] {
            refuse_data(&with_suffix(file, suffix)).map_err(Failure::usage)?;
        }
    }
    let log = Place::directory(&log_dir, UNFINISHED, 0o755).map_err(Failure::usage)?;
    let file = database.as_deref().filter(|_| manifest.file(DATABASE_FILE).is_some());
    let database = file.map(|file| Place::file(file, UNFINISHED)).transpose().map_err(Failure::usage)?;
    let renewed = restore(&args.from, &manifest, &log, database.as_ref())?;
    // The log last: a database without a log is refused, and a log without its database would fill a new one, without
    // collects.
    database.map(Place::finish).transpose().map_err(Failure::no)?;
    log.finish().map_err(Failure::no)?;
    println!("restored as of {}, by release {}", manifest.taken_at, manifest.release);
    for Renewed { before, log_id } in &renewed {
        println!("log {} is now log {log_id}", before.log_id);
    }
    if file.is_none() {
        for Renewed { before, log_id } in &renewed {
            println!(
                "a database on a server that was restored as well: UPDATE sink_log SET log_id = '{log_id}' WHERE log_id = '{}'",
                before.log_id
            );
        }
    }
    Ok(())
}

fn restore(from: &Path, manifest: &Manifest, log: &Place, database: Option<&Place>) -> Result<Vec<Renewed>, Failure> {
    let data = log.unfinished().join("data.mdb");
    private_file(&data).map_err(|e| Failure::no(format!("{}: {e}", data.display())))?;
    for (path, to) in [(LOG_FILE, Some(data.as_path())), (DATABASE_FILE, database.map(Place::unfinished))] {
        if let (Some(file), Some(to)) = (manifest.file(path), to) {
            file.restore(from, to).map_err(Failure::no)?;
        }
    }
    let renewed = renew(log.unfinished(), &manifest.logs)?;
    if let Some(file) = database.map(Place::unfinished)
        && let Some(named) = log_of(file).map_err(Failure::no)?
    {
        let log = renewed.iter().find(|log| log.before.log_id == named);
        let log = log.ok_or_else(|| Failure::no(format!("the database in the backup belongs to log {named}")))?;
        rename_log(file, &log.log_id).map_err(Failure::no)?;
        let synced = std::fs::File::open(file).and_then(|file| file.sync_all());
        synced.map_err(|e| Failure::no(format!("{}: {e}", file.display())))?;
    }
    Ok(renewed)
}

/// The log has the secret that signs receipts.
fn private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

/// Gives the log another id, since it will use the offsets after its end for other events than the lost one has: by a receipt
/// of the lost one, these would be looked up.
fn renew(dir: &Path, logs: &[Identity]) -> Result<Vec<Renewed>, Failure> {
    let log = EmbeddedLog::open(dir, EmbeddedOptions::default()).map_err(Failure::no)?;
    let renewed = |before: &Identity| {
        let mut log_id = [0; 8];
        getrandom::fill(&mut log_id)
            .map_err(|e| Failure::no(format!("the system's random number generator failed: {e}")))?;
        renew_log_id(&log, &before.application, log_id).map_err(Failure::no)?;
        Ok(Renewed { before: before.clone(), log_id: log_name(log_id) })
    };
    logs.iter().map(renewed).collect()
}
