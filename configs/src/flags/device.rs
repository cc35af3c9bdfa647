//! `--device` and `--device-cgroup-rule`.

use std::{path::PathBuf, str::FromStr};

use super::{BadValue, bad};
use crate::{Device, DeviceKind, DeviceRule};

/// `--device HOST[:CONTAINER][:rwm]`. What number the host's node has is for the caller to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFlag {
    /// Absolute host path.
    pub host: PathBuf,
    /// Absolute path inside.
    pub container: PathBuf,
    /// read
    pub read: bool,
    /// write
    pub write: bool,
    /// mknod
    pub mknod: bool,
}

/// A device of the host, with what the container may do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// The node to make.
    pub node: Device,
    /// read
    pub read: bool,
    /// write
    pub write: bool,
    /// mknod
    pub mknod: bool,
}

impl DeviceFlag {
    /// With the number and mode the caller found at [`DeviceFlag::host`].
    pub fn found(self, kind: DeviceKind, major: u32, minor: u32, mode: u32) -> HostDevice {
        let mode = mode & 0o777;
        let node = Device { path: self.container, kind, major, minor, mode, uid: 0, gid: 0 };
        HostDevice { node, read: self.read, write: self.write, mknod: self.mknod }
    }
}

/// A subset of `rwm`, in any order, each at most once.
fn permissions(text: &str) -> Option<(bool, bool, bool)> {
    let unique = text.char_indices().all(|(at, c)| "rwm".contains(c) && text.find(c) == Some(at));
    (unique && !text.is_empty())
        .then(|| (text.contains('r'), text.contains('w'), text.contains('m')))
}

impl FromStr for DeviceFlag {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let (host, container, access) = match parts[..] {
            [host] => (host, host, "rwm"),
            [host, access] if permissions(access).is_some() => (host, host, access),
            [host, container] => (host, container, "rwm"),
            [host, container, access] => (host, container, access),
            _ => return bad(format!("{text:?} is not HOST[:CONTAINER][:rwm]")),
        };
        if !host.starts_with('/') || !container.starts_with('/') {
            return bad(format!("{text:?}: a device is an absolute path"));
        }
        let Some((read, write, mknod)) = permissions(access) else {
            return bad(format!("{access:?} is no subset of rwm"));
        };
        Ok(Self { host: host.into(), container: container.into(), read, write, mknod })
    }
}

/// `--device-cgroup-rule 'c 13:* rmw'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRuleFlag(pub DeviceRule);

impl FromStr for DeviceRuleFlag {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || BadValue(format!("{text:?} is not a rule such as 'c 13:* rwm'"));
        let words: Vec<&str> = text.split(' ').collect();
        let [kind, numbers, access] = words[..] else { return Err(refuse()) };
        let kind = match kind {
            "a" => None,
            "c" => Some(DeviceKind::Character),
            "b" => Some(DeviceKind::Block),
            _ => return Err(refuse()),
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(refuse)?;
        let number = |text: &str| match text {
            "*" => Ok(None),
            _ if text.starts_with('+') => Err(refuse()),
            _ => text.parse().map(Some).map_err(|_| refuse()),
        };
        let (read, write, mknod) = permissions(access).ok_or_else(refuse)?;
        let (major, minor) = (number(major)?, number(minor)?);
        Ok(Self(DeviceRule { allow: true, kind, major, minor, read, write, mknod }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, container: &str, access: (bool, bool, bool)) {
        let flag: DeviceFlag = text.parse().expect("a good flag");
        assert_eq!(flag.container, PathBuf::from(container));
        assert_eq!((flag.read, flag.write, flag.mknod), access);
    }

    #[test]
    fn the_second_part_is_a_path_or_permissions() {
        check("/dev/kvm", "/dev/kvm", (true, true, true));
        check("/dev/kvm:rw", "/dev/kvm", (true, true, false));
        check("/dev/kvm:/dev/k", "/dev/k", (true, true, true));
        check("/dev/kvm:/dev/k:r", "/dev/k", (true, false, false));
        for text in ["", "kvm", "/dev/kvm:x", "/dev/kvm:/k:rr", "/a:/b:r:w", "/dev/kvm:/k:"] {
            assert!(text.parse::<DeviceFlag>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_has_three_words() {
        let DeviceRuleFlag(rule) = "c 13:* rm".parse().expect("a good rule");
        assert_eq!((rule.major, rule.minor, rule.write), (Some(13), None, false));
        for text in ["", "c 13 r", "d 1:1 r", "c 1:1", "c 1:1 x", "c -1:1 r"] {
            assert!(text.parse::<DeviceRuleFlag>().is_err(), "{text}");
        }
    }
}
