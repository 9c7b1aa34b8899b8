//! A backup of an embedded log and its database: a directory with copies, and a manifest that vouches for them.
//!
//! ```text
//! DIR/manifest.json   what the copies contain, with their sizes and checksums; written last
//! DIR/log/data.mdb    the log, without unused pages
//! DIR/tally.db        the database, if it is a SQLite file
//! ```
//!
//! A backup is made under the name `DIR.incomplete`, and gets its own name when all of it is durable.

mod file;
mod manifest;

pub use file::{Place, refuse_data, sync_dir, with_suffix};
pub use manifest::{BackedUpFile, Identity, MANIFEST, Manifest};

/// The log's file within a backup.
pub const LOG_FILE: &str = "log/data.mdb";
/// The database's file within a backup.
pub const DATABASE_FILE: &str = "tally.db";
