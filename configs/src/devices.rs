//! Device nodes, and rules for who may open which device.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What mknod(2) makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the type says it")]
pub enum DeviceKind {
    Character,
    Block,
    Fifo,
}

/// A node to make in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path inside the container.
    pub path: PathBuf,
    /// Kind of node.
    pub kind: DeviceKind,
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner inside the container.
    pub uid: u32,
    /// Group inside the container.
    pub gid: u32,
}

/// One line of the device policy; later rules win, as in the cgroup's `devices.allow`/`deny`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// `None` is both kinds.
    pub kind: Option<DeviceKind>,
    /// `None` is any.
    pub major: Option<u32>,
    /// `None` is any.
    pub minor: Option<u32>,
    /// read
    pub read: bool,
    /// write
    pub write: bool,
    /// mknod
    pub mknod: bool,
}
