//! The options of a MySQL address, behind its `?`.

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
pub fn check_options(address: &str) -> Result<(), String> {
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
