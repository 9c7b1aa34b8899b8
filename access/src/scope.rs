//! What somebody may do, and what each route asks for.

use axum::http::Method;
use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// One thing that somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send events, collect, ask for read tokens.
    Write,
    /// Read counters, boards, receipts.
    Read,
    /// Read, and see how the service itself does.
    Admin,
    /// Read `/metrics` and nothing else: what a Prometheus needs.
    Metrics,
}

impl Scope {
    const ALL: [Self; 4] = [Self::Write, Self::Read, Self::Admin, Self::Metrics];

    /// As keys and tokens name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }

    /// One bit; of `admin` also that of what it implies.
    fn bits(self) -> u8 {
        match self {
            Self::Write => 1,
            Self::Read => 2,
            Self::Metrics => 8,
            Self::Admin => 4 | Self::Read.bits() | Self::Metrics.bits(),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        known.ok_or_else(|| "must be `write`, `read`, `admin` or `metrics`".to_owned())
    }
}

/// A set of scopes. `admin` implies `read` and `metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Of a list separated by spaces, as RFC 8693 has it in a JWT; names that mean nothing here are passed over.
    pub fn of_list(list: &str) -> Self {
        list.split(' ').filter_map(|name| name.parse().ok()).collect()
    }

    /// Whether this may be done.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & scope.bits() == scope.bits()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bits()))
    }
}

/// What a route asks for; None where it is open: probes, the description, the page and its files. `route` is the
/// pattern that the router matched.
pub fn scope_of(method: &Method, route: &str) -> Option<Scope> {
    const OPERATIONS: &[&str] = &["/v1/progress", "/v1/processes", "/v1/topology", "/v1/dead-letters"];
    let under = |path: &str| route.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match *method {
        _ if under("/metrics") => Some(Scope::Metrics),
        _ if OPERATIONS.iter().any(|path| under(path)) => Some(Scope::Admin),
        _ if !under("/v1") => None,
        Method::GET | Method::HEAD => Some(Scope::Read),
        _ => Some(Scope::Write),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_asks_for_its_scope() {
        for (method, route, scope) in [
            ("POST", "/v1/events", Some(Scope::Write)),
            ("POST", "/v1/read-tokens", Some(Scope::Write)),
            ("PUT", "/v1/subjects/{subject_id}/collects/{actor_id}", Some(Scope::Write)),
            ("DELETE", "/v1/subjects/{subject_id}/collects/{actor_id}", Some(Scope::Write)),
            ("GET", "/v1/counters", Some(Scope::Read)),
            ("HEAD", "/v1/counters", Some(Scope::Read)),
            ("GET", "/v1/live", Some(Scope::Read)),
            ("GET", "/v1/receipts/{receipt}", Some(Scope::Read)),
            ("GET", "/v1/progress", Some(Scope::Admin)),
            ("GET", "/v1/progress/history", Some(Scope::Admin)),
            ("GET", "/v1/processes", Some(Scope::Admin)),
            ("GET", "/v1/topology", Some(Scope::Admin)),
            ("GET", "/v1/dead-letters", Some(Scope::Admin)),
            ("GET", "/v1/dead-letters/{offset}", Some(Scope::Admin)),
            ("GET", "/metrics", Some(Scope::Metrics)),
            ("POST", "/metrics", Some(Scope::Metrics)),
            ("GET", "/livez", None),
            ("GET", "/readyz", None),
            ("GET", "/openapi.json", None),
            ("GET", "/", None),
            ("GET", "/console/{*path}", None),
            ("GET", "/v1abc", None),
        ] {
            assert_eq!(scope_of(&method.parse().unwrap(), route), scope, "{method} {route}");
        }
    }

    #[test]
    fn admin_implies_read_and_nothing_else_implies_anything() {
        for (list, expected) in [
            ("write", [true, false, false, false]),
            ("read", [false, true, false, false]),
            ("admin", [false, true, true, true]),
            ("metrics", [false, false, false, true]),
            ("openid write  read profile", [true, true, false, false]),
            ("", [false; 4]),
            ("Write reading", [false; 4]),
        ] {
            assert_eq!(Scope::ALL.map(|scope| Scopes::of_list(list).allow(scope)), expected, "{list}");
        }
    }
}
