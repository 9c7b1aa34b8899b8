//! The address of the caller, behind trusted proxies.

use axum::extract::ConnectInfo;
use axum::http::header::FORWARDED;
use axum::http::{Extensions, HeaderMap};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// The prefix of an IPv4 address that is mapped into IPv6.
const MAPPED_BITS: u8 = 96;
/// Longer chains are not evaluated.
const HOPS_MAX: usize = 32;

/// The other end of a request's connection, perhaps a proxy's; None for a request that no [`crate::Server`] took in.
pub fn peer_of(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| canonical(peer.0).ip())
}

/// On a socket that takes IPv4 and IPv6, an address of IPv4 arrives mapped into IPv6: it is that of IPv4.
pub(crate) fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// The proxies whose word on who called them is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

/// A text that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {why}")]
pub struct TrustedProxyError {
    text: String,
    why: &'static str,
}

impl TrustedProxies {
    /// Reads addresses and networks: `10.0.0.0/8`, `192.0.2.1`, `fd00::/8`. Those of IPv4 may be mapped into IPv6:
    /// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
    pub fn parse<T: AsRef<str>>(list: impl IntoIterator<Item = T>) -> Result<Self, TrustedProxyError> {
        list.into_iter().map(|item| item.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// The caller: the peer, or, if the peer is trusted, the right-most address of `X-Forwarded-For` that is not.
    ///
    /// `Forwarded` (RFC 7239) is read only without `X-Forwarded-For`: a proxy that writes the latter passes the former
    /// on as its client made it up.
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut caller = peer.to_canonical();
        if self.0.is_empty() || !self.trusts(caller) {
            return caller;
        }
        for hop in hops(headers).iter().rev() {
            // `unknown` and made-up names end the chain: the last address reported by a trusted proxy counts.
            let Some(address) = hop else { break };
            caller = *address;
            if !self.trusts(caller) {
                break;
            }
        }
        caller
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// The addresses that proxies recorded, in the order of the hops; None for an invalid address.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let all = |name: &str| -> Vec<&str> {
        headers.get_all(name).iter().flat_map(|line| line.to_str().unwrap_or("?").split(',')).collect()
    };
    let mut texts = all(X_FORWARDED_FOR);
    if texts.is_empty() {
        texts = all(FORWARDED.as_str()).into_iter().map(forwarded_for).collect();
    }
    let skipped = texts.len().saturating_sub(HOPS_MAX);
    texts[skipped..].iter().map(|text| address(text.trim())).collect()
}

/// The node of one element of `Forwarded`, like `for="[2001:db8::1]:80";proto=https`.
fn forwarded_for(element: &str) -> &str {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut nodes = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for")).map(|(_, node)| node.trim());
    nodes.next().unwrap_or_default().trim_matches('"')
}

/// An address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    parsed.ok().map(|address| address.to_canonical())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(self.prefix_bits)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(self.prefix_bits)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = TrustedProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why| TrustedProxyError { text: text.to_owned(), why };
        let neither = || wrong("is not an IP address or a network like 10.0.0.0/8 or fd00::/8");
        let (address, prefix) = text.trim().split_once('/').map_or((text.trim(), None), |(a, p)| (a, Some(p)));
        let written: IpAddr = address.parse().map_err(|_| neither())?;
        let bits_max = if written.is_ipv4() { 32 } else { 128 };
        // `+8` is a number for the standard library.
        let is_number = |prefix: &str| prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix_bits: u8 = match prefix {
            Some(prefix) if is_number(prefix) => prefix.parse().map_err(|_| neither())?,
            Some(_) => return Err(neither()),
            None => bits_max,
        };
        // Callers are compared by their canonical addresses.
        let address = written.to_canonical();
        match prefix_bits.checked_sub(if address == written { 0 } else { MAPPED_BITS }) {
            _ if prefix_bits > bits_max => Err(neither()),
            Some(prefix_bits) => Ok(Self { address, prefix_bits }),
            None => Err(wrong("is wider than all of IPv4, which begins at ::ffff:0.0.0.0/96: write it as 10.0.0.0/8")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let proxies = TrustedProxies::parse(["10.0.0.0/8", "192.0.2.1", "fd00::/8"]).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        proxies.caller(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_rightmost_address_that_is_not_trusted_counts() {
        type Lines = &'static [(&'static str, &'static str)];
        const FORGED: Lines = &[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.7")];
        let cases: &[(&str, Lines, &str)] = &[
            ("198.51.100.1", FORGED, "198.51.100.1"),
            ("10.0.0.1", FORGED, "203.0.113.9"),
            ("192.0.2.1", FORGED, "203.0.113.9"),
            ("192.0.2.2", FORGED, "192.0.2.2"),
            ("::ffff:10.0.0.1", FORGED, "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "10.0.0.2, 10.0.0.3")], "10.0.0.2"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")], "2.2.2.2"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, nonsense, 10.9.9.9")], "10.9.9.9"),
            ("10.0.0.1", &[("x-forwarded-for", "")], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "203.0.113.9:4711")], "203.0.113.9"),
            ("10.0.0.1", &[("x-forwarded-for", "[2001:db8::1]:80")], "2001:db8::1"),
            ("fd00::1", &[("x-forwarded-for", "2001:db8::2")], "2001:db8::2"),
            ("10.0.0.1", &[("forwarded", "for=1.1.1.1, for=\"[2001:db8::3]:1\";proto=https")], "2001:db8::3"),
            ("10.0.0.1", &[("forwarded", "proto=https;For=203.0.113.9;by=10.0.0.1")], "203.0.113.9"),
            ("10.0.0.1", &[("forwarded", "for=unknown")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "203.0.113.9")], "203.0.113.9"),
        ];
        for (peer, lines, expected) in cases {
            assert_eq!(caller(peer, lines), *expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn every_spelling_of_a_network_is_the_network() {
        for (list, peer, is_trusted) in [
            ("::ffff:127.0.0.1", "127.0.0.1", true),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", true),
            ("::ffff:7f00:1", "127.0.0.1", true),
            ("0:0:0:0:0:FFFF:127.0.0.1/128", "127.0.0.1", true),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("::ffff:127.0.0.1", "127.0.0.2", false),
            ("::ffff:10.0.0.0/104", "10.200.0.1", true),
            ("::ffff:10.0.0.0/104", "11.0.0.1", false),
            ("::ffff:0:0/96", "203.0.113.9", true),
            ("::ffff:0:0/96", "2001:db8::1", false),
            ("10.9.8.7/8", "10.1.1.1", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("::/0", "2001:db8::1", true),
            ("2001:DB8:0::/48", "2001:db8::1", true),
            (" ::1 ", "::1", true),
        ] {
            let (proxies, mut headers) = (TrustedProxies::parse([list]).unwrap(), HeaderMap::new());
            headers.insert("x-forwarded-for", "198.51.100.1".parse().unwrap());
            let caller = proxies.caller(peer.parse().unwrap(), &headers).to_string();
            assert_eq!(caller == "198.51.100.1", is_trusted, "{list} and {peer}: {caller}");
        }
    }

    #[test]
    fn callers_have_one_spelling() {
        for (hop, expected) in [
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("[::FFFF:203.0.113.9]:4711", "203.0.113.9"),
            ("2001:DB8:0:0::1", "2001:db8::1"),
            ("fe80::1%eth0", "10.0.0.1"),
        ] {
            assert_eq!(caller("10.0.0.1", &[("x-forwarded-for", hop)]), expected, "{hop}");
        }
        let mapped: SocketAddr = "[::ffff:203.0.113.9]:4711".parse().unwrap();
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(mapped));
        assert_eq!(peer_of(&extensions), Some("203.0.113.9".parse().unwrap()));
        assert_eq!(canonical(mapped).to_string(), "203.0.113.9:4711");
    }

    #[test]
    fn nonsense_in_the_list_is_named() {
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/256",
            "fd00::/129",
            "example.com",
            "10.0.0.0/-1",
            "fe80::1%eth0",
            "[::1]",
            "127.0.0.1:80",
            "::ffff:10.0.0.0/8",
            "::ffff:10.0.0.0/95",
            "::ffff:10.0.0.0/129",
        ] {
            let error = TrustedProxies::parse([wrong]).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }
}
