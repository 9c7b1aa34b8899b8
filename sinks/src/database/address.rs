//! Addresses of databases: the scheme picks the engine.

use super::connection::Address;
use super::options::check_options;
use super::{mysql, sqlite};
use crate::store::{SinkType, StoreAddress, StoreKind, StoreUrl};
use tally_model::OutputType;

/// Sinks that write to a database.
pub const SINK_TYPE: SinkType = SinkType {
    name: "database",
    kind: StoreKind::Database,
    schemes: &["sqlite", "mysql"],
    values: &OutputType::ALL,
    parse,
};

fn parse(url: &StoreUrl) -> Result<StoreAddress, String> {
    address(url.as_str())?;
    if url.as_str().starts_with("mysql:") {
        check_options(url.as_str())?;
    }
    Ok(StoreAddress::Database(url.clone()))
}

/// Parses an address. The error names the mistake and never contains a password.
pub fn address(url: &str) -> Result<Box<dyn Address>, String> {
    match url {
        _ if url.starts_with("sqlite:") => sqlite::address(url),
        _ if url.starts_with("mysql://") => mysql::address(url),
        _ => Err("use `sqlite:FILE` or `mysql://user:password@host[:port]/db`".into()),
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
            let refused = address(url).err().unwrap();
            assert!(refused.contains(part), "{url}: {refused}");
        }
        assert!(address("mysql://u:p@h:3307/db").is_ok() && address("sqlite:a.db").is_ok());
    }
}
