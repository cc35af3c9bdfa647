//! Architectures, and the numbers their system calls have.

use super::syscalls::{CALLS, NONE as N};

/// An entry point with a numbering of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    X86_64,
    I386,
    X32,
    Aarch64,
    Arm,
}

/// `AUDIT_ARCH_X86_64`, which x32 shares; `linux/audit.h`.
const AUDIT_X86_64: u32 = 0xC000_003E;

/// Added to the numbers of x32 calls, `asm/unistd.h`.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

impl Architecture {
    /// Each with its OCI name and the number seccomp_data carries.
    const NAMES: [(Self, &'static str, u32); 5] = [
        (Self::X86_64, "SCMP_ARCH_X86_64", AUDIT_X86_64),
        (Self::I386, "SCMP_ARCH_X86", 0x4000_0003),
        (Self::X32, "SCMP_ARCH_X32", AUDIT_X86_64),
        (Self::Aarch64, "SCMP_ARCH_AARCH64", 0xC000_00B7),
        (Self::Arm, "SCMP_ARCH_ARM", 0x4000_0028),
    ];

    /// By its OCI name; `None` for processors this program is not built for.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// By the name Rust gives the target.
    pub(crate) fn of_target(target_arch: &str) -> Option<Self> {
        match target_arch {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// `seccomp_data.arch`.
    pub(crate) fn audit(self) -> u32 {
        Self::NAMES.iter().find(|row| row.0 == self).map_or(0, |row| row.2)
    }

    /// Whether a processor that runs `self` natively can also run `other`.
    pub(crate) fn runs(self, other: Self) -> bool {
        match self {
            Self::X86_64 => matches!(other, Self::X86_64 | Self::I386 | Self::X32),
            Self::Aarch64 => matches!(other, Self::Aarch64 | Self::Arm),
            _ => self == other,
        }
    }

    /// Whether its registers have 32 bits.
    pub(crate) fn is_32_bit(self) -> bool {
        matches!(self, Self::I386 | Self::Arm)
    }
}

/// The numbers of one call, one per architecture.
pub(crate) struct Numbers(&'static [u32; 5]);

impl Numbers {
    /// The number the kernel sees, `None` where the call does not exist.
    pub(crate) fn on(&self, architecture: Architecture) -> Option<u32> {
        let [x86_64, i386, x32, aarch64, arm] = *self.0;
        let number = match architecture {
            Architecture::X86_64 => x86_64,
            Architecture::I386 => i386,
            Architecture::X32 => x32,
            Architecture::Aarch64 => aarch64,
            Architecture::Arm => arm,
        };
        let offset = if architecture == Architecture::X32 { X32_BIT } else { 0 };
        (number != N).then_some(number | offset)
    }
}

/// Looks a call up; `None` for names no architecture has (D-30: such rules are skipped).
pub(crate) fn numbers(name: &str) -> Option<Numbers> {
    let row = CALLS.binary_search_by(|row| row.0.cmp(name)).ok()?;
    CALLS.get(row).map(|row| Numbers(&row.1))
}
