//! Networks and routes.

use std::net::IpAddr;

use super::fields::Fields;
use crate::{Bridge, Interface, Network, Route, problems::Findings};

/// The interface to make: none for the loopback, whose address and gateway in every sample are
/// decoration.
pub(super) fn interface(
    row: &mut Fields,
    is_nested: bool,
    findings: &mut Findings,
) -> Option<Interface> {
    let kind = row.text("type", findings);
    if !matches!(kind.as_str(), "veth" | "loopback") {
        let what = format_args!("{kind:?} is not a valid network strategy type");
        findings.problem(row.place("type"), what);
    }
    let mut context = row.object("context", findings);
    let mut place_of_old = |name: &'static str, old: &'static str, findings: &mut Findings| {
        let new = row.filled(name, findings);
        new.or_else(|| context.as_mut().and_then(|context| context.filled(old, findings)))
    };
    let bridge = place_of_old("bridge", "bridge", findings);
    let prefix = place_of_old("veth_prefix", "prefix", findings);
    let name = row.filled("name", findings);
    let host_name = row.filled("host_interface_name", findings);
    let hairpin = row.flag("hairpin_mode", findings);
    let mac = row.filled("mac_address", findings);
    let texts = ["address", "ipv6_address", "gateway", "ipv6_gateway"]
        .map(|name| (name, row.filled(name, findings)));
    // Zero was written as it was and failed; it means "leave".
    let mtu = row.set("mtu", findings);
    let queue = row.set("txqueuelen", findings);
    if kind != "veth" {
        return None;
    }
    let [address, address6, gateway, gateway6] = texts;
    let mut need = |place: &'static str, found: Option<String>, what: &str| {
        if found.is_none() {
            findings.problem(row.place(place), format_args!("{what} is not specified"));
        }
        found.unwrap_or_default()
    };
    let bridge = need("bridge", bridge, "bridge");
    let (name, host_name) = if is_nested {
        // The container's side was always eth0, so that one veth worked.
        ("eth0".to_owned(), need("veth_prefix", prefix, "veth prefix"))
    } else {
        let name = need("name", name, "name");
        (name, need("host_interface_name", host_name, "host interface name"))
    };
    need("address", address.1.clone(), "address");
    let mut amount = |place: &'static str, number: Option<i64>| {
        let number = number?;
        findings.take(row.place(place), u32::try_from(number))
    };
    let (mtu, tx_queue_length) = (amount("mtu", mtu), amount("txqueuelen", queue));
    let networks = [address, address6]
        .map(|(place, text)| text.and_then(|text| findings.take(row.place(place), network(&text))));
    let gateways = [gateway, gateway6].map(|(place, text)| {
        text.and_then(|text| findings.take(row.place(place), text.parse::<IpAddr>()))
    });
    let mac = mac.and_then(|mac| findings.take(row.place("mac_address"), self::mac(&mac)));
    Some(Interface {
        name,
        host_name,
        host_name_is_prefix: is_nested,
        bridge: Bridge { name: bridge, hairpin },
        mac,
        addresses: networks.into_iter().flatten().collect(),
        gateways: gateways.into_iter().flatten().collect(),
        mtu,
        tx_queue_length,
    })
}

pub(super) fn routes(fields: &mut Fields, findings: &mut Findings) -> Vec<Route> {
    let lower = |row: &mut Fields, findings: &mut Findings| {
        let texts = ["destination", "source", "gateway"].map(|name| row.filled(name, findings));
        let interface = row.filled("interface_name", findings);
        let [destination, source, gateway] = texts;
        if destination.is_none() && source.is_none() && gateway.is_none() {
            findings
                .problem(row.place("gateway"), "a route needs a destination, source or gateway");
        }
        let route = Route {
            destination: destination
                .and_then(|text| findings.take(row.place("destination"), network(&text))),
            source: source.and_then(|text| findings.take(row.place("source"), address(&text))),
            gateway: gateway.and_then(|text| findings.take(row.place("gateway"), address(&text))),
            interface,
        };
        let families = [route.destination.map(|it| it.address), route.source, route.gateway];
        let mut families = families.into_iter().flatten().map(|address| address.is_ipv4());
        let first = families.next();
        if families.any(|family| Some(family) != first) {
            findings.problem(row.place("gateway"), "IPv4 and IPv6 cannot be mixed");
        }
        Some(route)
    };
    fields.objects("routes", findings, lower).unwrap_or_default()
}

/// `ADDRESS/BITS`
fn network(text: &str) -> Result<Network, String> {
    let refuse = || format!("{text:?} is no network such as 10.0.0.2/24");
    let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
    let address: IpAddr = address.parse().map_err(|_| refuse())?;
    let prefix: u8 = prefix.parse().map_err(|_| refuse())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if prefix > most { Err(refuse()) } else { Ok(Network { address, prefix }) }
}

/// An address, whose network part does not matter here.
fn address(text: &str) -> Result<IpAddr, String> {
    let address = text.split_once('/').map_or(text, |parts| parts.0);
    address.parse().map_err(|_| format!("{text:?} is no address"))
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let refuse = || format!("{text:?} is no MAC address");
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(refuse)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
    }
    if parts.next().is_some() { Err(refuse()) } else { Ok(mac) }
}
