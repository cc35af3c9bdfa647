//! Moving a device of the host into a container (OCI `netDevices`).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use configs::{NetDevice, Network};
use rustix::io::Errno;

use super::{
    ADDRESS_HEADER, IFA_ADDRESS, IFA_LOCAL, IFLA_IFNAME, SCOPE_UNIVERSE, UP, add_address, address,
    bring_up, index, link,
    netlink::{DUMP, GET_ADDRESS, Message, NEW_LINK, Netlink, attributes, number},
};
use crate::{Error, Result};

const IFLA_NET_NS_FD: u16 = 28;
/// The flag of addresses that do not expire.
const IFA_F_PERMANENT: u8 = 0x80;

/// The device keeps the addresses an administrator gave it, which moving would take away.
pub(super) fn move_device(
    host: &Netlink,
    inside: &Netlink,
    namespace: &OwnedFd,
    device: &NetDevice,
) -> Result<()> {
    let NetDevice { host_name, name } = device;
    let number = index(host, host_name)?;
    let addresses = addresses(host, number)?;
    let namespace = u32::try_from(namespace.as_fd().as_raw_fd())
        .map_err(|_| Error::call("network namespace", Errno::BADF))?;
    let what = || format!("move the network device {host_name} into the container as {name}");
    // A device cannot be renamed while it is up.
    host.order(what, Message::new(NEW_LINK, 0, &link(number, 0, UP)))?;
    let message = Message::new(NEW_LINK, 0, &link(number, 0, 0))
        .with_number(IFLA_NET_NS_FD, namespace)
        .with_text(IFLA_IFNAME, name);
    host.order(what, message)?;

    let number = index(inside, name)?;
    addresses.into_iter().try_for_each(|address| add_address(inside, number, address))?;
    bring_up(inside, number, name)
}

/// Global addresses that do not expire; the others are the kernel's or a DHCP client's to make.
fn addresses(netlink: &Netlink, index: u32) -> Result<Vec<Network>> {
    let message = Message::new(GET_ADDRESS, DUMP, &[0; ADDRESS_HEADER]);
    let answers = netlink
        .ask(message)
        .map_err(|errno| Error::call("list the addresses of network devices", errno))?;
    let wanted = answers.iter().filter_map(|answer| {
        let [_, prefix, flags, scope, ..] = *answer.as_slice() else { return None };
        let ours = number(answer, 4) == Some(index);
        if !ours || scope != SCOPE_UNIVERSE || flags & IFA_F_PERMANENT == 0 {
            return None;
        }
        // On a point-to-point link the two differ, and the local one is ours.
        let value = |wanted| {
            attributes(answer, ADDRESS_HEADER).find(|(kind, _)| *kind == wanted).map(|it| it.1)
        };
        let address = address(value(IFA_LOCAL).or_else(|| value(IFA_ADDRESS))?)?;
        Some(Network { address, prefix })
    });
    Ok(wanted.collect())
}
