//! What differs between the databases' SQL. Everything else is one code path.

use super::table::Table;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Error, SqlSafeStr};

/// The statements of one kind of database.
pub struct Dialect {
    /// Opens the transaction of a batch.
    pub begin: &'static str,
    /// The end of a SELECT whose rows must stay as they are until the transaction ends.
    pub for_update: &'static str,
    /// Creates the row of a position (topic, partition) if it is missing, and locks it: a missing row cannot be locked.
    /// None if `begin` has locked everything.
    pub claim: Option<&'static str>,
    /// Makes the database a log's (its id), unless it is one's already.
    pub claim_log: &'static str,
    /// The upsert of a number of rows. No row is replaced by one of a smaller version.
    pub upsert: fn(&Table, usize) -> String,
    /// Whether an error means that a row itself cannot be stored: a retry would not help.
    pub is_refusal: fn(&Error) -> bool,
    /// Delete a slice of what is too old.
    pub expired: Expired,
}

/// Statements that delete at most a number of rows from before a time: their parameters.
pub struct Expired {
    /// The time, the number.
    pub verdicts: &'static str,
    /// The time, the number.
    pub dead_letters: &'static str,
    /// The time twice, the number. The first comparison is for the index, the second is what counts.
    pub counter_windows: &'static str,
    /// Of windows of one kind and a number of metrics: the first start and the one behind the last, the columns `window_ms`
    /// and `window_kind`, the metrics, the number.
    pub windows_of: fn(usize) -> String,
}

/// The next offset of a position that was claimed and has none yet. It is not visible outside of that transaction.
pub const CLAIMED: i64 = -1;

/// `(?, ?), (?, ?)`: placeholders for rows.
pub fn placeholders(columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row; rows].join(", ")
}

/// Names in back quotes, which both databases take, separated by commas.
pub fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What brings the tables up to date: migrations with a name each, numbered from 1.
pub fn migrator<const N: usize>(migrations: [(&'static str, &'static str); N]) -> Migrator {
    let migration = |(number, (name, sql)): (i64, (&'static str, &'static str))| {
        Migration::new(number, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations((1..).zip(migrations).map(migration).collect())
}
