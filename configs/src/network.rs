//! Network interfaces and routes, as data.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// An address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The address.
    pub address: IpAddr,
    /// Length of the network part, in bits.
    pub prefix: u8,
}

/// A veth pair: one end in the container, the other on a bridge of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name inside the container, such as `eth0`.
    pub name: String,
    /// Name of the host's end; a prefix to which random hex digits are added when `host_name_is_prefix`.
    pub host_name: String,
    /// See `host_name`.
    pub host_name_is_prefix: bool,
    /// The bridge the host's end is put on.
    pub bridge: Bridge,
    /// MAC address of the container's end.
    pub mac: Option<[u8; 6]>,
    /// Addresses of the container's end.
    pub addresses: Vec<Network>,
    /// Default routes.
    pub gateways: Vec<IpAddr>,
    /// Set on both ends.
    pub mtu: Option<u32>,
    /// Set on both ends.
    pub tx_queue_length: Option<u32>,
}

/// An existing bridge of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Interface name.
    pub name: String,
    /// Let frames out of the port they came in by.
    pub hairpin: bool,
}

/// A route; what is absent takes the family's default, at least one of the first three is present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in ip-route(8)")]
pub struct Route {
    pub destination: Option<Network>,
    pub source: Option<IpAddr>,
    pub gateway: Option<IpAddr>,
    pub interface: Option<String>,
}

/// A host device moved into the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetDevice {
    /// Name on the host.
    pub host_name: String,
    /// Name inside.
    pub name: String,
}
