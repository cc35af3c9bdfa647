//! A container's network interfaces: made on the host's side, by netlink.

mod devices;
mod links;
mod netlink;
mod statistics;
#[cfg(test)]
mod tests;
mod veth;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, OwnedFd},
};

use configs::{Network, Route, Spec};
pub use links::{Link, links};
use netlink::{
    EXCLUSIVE_CREATE, GET_LINK, Message, NEW_ADDRESS, NEW_LINK, NEW_ROUTE, Netlink, number,
};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    process::Pid,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
pub use statistics::{InterfaceStatistics, statistics};

use crate::{Error, Result, error::OrFail};

// linux/if.h, linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h
const UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The size of struct ifaddrmsg.
const ADDRESS_HEADER: usize = 8;

/// Brings up the loopback device of the caller's network namespace. The kernel gives it its addresses.
pub fn bring_up_loopback() -> Result<()> {
    // The first device of every network namespace.
    const LOOPBACK: u32 = 1;
    let what = || "bring up the loopback device".to_owned();
    Netlink::open()?.order(what, Message::new(NEW_LINK, 0, &link(LOOPBACK, UP, UP)))
}

/// Makes the interfaces and routes of a Spec and moves its devices, for a process that is in the
/// network namespace meant. The caller must be single-threaded or in a thread of its own: it visits
/// that namespace for a moment.
///
/// Returns the names of the host's ends. They need no removal: a pair goes with either namespace, and
/// moved devices come back by themselves.
pub fn connect(spec: &Spec, pid: Pid) -> Result<Vec<String>> {
    if spec.interfaces.is_empty() && spec.routes.is_empty() && spec.net_devices.is_empty() {
        return Ok(Vec::new());
    }
    let namespace = open_namespace(&format!("/proc/{}/ns/net", pid.as_raw_nonzero()))?;
    let host = Netlink::open()?;
    let inside = open_in(&namespace)?;
    let mut names = Vec::with_capacity(spec.interfaces.len());
    for interface in &spec.interfaces {
        names.push(veth::create(&host, &inside, &namespace, interface)?);
    }
    for device in &spec.net_devices {
        devices::move_device(&host, &inside, &namespace, device)?;
    }
    spec.routes.iter().try_for_each(|route| add_route(&inside, route))?;
    Ok(names)
}

fn open_namespace(path: &str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .or_fail(|| format!("open {path}"))
}

/// A netlink socket belongs to the namespace it was made in, wherever its owner is.
fn open_in(namespace: &OwnedFd) -> Result<Netlink> {
    let network = Some(LinkNameSpaceType::Network);
    let own = open_namespace("/proc/thread-self/ns/net")?;
    move_into_link_name_space(namespace.as_fd(), network)
        .or_fail(|| "visit the container's network namespace")?;
    let inside = Netlink::open();
    // Staying there would be worse than anything that went wrong inside.
    move_into_link_name_space(own.as_fd(), network)
        .or_fail(|| "return from the container's network namespace")?;
    inside
}

/// struct ifinfomsg
fn link(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut message = [0; 16];
    for (offset, value) in [(4, index), (8, flags), (12, change)] {
        message[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    message
}

/// The number of an interface.
fn index(netlink: &Netlink, name: &str) -> Result<u32> {
    let message = Message::new(GET_LINK, 0, &link(0, 0, 0)).with_text(IFLA_IFNAME, name);
    let what = || format!("find the network interface {name}");
    let answers = netlink.ask(message).map_err(|errno| Error::call(what(), errno))?;
    answers
        .first()
        .and_then(|answer| number(answer, 4))
        .ok_or_else(|| Error::call(what(), Errno::PROTO))
}

fn bring_up(netlink: &Netlink, index: u32, name: &str) -> Result<()> {
    let message = Message::new(NEW_LINK, 0, &link(index, UP, UP));
    netlink.order(|| format!("bring up the network interface {name}"), message)
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

fn add_address(netlink: &Netlink, index: u32, address: Network) -> Result<()> {
    let Network { address, prefix } = address;
    // struct ifaddrmsg
    let mut fixed = [family(address), prefix, 0, SCOPE_UNIVERSE, 0, 0, 0, 0];
    fixed[4..].copy_from_slice(&index.to_ne_bytes());
    let octets = octets(address);
    let mut message = Message::new(NEW_ADDRESS, EXCLUSIVE_CREATE, &fixed)
        .with(IFA_LOCAL, &octets)
        .with(IFA_ADDRESS, &octets);
    if address.is_ipv6() {
        // Looking for duplicates would keep the address unusable for the first second.
        message = message.with_number(IFA_FLAGS, IFA_F_NODAD);
    }
    netlink.order(|| format!("add the address {address}/{prefix}"), message)
}

/// Without a destination a route is for everything.
fn add_route(netlink: &Netlink, route: &Route) -> Result<()> {
    let what = || format!("add the route {route:?}");
    let given = [route.destination.map(|it| it.address), route.gateway, route.source];
    let mut addresses = given.into_iter().flatten();
    let Some(first) = addresses.next() else {
        return Err(Error::Unsupported(format!("{}: it names no address", what())));
    };
    if addresses.any(|other| other.is_ipv4() != first.is_ipv4()) {
        return Err(Error::Unsupported(format!("{}: it mixes address families", what())));
    }
    let prefix = route.destination.map_or(0, |destination| destination.prefix);
    let scope = if route.gateway.is_none() { SCOPE_LINK } else { SCOPE_UNIVERSE };
    // struct rtmsg
    let fixed =
        [family(first), prefix, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, scope, UNICAST, 0, 0, 0, 0];
    let mut message = Message::new(NEW_ROUTE, EXCLUSIVE_CREATE, &fixed);
    if let Some(destination) = route.destination.filter(|destination| destination.prefix > 0) {
        message = message.with(RTA_DST, &octets(destination.address));
    }
    for (kind, address) in [(RTA_GATEWAY, route.gateway), (RTA_PREFSRC, route.source)] {
        if let Some(address) = address {
            message = message.with(kind, &octets(address));
        }
    }
    if let Some(name) = &route.interface {
        message = message.with_number(RTA_OIF, index(netlink, name)?);
    }
    netlink.order(what, message)
}
