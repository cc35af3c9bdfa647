//! A pair of interfaces: one on a bridge of the host, one in the container.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use configs::{Interface, Route};
use rustix::io::Errno;

use super::{
    IFLA_IFNAME, UP, add_address, add_route, bring_up, index, link,
    netlink::{EXCLUSIVE_CREATE, Message, NEW_LINK, Netlink},
};
use crate::{Error, Result, cgroup::random};

// linux/if_link.h, linux/veth.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_PROTINFO: u16 = 12;
const BRPORT_MODE: u16 = 4;
const AF_BRIDGE: u8 = 7;
const SET_LINK: u16 = 19;

/// How often a random name may be taken.
const TRIES: u32 = 10;

/// Makes the pair, the container's end at once in its namespace and under its name, and gives that end
/// its addresses and default routes. Returns the name of the host's end.
pub(super) fn create(
    host: &Netlink,
    inside: &Netlink,
    namespace: &OwnedFd,
    interface: &Interface,
) -> Result<String> {
    let bridge = index(host, &interface.bridge.name)?;
    let name = create_pair(host, namespace, interface, bridge)?;
    if interface.bridge.hairpin {
        allow_hairpin(host, &name)?;
    }
    let number = index(inside, &interface.name)?;
    for &address in &interface.addresses {
        add_address(inside, number, address)?;
    }
    bring_up(inside, number, &interface.name)?;
    for &gateway in &interface.gateways {
        let interface = Some(interface.name.clone());
        add_route(inside, &Route { gateway: Some(gateway), interface, ..Route::default() })?;
    }
    Ok(name)
}

fn create_pair(
    host: &Netlink,
    namespace: &OwnedFd,
    interface: &Interface,
    bridge: u32,
) -> Result<String> {
    let tries = if interface.host_name_is_prefix { TRIES } else { 1 };
    let mut result = Err(Errno::EXIST);
    for _ in 0..tries {
        let name = if interface.host_name_is_prefix {
            format!("{}{:07x}", interface.host_name, random() & 0xfff_ffff)
        } else {
            interface.host_name.clone()
        };
        result = host.ask(pair(&name, namespace, interface, bridge)?).map(|_| name);
        if !matches!(result, Err(Errno::EXIST)) {
            break;
        }
    }
    result.map_err(|errno| {
        Error::call(format!("make the network interface {}", interface.host_name), errno)
    })
}

fn pair(name: &str, namespace: &OwnedFd, interface: &Interface, bridge: u32) -> Result<Message> {
    let namespace = u32::try_from(namespace.as_fd().as_raw_fd())
        .map_err(|_| Error::call("network namespace", Errno::BADF))?;
    let both = |mut end: Message| {
        if let Some(mtu) = interface.mtu {
            end = end.with_number(IFLA_MTU, mtu);
        }
        if let Some(length) = interface.tx_queue_length {
            end = end.with_number(IFLA_TXQLEN, length);
        }
        end
    };
    let peer = |mut end: Message| {
        end = end.with_text(IFLA_IFNAME, &interface.name).with_number(IFLA_NET_NS_FD, namespace);
        if let Some(mac) = &interface.mac {
            end = end.with(IFLA_ADDRESS, mac);
        }
        both(end)
    };
    let message = Message::new(NEW_LINK, EXCLUSIVE_CREATE, &link(0, UP, UP))
        .with_text(IFLA_IFNAME, name)
        .with_number(IFLA_MASTER, bridge)
        .with_nested(IFLA_LINKINFO, &[], |info| {
            info.with_text(INFO_KIND, "veth").with_nested(INFO_DATA, &[], |data| {
                data.with_nested(VETH_INFO_PEER, &link(0, 0, 0), peer)
            })
        });
    Ok(both(message))
}

/// Lets frames out of the port they came in by, bridge(8) `hairpin on`.
fn allow_hairpin(host: &Netlink, name: &str) -> Result<()> {
    let mut fixed = link(index(host, name)?, 0, 0);
    fixed[0] = AF_BRIDGE;
    let message = Message::new(SET_LINK, 0, &fixed)
        .with_nested(IFLA_PROTINFO, &[], |port| port.with(BRPORT_MODE, &[1]));
    host.order(|| format!("set hairpin mode of {name}"), message)
}
