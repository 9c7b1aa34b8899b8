//! `tally key`: makes an API key.

use super::Failure;
use clap::Args;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tally_access::{KeyRing, Limits, MintedKey, Scope, mint};
use tally_model::parse_ms;

/// Arguments of `tally key`.
#[derive(Args)]
#[command(after_help = "\
The key is printed once and not stored: the file of --keys has only its hash. A running process reloads the file when
it changes.")]
pub struct KeyArgs {
    /// Name of the key in the file: 1 to 64 letters, digits, `-`, `.`, `_`
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Scopes: write, read, admin, metrics
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true, value_parser = scope)]
    scope: Vec<Scope>,
    /// Expiry: a time like 2027-01-31T00:00:00Z, or a duration like 90d; never by default
    #[arg(long, value_name = "TIME", value_parser = end)]
    expires: Option<i64>,
    /// Requests per minute to each process; unlimited by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_minute: Option<u32>,
    /// Events per minute; unlimited by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    events_per_minute: Option<u32>,
    /// Replaces --limit-actor for this key; 0 for no limit, as for imports
    #[arg(long, value_name = "N")]
    per_actor_per_minute: Option<u32>,
    /// Append the entry to this file, which is created if missing
    #[arg(long, value_name = "FILE")]
    append: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

fn scope(text: &str) -> Result<Scope, String> {
    text.parse()
}

fn end(text: &str) -> Result<i64, String> {
    if let Some(time_ms) = parse_ms(text) {
        return Ok(time_ms);
    }
    let span = humantime::parse_duration(text).map_err(|_| "must be a time like 2027-01-31T00:00:00Z, or 90d")?;
    Ok(crate::process::now_ms().saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

/// Prints a new key, and what lets it in.
pub fn run(args: KeyArgs) -> Result<(), Failure> {
    let limits = Limits {
        requests_per_minute: args.requests_per_minute,
        events_per_minute: args.events_per_minute,
        per_actor_per_minute: args.per_actor_per_minute,
    };
    let of_events = [("events", args.events_per_minute), ("per-actor", args.per_actor_per_minute)];
    if let Some((what, _)) = of_events.iter().find(|(_, limit)| limit.is_some())
        && !args.scope.contains(&Scope::Write)
    {
        return Err(Failure::usage(format!("--{what}-per-minute: without `--scope write` this key sends no events")));
    }
    let minted = mint(&args.name, &args.scope, args.expires, &limits);
    let MintedKey { key, entry } =
        minted.map_err(|e| Failure::no(format!("the system's random number generator failed: {e}")))?;
    KeyRing::parse(&entry).map_err(|_| {
        Failure::usage(format!("--name {}: must be 1 to 64 letters, digits and `-` `.` `_`", args.name))
    })?;
    if let Some(path) = &args.append {
        append(path, &entry)?;
    }
    match (args.json, &args.append) {
        (true, _) => println!("{}", json!({ "key": key, "entry": entry })),
        (false, Some(_)) => println!("{key}"),
        (false, None) => print!("{key}\n\nThe key is above, for once. For the file of --keys:\n\n{entry}"),
    }
    Ok(())
}

/// Replaces the file atomically by one with another entry: a concurrent reader sees one of the two.
fn append(path: &Path, entry: &str) -> Result<(), Failure> {
    let wrong = |e: std::io::Error| Failure::usage(format!("--append {}: {e}", path.display()));
    let mut text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(wrong(e)),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(entry);
    KeyRing::parse(&text).map_err(|why| Failure::usage(format!("--append {}:{why}", path.display())))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(wrong)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(wrong)?;
    if let Ok(before) = fs::metadata(path) {
        fs::set_permissions(&new, before.permissions()).map_err(wrong)?;
    }
    fs::rename(&new, path).map_err(wrong)
}
