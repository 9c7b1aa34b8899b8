//! `tally backup`: a copy of an embedded log and its database, while they are used or not.

use super::addresses::shown;
use super::database_address::database;
use super::log::opened;
use super::{DATABASE, Failure, LogAddress};
use crate::backup::{BackedUpFile, DATABASE_FILE, Identity, LOG_FILE, Manifest, Place, sync_dir};
use crate::process::now_ms;
use clap::Args;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tally_model::format_ms;
use tally_sinks::{copy_database, database_file, log_name, log_of};
use tally_streams::log::embedded::{FixedCopy, OfflineLog};
use tally_streams::runtime::Control;

/// Where a log and its database are. The same flags and variables as those of `tally run`.
#[derive(Args)]
pub struct PlaceArgs {
    /// The log: embedded:DIR
    #[arg(long, env = "TALLY_LOG", value_name = "URL", default_value = "embedded:./data/log")]
    log: String,
    /// The database: sqlite:FILE. One on a server is not part of a backup
    #[arg(long, env = "TALLY_DATABASE", value_name = "URL", default_value = DATABASE, hide_env_values = true)]
    database: String,
}

impl PlaceArgs {
    /// The directory of the log.
    pub fn log_dir(&self) -> Result<PathBuf, Failure> {
        match LogAddress::parse(&self.log)? {
            Some(LogAddress::Embedded(dir)) => Ok(dir),
            Some(LogAddress::Kafka(_)) => Err(Failure::usage(format!(
                "--log {}: only an embedded log has a directory to copy: back up the topics of a cluster with its own tools \
                 (docs/operations.md, \"Backup on Kafka\")",
                shown(&self.log)
            ))),
            None => Err(Failure::usage(format!("--log {}: not known; use `embedded:DIR`", shown(&self.log)))),
        }
    }

    /// The file of the database; None if it is on a server.
    pub fn database_file(&self) -> Result<Option<PathBuf>, Failure> {
        let url = database("--database", &self.database)?;
        database_file(url).map_err(|e| Failure::usage(format!("--database {}: {e}", shown(&self.database))))
    }

    fn is_default_database(&self) -> bool {
        self.database == DATABASE
    }
}

/// Arguments of `tally backup`.
#[derive(Args)]
#[command(after_help = "\
A process may use both meanwhile; it is kept from writing to the database for milliseconds. A database on a server is not
copied: make a backup of it first, with its own tools, and then this one.")]
pub struct BackupArgs {
    /// Directory of the backup, which is created
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    places: PlaceArgs,
}

/// Makes the backup, verifies it, and gives it its name.
pub fn run(args: BackupArgs) -> Result<(), Failure> {
    let log_dir = args.places.log_dir()?;
    let database = args.places.database_file()?;
    let is_on_server = database.is_none();
    let database = match database {
        Some(file) if file.is_file() => Some(file),
        Some(_) if args.places.is_default_database() => None,
        Some(file) => return Err(Failure::usage(format!("{}: there is no database", file.display()))),
        None => None,
    };
    let log = opened(OfflineLog::open_shared(&log_dir))?;
    // The log has the secret that signs receipts.
    let place = Place::directory(&args.to, ".incomplete", 0o700).map_err(Failure::usage)?;
    let taken_at_ms = copy(&log, database.as_deref(), place.unfinished())?;
    drop(log);
    let (manifest, records) = complete(place.unfinished(), database.is_some(), taken_at_ms)?;
    place.finish().map_err(Failure::no)?;
    let bytes: u64 = manifest.files.iter().map(|file| file.size_bytes).sum();
    println!("{}: {records} records as of {}, in {bytes} bytes", args.to.display(), manifest.taken_at);
    if is_on_server {
        println!("without the database, which is on a server: restore this backup with an older one of the database");
    } else if database.is_none() {
        println!("without a database: there is none");
    }
    Ok(())
}

/// Copies both as of one moment, which is returned.
///
/// A database may be older than its log: sinks read on from its positions, and the relay sends once more what the outbox
/// still has, which counts once. It must not be newer. Nor must the log have collects that the rows lack: they would stay
/// counted. So the moment of both is one at which nobody can change the database: from before its copy begins until the log
/// is fixed, no sink moves a position, and no collect is granted.
fn copy(log: &OfflineLog, database: Option<&Path>, dir: &Path) -> Result<i64, Failure> {
    let target = dir.join(LOG_FILE);
    let copy = log.copy_to(target.parent().unwrap_or(dir)).map_err(Failure::no)?;
    let fix = || copy.fix().map(|fixed| (fixed, now_ms())).map_err(|e| e.to_string());
    let finish = |(fixed, taken_at_ms): (FixedCopy<'_>, i64)| {
        fixed.finish().map_err(|e| e.to_string())?;
        Ok(taken_at_ms)
    };
    let copied = match database {
        Some(file) => copy_database(file, &dir.join(DATABASE_FILE), fix, finish),
        None => fix().and_then(finish),
    };
    copied.map_err(Failure::no)
}

/// Verifies the copies, and writes the manifest; also returns how many records the log has.
fn complete(dir: &Path, has_database: bool, taken_at_ms: i64) -> Result<(Manifest, u64), Failure> {
    let log = opened(OfflineLog::open(dir.join(LOG_FILE).parent().unwrap_or(dir)))?;
    let verified = log.verify().map_err(Failure::no)?;
    if !verified.damage.is_empty() {
        let damage = verified.damage.join("\n");
        return Err(Failure::no(format!(
            "{damage}\nthe log is damaged, and there is no new backup: keep the last one"
        )));
    }
    let logs = identities(&log)?;
    let mut manifest = Manifest::new(format_ms(taken_at_ms), logs, log.ends().map_err(Failure::no)?);
    log.close_copy().map_err(Failure::no)?;
    if has_database {
        check_owner(&dir.join(DATABASE_FILE), &manifest.logs)?;
    }
    for path in [LOG_FILE, DATABASE_FILE].into_iter().take(1 + usize::from(has_database)) {
        let file = dir.join(path);
        let wrong = |e: std::io::Error| Failure::no(format!("{}: {e}", file.display()));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).map_err(wrong)?;
        std::fs::File::open(&file).and_then(|file| file.sync_all()).map_err(wrong)?;
        manifest.files.push(BackedUpFile::describe(dir, path).map_err(Failure::no)?);
    }
    manifest.write(dir).map_err(Failure::no)?;
    for dir in [dir.join(LOG_FILE).parent().unwrap_or(dir), dir] {
        sync_dir(dir).map_err(Failure::no)?;
    }
    Ok((manifest, verified.records))
}

/// The log's id for each application with a control record.
fn identities(log: &OfflineLog) -> Result<Vec<Identity>, Failure> {
    let topics = log.ends().map_err(Failure::no)?;
    let mut identities = Vec::new();
    for application in topics.keys().filter_map(|topic| topic.strip_suffix("-control")) {
        let (topic, key) = Control::place(application);
        if let Some(value) = log.newest(&topic, key).map_err(Failure::no)? {
            let control = Control::decode(&value).map_err(|reason| Failure::no(format!("{topic}: {reason}")))?;
            let log_id = log_name(control.log_id);
            identities.push(Identity { application: application.to_owned(), log_id });
        }
    }
    Ok(identities)
}

/// Refuses a database that was filled from another log.
fn check_owner(file: &Path, logs: &[Identity]) -> Result<(), Failure> {
    match log_of(file).map_err(Failure::no)? {
        Some(theirs) if logs.iter().all(|log| log.log_id != theirs) => Err(Failure::usage(format!(
            "the database belongs to log {theirs}, and not to this log: name the database that its sinks write to with \
             --database"
        ))),
        _ => Ok(()),
    }
}
