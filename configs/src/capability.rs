//! Capabilities by name: the one table of spellings, and sets made of them.

use std::str::FromStr;

use crate::{Capabilities, Capability};

/// In the order of the kernel's numbers (capabilities(7)), without the `CAP_` prefix.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A word that names no capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such capability {0:?}")]
pub struct UnknownCapability(pub String);

impl Capability {
    /// The name without its prefix, as nsinit and docker's flags spell it; `None` for a number this
    /// program has no name for.
    pub fn short_name(self) -> Option<&'static str> {
        NAMES.get(usize::from(self.0)).copied()
    }

    /// Every capability this program knows.
    pub fn all() -> impl Iterator<Item = Self> {
        (0u8..).zip(NAMES).map(|(number, _)| Self(number))
    }

    /// Its bit in [`Capabilities`].
    pub const fn bit(self) -> u64 {
        1 << self.0
    }
}

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// With or without `CAP_`, in any case.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let short = match name.get(..4) {
            Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => {
                name.get(4..).unwrap_or_default()
            }
            _ => name,
        };
        (0u8..)
            .zip(NAMES)
            .find(|(_, known)| known.eq_ignore_ascii_case(short))
            .map(|(number, _)| Self(number))
            .ok_or_else(|| UnknownCapability(name.to_owned()))
    }
}

impl Capabilities {
    /// The sets of a process that may use all of `mask`, and whose programs inherit nothing (D-29).
    pub const fn usable(mask: u64) -> Self {
        Self { bounding: mask, effective: mask, permitted: mask, inheritable: 0, ambient: 0 }
    }
}

/// The capabilities of a mask, lowest number first.
pub(crate) fn in_mask(mask: u64) -> impl Iterator<Item = Capability> {
    Capability::all().filter(move |capability| mask & capability.bit() != 0)
}

/// A mask of these.
pub(crate) const fn mask<const N: usize>(numbers: [u8; N]) -> u64 {
    let mut mask = 0;
    let mut index = 0;
    while index < N {
        mask |= 1 << numbers[index];
        index += 1;
    }
    mask
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]
    use super::*;

    #[test]
    fn prefix_and_case_do_not_matter() {
        for name in ["SYS_ADMIN", "CAP_SYS_ADMIN", "cap_sys_admin", "sys_admin"] {
            assert_eq!(name.parse(), Ok(Capability(21)));
        }
        assert!("CAP_SYS_ADMN".parse::<Capability>().is_err());
        assert!("CAP_".parse::<Capability>().is_err());
    }

    #[test]
    fn the_numbers_are_the_kernels() {
        let number = |name: &str| name.parse::<Capability>().unwrap().0;
        assert_eq!(
            (number("CHOWN"), number("SYS_CHROOT"), number("CHECKPOINT_RESTORE")),
            (0, 18, 40)
        );
    }
}
