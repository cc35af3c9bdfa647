//! Which addresses a registry may send us to.
//!
//! A registry on the internet that redirects to 127.0.0.1 or to a cloud's metadata service makes us the
//! attacker inside (CVE-2026-65388). So each address has a zone, and one may only be sent from a zone to the
//! internet or to the same zone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// How far from everybody's reach an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Zone {
    Public,
    Private,
    LinkLocal,
    Loopback,
}

/// The addresses that one request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reach {
    /// The user named the host.
    Anywhere,
    /// A registry in this zone named the host.
    From(Zone),
}

impl Reach {
    pub(crate) fn allows(self, address: IpAddr) -> bool {
        let target = Zone::of(address);
        match self {
            Self::Anywhere => true,
            Self::From(origin) => {
                target == Zone::Public
                    || target == origin
                    || (origin == Zone::Loopback && target == Zone::Private)
            }
        }
    }

    /// Whether the host of a URL may be used, as far as can be told before its name is resolved.
    pub(crate) fn allows_url(self, url: &Url) -> bool {
        match url.host() {
            Some(url::Host::Ipv4(address)) => self.allows(address.into()),
            Some(url::Host::Ipv6(address)) => self.allows(address.into()),
            Some(url::Host::Domain(name)) if is_localhost(name) => {
                self.allows(Ipv4Addr::LOCALHOST.into())
            }
            Some(url::Host::Domain(_)) => true,
            None => false,
        }
    }
}

impl Zone {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let octets = address.octets();
        // 0.0.0.0 reaches this very machine on Linux.
        if address.is_loopback() || octets[0] == 0 {
            Self::Loopback
        } else if address.is_link_local() || address.is_broadcast() || address.is_multicast() {
            Self::LinkLocal
        } else if address.is_private() || (octets[0] == 100 && octets[1] & 0xc0 == 64) {
            Self::Private
        } else {
            Self::Public
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let segments = address.segments();
        let embedded = match segments {
            // IPv4-mapped, and the well-known NAT64 prefix: what counts is the IPv4 address inside.
            [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
                let [.., a, b, c, d] = address.octets();
                Some(Ipv4Addr::new(a, b, c, d))
            }
            _ => None,
        };
        if let Some(embedded) = embedded {
            Self::of_v4(embedded)
        } else if address.is_loopback() || address.is_unspecified() {
            Self::Loopback
        } else if segments[0] & 0xffc0 == 0xfe80 || address.is_multicast() {
            Self::LinkLocal
        } else if segments[0] & 0xfe00 == 0xfc00 || segments[0] & 0xffc0 == 0xfec0 {
            Self::Private
        } else {
            Self::Public
        }
    }
}

pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

/// Whether a registry, `host[:port]`, is this machine.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{registry}/")) else { return false };
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => is_localhost(name),
        None => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_inner_address_is_seen() {
        for (text, zone) in [
            ("1.1.1.1", Zone::Public),
            ("127.8.8.8", Zone::Loopback),
            ("0.0.0.0", Zone::Loopback),
            ("::", Zone::Loopback),
            ("::ffff:127.0.0.1", Zone::Loopback),
            ("64:ff9b::169.254.169.254", Zone::LinkLocal),
            ("169.254.169.254", Zone::LinkLocal),
            ("fe80::1", Zone::LinkLocal),
            ("10.0.0.1", Zone::Private),
            ("100.100.100.200", Zone::Private),
            ("fd00::1", Zone::Private),
            ("2606:4700::1", Zone::Public),
        ] {
            assert_eq!(Zone::of(text.parse().unwrap()), zone, "{text}");
        }
    }

    #[test]
    fn the_internet_cannot_send_us_inside() {
        let reach = |zone, text: &str| Reach::From(zone).allows_url(&Url::parse(text).unwrap());
        assert!(reach(Zone::Public, "https://cdn.example.com/x"));
        assert!(!reach(Zone::Public, "https://127.0.0.1/x"));
        assert!(!reach(Zone::Public, "https://2130706433/x"));
        assert!(!reach(Zone::Public, "https://localhost./x"));
        assert!(!reach(Zone::Public, "http://[::ffff:10.0.0.1]/x"));
        assert!(!reach(Zone::Private, "http://127.0.0.1/x"));
        assert!(!reach(Zone::Private, "http://169.254.169.254/x"));
        assert!(reach(Zone::Private, "http://10.1.2.3/x"));
        assert!(reach(Zone::Loopback, "http://127.0.0.1:9/x"));
    }

    #[test]
    fn loopback_registries_are_recognised() {
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert!(is_loopback(registry), "{registry}");
        }
        assert!(!is_loopback("localhost.example.com"));
        assert!(!is_loopback("10.0.0.1:5000"));
    }
}
