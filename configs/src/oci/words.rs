//! The words of config.json that stand for the kernel's numbers, each table read both ways.

/// sched_setattr(2), `SCHED_*`.
pub(super) const SCHEDULERS: &[(&str, u64)] = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// sched_setattr(2), `SCHED_FLAG_*`.
pub(super) const SCHEDULER_FLAGS: &[(&str, u64)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// ioprio_set(2)
pub(super) const IO_CLASSES: &[(&str, u64)] =
    &[("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// set_mempolicy(2)
pub(super) const MEMORY_MODES: &[(&str, u64)] = &[
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// set_mempolicy(2)
pub(super) const MEMORY_FLAGS: &[(&str, u64)] = &[
    ("MPOL_F_STATIC_NODES", 1 << 15),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
];

/// personality(2)
pub(super) const DOMAINS: &[(&str, u64)] = &[("LINUX", 0), ("LINUX32", 8)];

/// libseccomp's names of architectures.
pub(super) const ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_NATIVE",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// seccomp(2), `SECCOMP_FILTER_FLAG_*` that make sense in a file.
pub(super) const SECCOMP_FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The number of a word.
pub(super) fn number(table: &[(&str, u64)], what: &str, word: &str) -> Result<u64, String> {
    let row = table.iter().find(|row| row.0 == word);
    row.map(|row| row.1).ok_or_else(|| format!("no such {what} {word:?}"))
}

/// The word of a number.
pub(super) fn word(table: &[(&'static str, u64)], number: u64) -> Option<&'static str> {
    table.iter().find(|row| row.1 == number).map(|row| row.0)
}

/// The words of a set of bits.
pub(super) fn words(table: &[(&'static str, u64)], bits: u64) -> Vec<String> {
    table.iter().filter(|row| bits & row.1 != 0).map(|row| row.0.to_owned()).collect()
}
