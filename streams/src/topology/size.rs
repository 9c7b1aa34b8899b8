//! Sizes as people write them.

use std::fmt;

/// A number of bytes in a configuration: `512MiB`, `20GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigBytes(pub u64);

/// Units and their bytes, largest first.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// What is accepted, for messages.
pub(super) const FORMS: &str = "a size such as 512MiB, 20GiB or 1TiB";

/// Reads a size: a whole number with a unit. The error describes the accepted form.
pub(super) fn parse_bytes(text: &str) -> Result<ConfigBytes, String> {
    let parse = || {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let (_, unit_bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*unit_bytes)
    };
    parse().map(ConfigBytes).ok_or_else(|| format!("expected {FORMS}, found `{text}`"))
}

impl fmt::Display for ConfigBytes {
    /// In the largest unit that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes)) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_displayed_is_read_back() {
        for (text, bytes) in [("64KiB", 65_536), ("1536MiB", 1_610_612_736), ("20GiB", 20 << 30), ("1TiB", 1 << 40)] {
            assert_eq!(parse_bytes(text), Ok(ConfigBytes(bytes)));
            assert_eq!(ConfigBytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_accepted_forms() {
        for text in ["", "5", "GiB", "1.5GiB", "-1GiB", "5GB", "5 GiB", "5gib", "16777216TiB"] {
            assert_eq!(parse_bytes(text), Err(format!("expected {FORMS}, found `{text}`")));
        }
    }
}
