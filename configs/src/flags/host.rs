//! Names: `--add-host`, `--dns`, and the `/etc` files made of them; and `--network host` and its kin.

use std::{fmt::Write, net::IpAddr, path::PathBuf, str::FromStr};

use super::{BadValue, bad};

/// `--network`, `--pid`, `--ipc`, `--uts`, `--cgroupns`: which namespace to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamespaceChoice {
    /// A new one.
    #[default]
    Private,
    /// The caller's.
    Host,
    /// The one this nsfs file names (`ns:PATH`).
    Path(PathBuf),
}

impl FromStr for NamespaceChoice {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            // A network namespace of its own holds a loopback interface and nothing else.
            "private" | "none" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            _ => match text.strip_prefix("ns:") {
                Some(path) if path.starts_with('/') => Ok(Self::Path(path.into())),
                _ => bad(format!("{text:?} is none of private, none, host, ns:PATH")),
            },
        }
    }
}

/// `--add-host NAME:ADDRESS`, or with `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Host name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

impl FromStr for HostEntry {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((name, address)) = text.split_once('=').or_else(|| text.split_once(':')) else {
            return bad(format!("{text:?} is not NAME:ADDRESS"));
        };
        if name.is_empty()
            || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
        {
            return bad(format!("{name:?} is no host name"));
        }
        let bare = address.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(address);
        match bare.parse() {
            Ok(address) => Ok(Self { name: name.to_owned(), address }),
            Err(_) => bad(format!("{address:?} is no address")),
        }
    }
}

/// The loopback names.
const LOOPBACK: &str = "127.0.0.1\tlocalhost\n\
                        ::1\tlocalhost ip6-localhost ip6-loopback\n\
                        fe00::\tip6-localnet\n\
                        ff00::\tip6-mcastprefix\n\
                        ff02::1\tip6-allnodes\n\
                        ff02::2\tip6-allrouters\n";

/// `/etc/hosts`: the host's names for who shares its network, else those of loopback and the container's
/// own; and the added ones.
pub fn hosts_file(host: Option<&str>, hostname: Option<&str>, added: &[HostEntry]) -> String {
    let mut text = host.unwrap_or(LOOPBACK).to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for HostEntry { name, address } in added {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    if let (None, Some(name)) = (host, hostname) {
        let _ = writeln!(text, "127.0.1.1\t{name}");
    }
    text
}

/// `--dns`, `--dns-search`, `--dns-option`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains; a single `.` is none.
    pub search: Vec<String>,
    /// resolv.conf(5) options.
    pub options: Vec<String>,
}

/// `/etc/resolv.conf`: what was asked for, and the host's where nothing was.
pub fn resolv_conf(host: &str, dns: &Dns) -> String {
    let from_host = |keyword: &str| -> Vec<&str> {
        let lines = host.lines().map(str::trim_start);
        lines.filter(|line| line.split_whitespace().next() == Some(keyword)).collect()
    };
    let mut text = String::new();
    let mut line = |words: &[&str]| {
        text.push_str(&words.join(" "));
        text.push('\n');
    };
    if dns.servers.is_empty() {
        from_host("nameserver").iter().for_each(|server| line(&[server]));
    }
    for server in &dns.servers {
        line(&["nameserver", &server.to_string()]);
    }
    match &dns.search[..] {
        [] => from_host("search").iter().for_each(|search| line(&[search])),
        [dot] if dot == "." => (),
        domains => line(&["search", &domains.join(" ")]),
    }
    match &dns.options[..] {
        [] => from_host("options").iter().for_each(|options| line(&[options])),
        options => line(&["options", &options.join(" ")]),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_name_and_an_address() {
        let parse = str::parse::<HostEntry>;
        let entry = |name: &str, address: &str| {
            Ok(HostEntry { name: name.into(), address: address.parse().expect("an address") })
        };
        assert_eq!(parse("db:10.0.0.1"), entry("db", "10.0.0.1"));
        assert_eq!(parse("db=::1"), entry("db", "::1"));
        assert_eq!(parse("db:::1"), entry("db", "::1"));
        assert_eq!(parse("db:[::1]"), entry("db", "::1"));
        for text in ["", "db", "db:", ":1.2.3.4", "a b:1.2.3.4", "db:host", "a\nb=1.2.3.4"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_hosts_resolver_is_used_where_nothing_was_asked() {
        let host = "# me\nnameserver 10.0.0.2\nsearch lan\noptions edns0\n";
        assert_eq!(
            resolv_conf(host, &Dns::default()),
            "nameserver 10.0.0.2\nsearch lan\noptions edns0\n"
        );
        let dns = Dns {
            servers: vec!["1.1.1.1".parse().expect("an address")],
            search: vec![".".to_owned()],
            options: vec!["ndots:1".to_owned()],
        };
        assert_eq!(resolv_conf(host, &dns), "nameserver 1.1.1.1\noptions ndots:1\n");
    }
}
