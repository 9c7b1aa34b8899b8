//! Scopes: what a principal is allowed to do.

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// A permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send events, collect, request read tokens.
    Write,
    /// Read counters, boards, receipts.
    Read,
    /// Read, and see the state of the service itself.
    Admin,
    /// Read `/metrics` and nothing else: what a Prometheus needs.
    Metrics,
}

impl Scope {
    const ALL: [Self; 4] = [Self::Write, Self::Read, Self::Admin, Self::Metrics];

    /// The name in keys and tokens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }

    /// One bit; for `admin` also the bits of the scopes that it implies.
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
    /// Scopes of a list separated by spaces, as RFC 8693 has it in a JWT; unknown names are ignored.
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

#[cfg(test)]
mod tests {
    use super::*;

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
