//! The address of a database, as `--database` and `--database-read` take it.

use super::Failure;
use super::addresses::shown;

/// Checks the scheme and the options of a database's address; whoever opens it looks at the rest. No error contains a
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

/// The options of a MySQL address. The driver ignores others silently.
const MYSQL_OPTIONS: &[&str] =
    &["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "collation", "socket", "statement-cache-capacity", "time-zone"];

/// The name of an option, which may be written without its hyphen.
fn with_hyphens(name: &str) -> &str {
    match name {
        "sslmode" => "ssl-mode",
        "sslca" => "ssl-ca",
        "sslcert" => "ssl-cert",
        "sslkey" => "ssl-key",
        "timezone" => "time-zone",
        other => other,
    }
}

/// Refuses options that are not known, and those of TLS where `ssl-mode` gives them no effect.
fn check_options(address: &str) -> Result<(), String> {
    let address = address.rsplit_once('@').map_or(address, |(_, rest)| rest);
    let query = address.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let pairs: Vec<_> = pairs.filter(|(name, _)| !name.is_empty()).collect();
    if let Some((name, _)) = pairs.iter().find(|(name, _)| !MYSQL_OPTIONS.contains(&with_hyphens(name))) {
        return Err(format!("`?{name}` is not known; known are {}", MYSQL_OPTIONS.join(", ")));
    }
    let of = |wanted: &str| pairs.iter().rev().find(|(name, _)| with_hyphens(name) == wanted).map(|(_, value)| *value);
    let mode = of("ssl-mode").unwrap_or_default().to_ascii_uppercase();
    if of("ssl-ca").is_some() && !["VERIFY_CA", "VERIFY_IDENTITY"].contains(&&*mode) {
        return Err("`?ssl-ca` has no effect: no certificate is checked without ssl-mode=VERIFY_CA or \
                    VERIFY_IDENTITY"
            .to_owned());
    }
    let of_client = ["ssl-cert", "ssl-key"];
    if let Some(name) = of_client.into_iter().find(|name| mode == "DISABLED" && of(name).is_some()) {
        return Err(format!("`?{name}` has no effect with ssl-mode=DISABLED: leave out one of them"));
    }
    match of_client.map(|name| of(name).is_some()) {
        [true, false] => Err("`?ssl-cert` needs `ssl-key`, the key of that certificate".to_owned()),
        [false, true] => Err("`?ssl-key` needs `ssl-cert`, the certificate of that key".to_owned()),
        _ => Ok(()),
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
