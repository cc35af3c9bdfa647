//! Proxies as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` describe them.

use std::{ffi::OsString, fmt, net::IpAddr};

use reqwest::Url;

use super::zone::is_loopback;

/// Which requests go through which proxy. Loopback never does.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `http://` addresses.
    pub http: Option<String>,
    /// For `https://` addresses.
    pub https: Option<String>,
    /// Comma-separated hosts, `.suffixes`, addresses and networks that are reached directly; `*` is all.
    pub except: String,
}

impl fmt::Debug for Proxies {
    /// Addresses of proxies carry passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_set = |proxy: &Option<String>| proxy.as_ref().map(|_| "****");
        f.debug_struct("Proxies")
            .field("http", &is_set(&self.http))
            .field("https", &is_set(&self.https))
            .field("except", &self.except)
            .finish()
    }
}

impl Proxies {
    pub(crate) fn from_environment(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let either = |upper: &str, lower: &str| {
            variable(lower).or_else(|| variable(upper)).and_then(|value| value.into_string().ok())
        };
        let all = either("ALL_PROXY", "all_proxy");
        Self {
            http: either("HTTP_PROXY", "http_proxy").or_else(|| all.clone()),
            https: either("HTTPS_PROXY", "https_proxy").or(all),
            except: either("NO_PROXY", "no_proxy").unwrap_or_default(),
        }
    }

    pub(super) fn for_url(&self, url: &Url) -> Option<String> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        let proxy = proxy.as_deref()?;
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
        if is_loopback(url.host_str()?) || self.excepts(host, url.port_or_known_default()) {
            return None;
        }
        let has_scheme = proxy.contains("://");
        Some(if has_scheme { proxy.to_owned() } else { format!("http://{proxy}") })
    }

    fn excepts(&self, host: &str, port: Option<u16>) -> bool {
        let host = host.to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        self.except.split(',').map(str::trim).filter(|rule| !rule.is_empty()).any(|rule| {
            if rule == "*" {
                return true;
            }
            if let (Some(address), Some((network, bits))) = (address, rule.split_once('/')) {
                return in_network(address, network, bits);
            }
            let (rule, wanted_port) = match rule.rsplit_once(':') {
                Some((name, digits)) if !name.contains(':') => (name, digits.parse().ok()),
                _ => (rule, None),
            };
            let rule = rule.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
            let is_below = host.strip_suffix(&rule).is_some_and(|rest| rest.ends_with('.'));
            (host == rule || is_below) && (wanted_port.is_none() || wanted_port == port)
        })
    }
}

fn in_network(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let same_start = |one: u128, other: u128, width: u32| {
        bits <= width && (one ^ other).checked_shr(width - bits).unwrap_or(0) == 0
    };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            same_start(address.to_bits().into(), network.to_bits().into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            same_start(address.to_bits(), network.to_bits(), 128)
        }
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn proxy(url: &str) -> Option<String> {
        let proxies = Proxies {
            http: Some("proxy:1".into()),
            https: Some("http://u:p@proxy:2".into()),
            except: "example.com, .corp.org,10.0.0.0/8,one.net:8080,fd00::/8".into(),
        };
        proxies.for_url(&Url::parse(url).unwrap())
    }

    #[test]
    fn the_scheme_chooses_the_proxy() {
        assert_eq!(proxy("http://a.net/").as_deref(), Some("http://proxy:1"));
        assert_eq!(proxy("https://a.net/").as_deref(), Some("http://u:p@proxy:2"));
    }

    #[test]
    fn exceptions_are_reached_directly() {
        for url in [
            "https://example.com/",
            "https://x.example.com/",
            "https://a.corp.org/",
            "http://10.200.0.1/",
            "http://one.net:8080/",
            "http://[fd00::1]/",
            "http://127.0.0.1:5000/",
            "http://localhost/",
        ] {
            assert_eq!(proxy(url), None, "{url}");
        }
        for url in ["https://notexample.com/", "http://11.0.0.1/", "http://one.net/"] {
            assert!(proxy(url).is_some(), "{url}");
        }
    }

    #[test]
    fn passwords_of_proxies_are_not_shown() {
        let proxies = Proxies { https: Some("http://u:p@x".into()), ..Proxies::default() };
        assert!(!format!("{proxies:?}").contains("u:p"));
    }
}
