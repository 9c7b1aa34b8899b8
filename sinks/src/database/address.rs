//! Addresses of databases: the scheme picks the engine.

use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use std::str::FromStr;

/// Where a database is, and how to connect to it.
pub enum Address {
    /// `sqlite:FILE`
    Sqlite(Box<SqliteConnectOptions>),
    /// `mysql://user:password@host[:port]/db`, MySQL or MariaDB.
    MySql(Box<MySqlConnectOptions>),
}

impl Address {
    /// Reads an address, or says what is wrong with it. No message contains a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        // The parsers' messages say what is wrong, never what was given.
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url).map_err(|e| e.to_string())?;
            return Ok(Self::Sqlite(Box::new(options.disable_statement_logging())));
        }
        if !url.starts_with("mysql://") {
            return Err("use `sqlite:FILE` or `mysql://user:password@host[:port]/db`".into());
        }
        let options = MySqlConnectOptions::from_str(url).map_err(|e| {
            format!("{e}: use `mysql://user:password@host[:port]/db`, special characters percent-encoded")
        })?;
        match options.get_database() {
            None | Some("") => Err("it names no database: use `mysql://user:password@host[:port]/db`".into()),
            Some(_) => Ok(Self::MySql(Box::new(options.charset("utf8mb4").disable_statement_logging()))),
        }
    }
}

/// An address without its password, whatever else is wrong with it.
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once(':').filter(|(scheme, _)| *scheme != "sqlite") else {
        return url.to_owned();
    };
    let (slashes, rest) = rest.strip_prefix("//").map_or(("", rest), |rest| ("//", rest));
    match rest.rsplit_once('@') {
        Some((login, host)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}:{slashes}{user}:…@{host}")
        }
        None => format!("{scheme}:{slashes}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_an_address_shows_its_password() {
        for (url, shown) in [
            ("mysql://u:secret@h/db", "mysql://u:…@h/db"),
            ("mysql://u:sec/ret@h:3306/db?ssl-mode=REQUIRED", "mysql://u:…@h:3306/db?ssl-mode=REQUIRED"),
            ("mysql://u:sec@ret@h/db", "mysql://u:…@h/db"),
            ("mysql:u:secret@h/db", "mysql:u:…@h/db"),
            ("postgres://u:secret@h/db", "postgres://u:…@h/db"),
            ("mysql://h/db", "mysql://h/db"),
            ("sqlite:./a@b.db", "sqlite:./a@b.db"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(redacted(url), shown, "{url}");
            let refused = Address::parse(url).err().unwrap_or_default();
            assert!(!refused.contains("secret"), "{url}: {refused}");
        }
    }

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
