//! Resource limits by name, getrlimit(2).

use crate::Resource;

impl Resource {
    /// Each number, its OCI name and docker's name: the only place they meet.
    const NAMES: [(u32, &'static str, &'static str); 16] = [
        (0, "RLIMIT_CPU", "cpu"),
        (1, "RLIMIT_FSIZE", "fsize"),
        (2, "RLIMIT_DATA", "data"),
        (3, "RLIMIT_STACK", "stack"),
        (4, "RLIMIT_CORE", "core"),
        (5, "RLIMIT_RSS", "rss"),
        (6, "RLIMIT_NPROC", "nproc"),
        (7, "RLIMIT_NOFILE", "nofile"),
        (8, "RLIMIT_MEMLOCK", "memlock"),
        (9, "RLIMIT_AS", "as"),
        (10, "RLIMIT_LOCKS", "locks"),
        (11, "RLIMIT_SIGPENDING", "sigpending"),
        (12, "RLIMIT_MSGQUEUE", "msgqueue"),
        (13, "RLIMIT_NICE", "nice"),
        (14, "RLIMIT_RTPRIO", "rtprio"),
        (15, "RLIMIT_RTTIME", "rttime"),
    ];

    /// By its OCI name.
    pub fn from_oci(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|row| row.1 == name).map(|row| Self(row.0))
    }

    /// By docker's name.
    pub fn from_docker(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|row| row.2 == name).map(|row| Self(row.0))
    }

    /// By the kernel's number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::NAMES.iter().find(|row| row.0 == number).map(|row| Self(row.0))
    }

    /// The OCI name; `None` for a number this program has no name for.
    pub fn oci_name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|row| row.0 == self.0).map(|row| row.1)
    }
}
