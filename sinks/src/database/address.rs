//! Addresses of databases: the scheme picks the engine.

use super::mysql::ServerAddress;
use super::options::check_options;
use crate::store::{SinkType, StoreAddress, StoreKind, StoreUrl};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use std::str::FromStr;

/// Sinks that write to a database.
pub const SINK_TYPE: SinkType =
    SinkType { name: "database", kind: StoreKind::Database, schemes: &["sqlite", "mysql"], parse };

fn parse(url: &StoreUrl) -> Result<StoreAddress, String> {
    Address::parse(url.as_str())?;
    if url.as_str().starts_with("mysql:") {
        check_options(url.as_str())?;
    }
    Ok(StoreAddress::Database(url.clone()))
}

/// Where a database is, and how to connect to it.
pub enum Address {
    /// `sqlite:FILE`
    Sqlite(Box<SqliteConnectOptions>),
    /// `mysql://user:password@host[:port]/db`, MySQL or MariaDB.
    MySql(ServerAddress),
}

impl Address {
    /// Parses an address. The error names the mistake and never contains a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        if url.starts_with("sqlite:") {
            // The parser's messages name the mistake and never repeat the input.
            let options = SqliteConnectOptions::from_str(url).map_err(|e| e.to_string())?;
            return Ok(Self::Sqlite(Box::new(options.disable_statement_logging())));
        }
        if !url.starts_with("mysql://") {
            return Err("use `sqlite:FILE` or `mysql://user:password@host[:port]/db`".into());
        }
        ServerAddress::parse(url).map(Self::MySql)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_used_say_what_to_write() {
        for (url, part) in [
            ("mysql://u:p@h", "names no database"),
            ("mysql://u:p@h/", "names no database"),
            ("mysql://u:p@h:port/db", "invalid port number"),
            ("mysql://u:p@h/db?ssl-mode=maybe", "use `mysql://"),
            ("postgres://u:p@h/db", "use `sqlite:FILE` or `mysql://"),
        ] {
            let refused = Address::parse(url).err().unwrap();
            assert!(refused.contains(part), "{url}: {refused}");
        }
        assert!(Address::parse("mysql://u:p@h:3307/db").is_ok() && Address::parse("sqlite:a.db").is_ok());
    }
}
