//! The interfaces of a network namespace, as a person wants to see them.

use std::os::fd::OwnedFd;

use configs::Network;
use rustix::process::Pid;

use super::{
    ADDRESS_HEADER, IFA_ADDRESS, IFA_LOCAL, IFLA_IFNAME, address,
    netlink::{DUMP, GET_ADDRESS, GET_LINK, Message, attributes, number},
    open_in, open_namespace,
};
use crate::{Error, Result};

// linux/if_link.h, and the size of struct ifinfomsg
const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const LINK_HEADER: usize = 16;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name in the namespace.
    pub name: String,
    /// Size of its packets.
    pub mtu: u32,
    /// Empty for devices that have none.
    pub mac: Vec<u8>,
    /// netdevice(7), `SIOCGIFFLAGS`
    pub flags: u32,
    /// Of both families.
    pub addresses: Vec<Network>,
}

/// The interfaces of the network namespace a process is in, in the kernel's order. The caller must be
/// single-threaded or in a thread of its own: it visits that namespace for a moment.
pub fn links(pid: Pid) -> Result<Vec<Link>> {
    let namespace: OwnedFd = open_namespace(&format!("/proc/{}/ns/net", pid.as_raw_nonzero()))?;
    let inside = open_in(&namespace)?;
    let list = |kind, fixed: &[u8]| {
        let answers = inside.ask(Message::new(kind, DUMP, fixed));
        answers.map_err(|errno| Error::call("list the network interfaces", errno))
    };
    let addresses = list(GET_ADDRESS, &[0; ADDRESS_HEADER])?;
    let links = list(GET_LINK, &[0; LINK_HEADER])?;
    Ok(links.iter().filter_map(|answer| link(answer, &addresses)).collect())
}

/// struct ifinfomsg: the index at 4, the flags at 8.
fn link(answer: &[u8], addresses: &[Vec<u8>]) -> Option<Link> {
    let (index, flags) = (number(answer, 4)?, number(answer, 8)?);
    let value = |wanted| attributes(answer, LINK_HEADER).find(|it| it.0 == wanted).map(|it| it.1);
    let mac = value(IFLA_ADDRESS).unwrap_or_default();
    Some(Link {
        name: String::from_utf8_lossy(value(IFLA_IFNAME)?.strip_suffix(b"\0")?).into_owned(),
        mtu: number(value(IFLA_MTU)?, 0)?,
        mac: if mac.iter().all(|byte| *byte == 0) { Vec::new() } else { mac.to_vec() },
        flags,
        addresses: addresses.iter().filter_map(|answer| of_link(answer, index)).collect(),
    })
}

/// The address in an answer, if it is of this interface.
fn of_link(answer: &[u8], index: u32) -> Option<Network> {
    if number(answer, 4) != Some(index) {
        return None;
    }
    let value = |wanted| attributes(answer, ADDRESS_HEADER).find(|it| it.0 == wanted);
    let (_, bytes) = value(IFA_LOCAL).or_else(|| value(IFA_ADDRESS))?;
    Some(Network { address: address(bytes)?, prefix: *answer.get(1)? })
}
