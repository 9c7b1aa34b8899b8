//! IP addresses: one address has many spellings, and one source has many addresses.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// The canonical spelling of an address, used for storage, comparison and limits: an IPv4-mapped IPv6 address becomes
/// the IPv4 address (RFC 4291, section 2.5.5.2); other IPv6 addresses follow RFC 5952. None if the text is no address.
pub fn canonical_ip(text: &str) -> Option<Cow<'_, str>> {
    let address: IpAddr = text.parse().ok()?;
    // IPv4 has only one accepted spelling.
    if address.is_ipv4() {
        return Some(Cow::Borrowed(text));
    }
    let canonical = address.to_canonical().to_string();
    Some(if canonical == text { Cow::Borrowed(text) } else { Cow::Owned(canonical) })
}

/// The part of an address that limits count by: an IPv4 address, or the first `ipv6_prefix_bits` bits of an IPv6
/// address, since a host usually owns all addresses of its prefix. Text that is not an address is returned unchanged.
pub fn source_of(ip: &str, ipv6_prefix_bits: u8) -> Cow<'_, str> {
    match ip.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => {
            let bits = u32::from(ipv6_prefix_bits.min(128));
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or_default();
            Cow::Owned(format!("{}/{bits}", Ipv6Addr::from_bits(address.to_bits() & mask)))
        }
        Ok(IpAddr::V4(address)) if ip.contains(':') => Cow::Owned(address.to_string()),
        _ => Cow::Borrowed(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_one() {
        for (canonical, spellings) in [
            (
                "203.0.113.9",
                &["203.0.113.9", "::ffff:203.0.113.9", "::FFFF:cb00:7109", "0:0:0:0:0:ffff:203.0.113.9"][..],
            ),
            ("2001:db8::1", &["2001:db8::1", "2001:DB8:0:0:0:0:0:1", "2001:0db8::0001", "2001:db8:0::0:1"]),
            ("::1", &["::1", "0:0:0:0:0:0:0:1", "0000:0000:0000:0000:0000:0000:0000:0001"]),
            ("::", &["::", "0::0"]),
            ("2001:db8::1:0:0:1", &["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"]),
            ("64:ff9b::cb00:7109", &["64:ff9b::203.0.113.9"]),
        ] {
            for spelling in spellings {
                assert_eq!(canonical_ip(spelling).as_deref(), Some(canonical), "{spelling}");
            }
        }
        for wrong in [
            "",
            "localhost",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.256",
            "0x7f.1",
            "2130706433",
            " 1.2.3.4",
            "1.2.3.4:80",
            "[::1]",
            "::1%eth0",
            "fe80::1%1",
            "::ffff:1.2.3",
            ":::",
            "1::2::3",
            "::ffff:203.0.113.9/96",
        ] {
            assert_eq!(canonical_ip(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        for (ip, bits, source) in [
            ("203.0.113.9", 64, "203.0.113.9"),
            ("::ffff:203.0.113.9", 64, "203.0.113.9"),
            ("::ffff:203.0.113.9", 1, "203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64"),
            ("2001:DB8:1:2::", 64, "2001:db8:1:2::/64"),
            ("2001:db8:1:2:3:4:5:6", 48, "2001:db8:1::/48"),
            ("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6/128"),
            ("2001:db8:1:2:3:4:5:6", 0, "::/0"),
            ("", 64, ""),
            ("elsewhere", 64, "elsewhere"),
        ] {
            assert_eq!(source_of(ip, bits), source, "{ip}/{bits}");
        }
    }
}
