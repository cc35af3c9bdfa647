//! The program in a container: arguments, identity, powers and limits.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A process to run in a container: its first, or one added by `exec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments, never empty.
    pub args: Vec<String>,
    /// The whole environment, as `NAME=value`. `HOME` is added from the passwd entry when absent.
    pub env: Vec<String>,
    /// Absolute path inside the container; made when missing.
    pub cwd: PathBuf,
    /// Allocate a pseudo-terminal.
    pub terminal: bool,
    /// First size of that terminal.
    pub console_size: Option<Size>,
    /// Who runs it.
    pub user: User,
    /// Powers, exactly.
    pub capabilities: Capabilities,
    /// Limits, getrlimit(2).
    pub rlimits: Vec<Rlimit>,
    /// prctl(2) PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// AppArmor profile taken at exec.
    pub apparmor_profile: Option<String>,
    /// SELinux context taken at exec.
    pub selinux_label: Option<String>,
    /// `/proc/self/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// sched_setattr(2).
    pub scheduler: Option<Scheduler>,
    /// ioprio_set(2).
    pub io_priority: Option<IoPriority>,
    /// Processors while entering and after (OCI `execCPUAffinity`).
    pub cpu_affinity: CpuAffinity,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the type says it")]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// A user or group, as a number or as a name that only the container's own files can resolve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserId {
    /// Used as it is. A string of digits is always this (D-13).
    Number(u32),
    /// Looked up in the container's `/etc/passwd` or `/etc/group` by init: lowered late, on purpose.
    Name(String),
}

/// Who runs a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user.
    pub uid: UserId,
    /// The group; `None` takes the passwd entry's, or 0 without an entry.
    pub gid: Option<UserId>,
    /// Supplementary groups.
    pub groups: Groups,
    /// File mode creation mask; `None` is 0o022.
    pub umask: Option<u32>,
}

/// Supplementary groups of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// Also take the groups that list the user in the container's `/etc/group` (docker's and nsinit's
    /// rule when no group was named; OCI never does).
    pub from_files: bool,
    /// These, in any case.
    pub additional: Vec<UserId>,
}

impl Default for User {
    fn default() -> Self {
        Self {
            uid: UserId::Number(0),
            gid: Some(UserId::Number(0)),
            groups: Groups { from_files: false, additional: Vec::new() },
            umask: None,
        }
    }
}

/// One capability by its kernel number (capabilities(7)), such as 21 for CAP_SYS_ADMIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Capability(pub u8);

/// The five sets, as bit masks over [`Capability`] numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in capabilities(7)")]
pub struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// One resource limit; `u64::MAX` is infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What is limited.
    pub resource: Resource,
    /// The limit in force.
    pub soft: u64,
    /// The ceiling for `soft`.
    pub hard: u64,
}

/// A resource by its `RLIMIT_*` number on Linux' common architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource(pub u32);

/// sched_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in struct sched_attr")]
pub struct Scheduler {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// ioprio_set(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_*`: 1 realtime, 2 best effort, 3 idle.
    pub class: u8,
    /// 0 (first) to 7.
    pub priority: u8,
}

/// Processor lists in the kernel's list format (cpuset(7)), such as `0-3,7`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuAffinity {
    /// While the process is moved into the container's cgroup.
    pub initial: Option<String>,
    /// Once it is there.
    pub last: Option<String>,
}
