//! Where Redis is: the addresses that users write.

use std::fmt;
use std::path::{Path, PathBuf};

const PORT: u16 = 6379;
/// What keys begin with unless the address has a prefix.
const PREFIX: &str = "tally:";
const FORMS: &str = "`redis://[user:password@]host[:port][/db]`, `rediss://…` with TLS, \
    `redis+cluster://host:port,host2:port2`, `rediss+cluster://…`; behind it `?prefix=…` and, with TLS, `ca=FILE`";

/// One Redis, or a Redis Cluster. Shown without its password.
#[derive(Clone)]
pub struct RedisAddress {
    /// Host and port; of a Cluster some nodes, which know the others.
    pub(super) nodes: Vec<(String, u16)>,
    pub(super) cluster: bool,
    pub(super) tls: bool,
    /// The CA that signed the server's certificate, where it is not a public one.
    pub(super) ca: Option<PathBuf>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) db: i64,
    pub(super) prefix: String,
    /// The text that messages show instead, if its other parts are secret too.
    shown: Option<String>,
}

/// Why an address cannot be used. Names no password.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{shown}: {cause}")]
pub struct AddressError {
    /// The address without its password.
    pub shown: String,
    /// What is wrong and what to do.
    pub cause: String,
}

impl RedisAddress {
    /// Reads an address:
    ///
    /// - `redis://[user:password@]host[:port][/db]`, port 6379 and database 0 by default; `rediss://` with TLS.
    /// - `redis+cluster://host:port,host2:port2`: some nodes of a Cluster; `rediss+cluster://` with TLS.
    /// - `?prefix=…`: what the keys begin with, `tally:` by default. `ca=FILE`: the CA that signed the server's certificate,
    ///   in PEM, where it is not a public one.
    ///
    /// User and password may be percent-encoded.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url.split(':').next().unwrap_or_default(), ""));
        // A password may contain any character, so unparsable parts are not shown.
        let refused = |cause: String| AddressError { shown: format!("{scheme}://…"), cause };
        let (cluster, tls) = match scheme {
            "redis" => (false, false),
            "rediss" => (false, true),
            "redis+cluster" => (true, false),
            "rediss+cluster" => (true, true),
            _ => return Err(refused(format!("not known; there are {FORMS}"))),
        };
        // Behind the login there is neither `@` nor `?`: a password may hold either.
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, db) = rest.split_once('/').unwrap_or((rest, ""));
        let nodes = hosts.split(',').map(node).collect::<Option<Vec<_>>>();
        let nodes = nodes.ok_or_else(|| refused(format!("names no host and port; there are {FORMS}")))?;
        if !cluster && nodes.len() > 1 {
            return Err(refused("several hosts: a Cluster is `redis+cluster://host:port,host2:port2`".into()));
        }
        let db = match db {
            "" => 0,
            number => number.parse().ok().filter(|db| *db >= 0).ok_or_else(|| {
                refused(format!("`/{number}`: what follows the host is the number of a database; there are {FORMS}"))
            })?,
        };
        if cluster && db != 0 {
            return Err(refused("a Cluster has only database 0".into()));
        }
        let decoded = |text: &str| decode(text).ok_or_else(|| refused("is not percent-encoded UTF-8".into()));
        let (username, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(decoded(user)?), Some(decoded(password)?)),
            None => (None, None),
        };
        let present = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (username, password) = (present(username), present(password));
        let prefix = PREFIX.to_owned();
        let mut address = Self { nodes, cluster, tls, ca: None, username, password, db, prefix, shown: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("prefix", prefix)) => address.prefix = decoded(prefix)?,
                Some(("ca", file)) if tls => address.ca = Some(decoded(file)?.into()),
                _ => {
                    return Err(refused(format!(
                        "`?{}` is not known; there are {FORMS}",
                        pair.split('=').next().unwrap_or(pair)
                    )));
                }
            }
        }
        if address.prefix.contains(['{', '}']) {
            return Err(refused("a prefix cannot hold braces: they choose the slot of a key".into()));
        }
        Ok(address)
    }

    /// The same Redis, which messages show as this text.
    pub fn shown_as(mut self, text: &str) -> Self {
        self.shown = Some(text.to_owned());
        self
    }

    /// The file of the certificates that are trusted, where the address names one.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }
}

impl PartialEq for RedisAddress {
    fn eq(&self, other: &Self) -> bool {
        let Self { nodes, cluster, tls, ca, username, password, db, prefix, shown: _ } = self;
        (nodes, cluster, tls, ca) == (&other.nodes, &other.cluster, &other.tls, &other.ca)
            && (username, password, db, prefix) == (&other.username, &other.password, &other.db, &other.prefix)
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(shown) = &self.shown {
            return f.write_str(shown);
        }
        let scheme = if self.tls { "rediss" } else { "redis" };
        write!(f, "{scheme}{}://", if self.cluster { "+cluster" } else { "" })?;
        match (&self.username, &self.password) {
            (user, Some(_)) => write!(f, "{}:…@", user.as_deref().unwrap_or_default())?,
            (Some(user), None) => write!(f, "{user}@")?,
            (None, None) => {}
        }
        for (i, (host, port)) in self.nodes.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
            write!(f, "{comma}{open}{host}{close}:{port}")?;
        }
        if self.db == 0 { Ok(()) } else { write!(f, "/{}", self.db) }
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} prefix {:?}", self.prefix)
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn node(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => PORT,
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    (!host.is_empty() && host.chars().all(legal)).then(|| (host.to_owned(), port))
}

/// Undoes percent-encoding; None where a `%` stands alone or what comes out is no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        out.push(if byte == b'%' { (digit()? * 16 + digit()?) as u8 } else { byte });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_read_and_shown_without_its_password() {
        for (url, shown) in [
            ("redis://localhost", "redis://localhost:6379"),
            ("rediss://h:1/3", "rediss://h:1/3"),
            ("redis://:pass@h:7", "redis://:…@h:7"),
            ("redis://me@h:7", "redis://me@h:7"),
            ("redis://me:p%40ss@word?/@h:7/1", "redis://me:…@h:7/1"),
            ("redis+cluster://a:1,b,c:3", "redis+cluster://a:1,b:6379,c:3"),
            ("rediss+cluster://u:p@[::1]:9,10.0.0.2:8/", "rediss+cluster://u:…@[::1]:9,10.0.0.2:8"),
        ] {
            let address = RedisAddress::parse(url).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.prefix, "tally:");
            assert!(crate::is_redis(url) && !format!("{address:?}").contains("word"));
        }
        let address = RedisAddress::parse("redis://me:p%40s@word?/@h:7/1").unwrap();
        assert_eq!((address.username.as_deref(), address.password.as_deref()), (Some("me"), Some("p@s@word?/")));
        let address = RedisAddress::parse("rediss://h?prefix=t%3A1%3A&ca=%2Fetc%2Fca.pem").unwrap();
        assert_eq!((address.prefix.as_str(), address.ca()), ("t:1:", Some(Path::new("/etc/ca.pem"))));
        let shown = address.clone().shown_as("rediss://${HOST}");
        assert!(shown == address && shown.to_string() == "rediss://${HOST}");
    }

    #[test]
    fn what_is_wrong_is_told_without_a_password() {
        for (url, cause) in [
            ("memcached://me:secret@h", "not known"),
            ("redis", "names no host"),
            ("redis://", "names no host"),
            ("redis://me:secret@h:port", "names no host and port"),
            ("redis://me:secret@h:70000", "names no host and port"),
            ("redis://secret h", "names no host and port"),
            ("redis://me:secret@a:1,b:2", "several hosts"),
            ("redis://me:secret@h/x", "the number of a database"),
            ("redis+cluster://me:secret@h/1", "only database 0"),
            ("redis://me:se%cret@h", "percent-encoded"),
            ("redis://h?ca=secret", "`?ca` is not known"),
            ("redis://h?prefix={secret}", "cannot hold braces"),
        ] {
            let error = RedisAddress::parse(url).unwrap_err().to_string();
            assert!(error.contains(cause) && !error.contains("secret"), "{url}: {error}");
        }
        assert!(!crate::is_redis("memory:") && !crate::is_redis("redis+unix:x"));
    }
}
