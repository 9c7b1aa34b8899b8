//! The address of a database, as `--database` and `--database-read` take it.

use super::Failure;
use super::addresses::shown;
use tally_sinks::check_options;

/// Checks the scheme and the options of a database's address; opening the database checks the rest. No error contains a
/// password.
pub(super) fn database<'a>(flag: &str, url: &'a str) -> Result<&'a str, Failure> {
    match url.split_once(':') {
        Some(("sqlite", rest)) if !rest.is_empty() => Ok(url),
        Some(("mysql", rest)) if rest.starts_with("//") => match check_options(rest) {
            Err(why) => Err(Failure::usage(format!("{flag} mysql://…: {why}"))),
            Ok(()) => Ok(url),
        },
        _ => {
            let form = "`sqlite:FILE` or `mysql://user:password@host[:port]/db`";
            Err(Failure::usage(format!("{flag} {}: not known; use {form}", shown(url))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_that_is_not_known_is_refused_without_its_password() {
        for url in [
            "sqlite:./data/tally.db",
            "mysql://u:secret@h/db",
            "mysql://u:se?cret@h/db?ssl-mode=VERIFY_CA&sslca=ca.pem",
            "mysql://h/db?",
        ] {
            assert_eq!(database("--database", url).ok(), Some(url));
        }
        for (url, shown) in [
            ("postgres://u:secret@h/db", "postgres"),
            ("mysql:u:secret@h/db", "mysql"),
            ("sqlite:", "sqlite:"),
            ("u/secret@h", "…"),
            ("tally.db", "tally.db"),
        ] {
            let Err(Failure::Usage(refused)) = database("--database-read", url) else { panic!("{url}") };
            let expected = format!("--database-read {shown}: not known; use `sqlite:FILE` or `mysql://");
            assert!(refused.starts_with(&expected) && !refused.contains("secret"), "{refused}");
        }
        for (url, name) in [
            ("mysql://u:secret@h/db?tls=true", "tls"),
            ("mysql://u:secret@h/db?ssl-mode=REQUIRED&sslmod=x", "sslmod"),
            ("mysql://u:secret@h/db?charset=latin1", "charset"),
        ] {
            let Err(Failure::Usage(refused)) = database("--database", url) else { panic!("{url}") };
            assert!(
                refused.starts_with(&format!("--database mysql://…: `?{name}` is not known; known are")),
                "{refused}"
            );
        }
    }

    #[test]
    fn an_option_of_tls_without_effect_is_refused() {
        for (options, expected) in [
            (
                "ssl-ca=secret.pem",
                Some("`?ssl-ca` has no effect: no certificate is checked without ssl-mode=VERIFY_CA"),
            ),
            ("sslca=secret.pem&ssl-mode=REQUIRED", Some("`?ssl-ca` has no effect")),
            ("ssl-mode=verify_identity&ssl-ca=a.pem", None),
            ("sslmode=DISABLED&ssl-cert=c&ssl-key=k", Some("`?ssl-cert` has no effect with ssl-mode=DISABLED")),
            ("ssl-cert=secret", Some("`?ssl-cert` needs `ssl-key`")),
            ("sslkey=secret", Some("`?ssl-key` needs `ssl-cert`")),
            ("ssl-cert=c&sslkey=k", None),
            ("", None),
        ] {
            let url = format!("mysql://u:secret@h/db?{options}");
            let refused = database("--database", &url).err().map(|failure| format!("{failure:?}"));
            let begin = expected.map(|expected| format!("Usage(\"--database mysql://…: {expected}"));
            match (refused, begin) {
                (Some(refused), Some(begin)) => {
                    assert!(refused.starts_with(&begin) && !refused.contains("secret"), "{refused}")
                }
                (refused, begin) => assert_eq!(refused, begin, "{options}"),
            }
        }
    }
}
