//! The file of a SQLite database as a whole: where it is, a copy of it, and the log that the copy belongs to.

use super::owner::stored;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Error};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// How long the copy waits for the transactions of others, which may follow each other closely.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How long others may be kept from writing: less than they wait for a lock.
const HELD_MAX: Duration = Duration::from_secs(3);
/// Between two looks whether the copy has begun.
const LOOK: Duration = Duration::from_millis(1);

/// The file of a database; None if it is on a server. The error names the mistake and never contains a password.
pub fn database_file(url: &str) -> Result<Option<PathBuf>, String> {
    if !url.starts_with("sqlite:") {
        return Ok(None);
    }
    let options = SqliteConnectOptions::from_str(url).map_err(|e| e.to_string())?;
    Ok(Some(options.get_filename().to_owned()))
}

/// Writes a copy of a SQLite database to the file `to`, which must not exist, durably, while others may use the database.
/// `fix` is called at the moment of the copy: nobody can change the database from before the copy begins until `fix` has
/// returned. That takes milliseconds; the copy itself hinders nobody. `finish` gets what `fix` has returned, and runs while
/// the copy is written.
pub fn copy_database<T, U>(
    file: &Path,
    to: &Path,
    fix: impl FnOnce() -> Result<T, String>,
    finish: impl FnOnce(T) -> Result<U, String>,
) -> Result<U, String> {
    let failed = |error: Error| format!("{}: {error}", file.display());
    runtime()?.block_on(async {
        let mut lock = connect(file).await.map_err(failed)?;
        // Only readers pass from here on.
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut lock).await.map_err(failed)?;
        let mut copier = connect(file).await.map_err(failed)?;
        let target = to.to_string_lossy().into_owned();
        let finished = {
            let mut copy = pin!(sqlx::query("VACUUM INTO ?").bind(target).execute(&mut copier));
            // A small copy is written all at once, at its end.
            let (mut ended, since) = (None, Instant::now());
            while ended.is_none() && !has_begun(to) {
                if since.elapsed() > HELD_MAX {
                    let file = file.display();
                    return Err(format!("{file}: its copy did not begin within {HELD_MAX:?}: try again later"));
                }
                ended = tokio::time::timeout(LOOK, copy.as_mut()).await.ok();
            }
            let fixed = fix();
            sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.map_err(failed)?;
            // A connection works on a thread of its own.
            let finished = fixed.and_then(finish);
            match ended {
                Some(outcome) => outcome.map_err(failed)?,
                None => copy.await.map_err(failed)?,
            };
            finished?
        };
        for connection in [lock, copier] {
            Connection::close(connection).await.map_err(failed)?;
        }
        File::open(to).and_then(|copy| copy.sync_all()).map_err(|e| format!("{}: {e}", to.display()))?;
        Ok(finished)
    })
}

/// Whether the copy reads its snapshot already: it writes nothing before.
fn has_begun(copy: &Path) -> bool {
    copy.metadata().is_ok_and(|about| about.len() > 0)
}

/// The log that a database was filled from; None if it names none.
pub fn log_of(file: &Path) -> Result<Option<String>, String> {
    runtime()?.block_on(async {
        let mut connection = connect(file).await.map_err(|e| format!("{}: {e}", file.display()))?;
        // Older releases have no such table.
        let named = stored(&mut connection).await.unwrap_or_default();
        Connection::close(connection).await.map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(named)
    })
}

/// Makes a database that names a log, and that no process uses, that of another log.
pub fn rename_log(file: &Path, log: &str) -> Result<(), String> {
    let failed = |error: Error| format!("{}: {error}", file.display());
    runtime()?.block_on(async {
        let mut connection = connect(file).await.map_err(failed)?;
        let update = sqlx::query("UPDATE sink_log SET log_id = ?").bind(log);
        update.execute(&mut connection).await.map_err(failed)?;
        Connection::close(connection).await.map_err(failed)
    })
}

fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())
}

async fn connect(file: &Path) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(false).busy_timeout(LOCK_WAIT);
    options.disable_statement_logging().connect().await
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
