//! Checks, before anything is written, that log, database and state directory belong together.

use super::roles::Roles;
use super::site::Site;
use super::stores::Stores;
use crate::commands::{Failure, LogAddress};
use std::time::{Duration, Instant};
use tally_sinks::{Database, SinkError, SinkTask, StoreUrl, log_name};
use tally_streams::runtime::StateDir;

/// A broker that has just restarted may answer with older ends for a moment.
const STALE_MAX: Duration = Duration::from_secs(3);
const STALE_STEP: Duration = Duration::from_millis(200);

/// Evidence that a log existed, if an embedded one has no data. None without evidence, and if there is data.
pub fn proof_of_log(
    roles: &Roles,
    stores: Option<&Stores>,
    address: &LogAddress,
    state: Option<&StateDir>,
) -> Option<String> {
    let LogAddress::Embedded(dir) = address else { return None };
    if dir.join("data.mdb").exists() {
        return None;
    }
    if let Some(state) = state.filter(|state| state.has_checkpoints()) {
        return Some(format!("the state directory {} with its checkpoints", state.path().display()));
    }
    let stores = stores.filter(|_| roles.sink.is_some())?;
    let mut owners = stores.databases().filter_map(|url| Database::owner(url.as_str()));
    let owner = owners.find(|owner| owner.is_filled)?;
    let name = owner.log_id.map_or(String::new(), |log_id| format!(" of log {log_id}"));
    Some(format!("the database with rows{name}"))
}

/// Rejects a database that another log filled, and one whose positions are beyond the end of this log.
pub fn check_sink(task: &mut SinkTask, is_remote: bool) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        match task.check_origin() {
            Ok(()) => return Ok(()),
            Err(SinkError::Origin { may_pass: true, .. }) if is_remote && begun.elapsed() < STALE_MAX => {
                std::thread::sleep(STALE_STEP);
            }
            Err(error) => return Err(Failure::usage(error)),
        }
    }
}

/// Refuses to serve reads from a database that another log filled. A database that does not answer yet is not checked:
/// its sinks refuse it.
pub fn check_read(site: &Site, from: &str, url: &StoreUrl) -> Result<(), Failure> {
    let ours = log_name(site.control.log_id);
    match Database::owner(url.as_str()).and_then(|owner| owner.log_id) {
        Some(theirs) if theirs != ours => Err(Failure::usage(format!(
            "{from}: the database belongs to log {theirs}, and this is log {ours}: name the database that the sinks of this \
             log write to"
        ))),
        _ => Ok(()),
    }
}
