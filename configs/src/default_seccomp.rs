//! The default system call policy, as a table: what docker's documentation of its own profile promises,
//! tightened where D-30 asks for it.
//!
//! The runtime's build script includes this file to compile the usual case ahead of time, so it uses
//! nothing but the language.

/// A row: some calls, who may make them and what they get.
pub struct Row {
    /// Which capabilities make the row apply.
    pub needs: Needs,
    /// System call names.
    pub names: &'static [&'static str],
    /// `None` allows; otherwise the call fails with this error.
    pub errno: Option<u16>,
    /// One comparison of an argument.
    pub test: Option<Test>,
}

/// A condition on the container's capabilities, whose numbers are the kernel's.
pub enum Needs {
    /// Applies always.
    Nothing,
    /// Applies with this capability.
    Capability(u8),
    /// Applies without it.
    Without(u8),
}

/// A comparison of an argument.
pub enum Test {
    /// Argument, value.
    Equal(u8, u64),
    /// Argument, mask: none of its bits is set.
    Clear(u8, u64),
}

/// What calls get that no row names: EPERM, as if a capability were missing.
pub const DEFAULT_ERRNO: u16 = 1;

/// Besides the native one: 32-bit programs run on 64-bit processors as docker has them. x32 is not
/// here: next to nothing uses it, and distributions switch it off.
pub const ARCHITECTURES: &[&str] = &["SCMP_ARCH_X86", "SCMP_ARCH_ARM"];

impl Row {
    /// Whether the row applies to a container with these capabilities (a mask).
    pub const fn applies(&self, capabilities: u64) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Capability(number) => capabilities >> number & 1 == 1,
            Needs::Without(number) => capabilities >> number & 1 == 0,
        }
    }
}

/// The capabilities that make a difference to the profile, as a mask.
pub fn deciding_capabilities() -> u64 {
    ROWS.iter().fold(0, |mask, row| match row.needs {
        Needs::Nothing => mask,
        Needs::Capability(number) | Needs::Without(number) => mask | 1 << number,
    })
}

const fn allow(needs: Needs, names: &'static [&'static str]) -> Row {
    Row { needs, names, errno: None, test: None }
}

const fn allow_if(names: &'static [&'static str], test: Test) -> Row {
    Row { needs: Needs::Nothing, names, errno: None, test: Some(test) }
}

const fn refuse(needs: Needs, names: &'static [&'static str], errno: u16) -> Row {
    Row { needs, names, errno: Some(errno), test: None }
}

const DAC_READ_SEARCH: u8 = 2;
const SYS_MODULE: u8 = 16;
const SYS_RAWIO: u8 = 17;
const SYS_CHROOT: u8 = 18;
const SYS_PTRACE: u8 = 19;
const SYS_PACCT: u8 = 20;
const SYS_ADMIN: u8 = 21;
const SYS_BOOT: u8 = 22;
const SYS_NICE: u8 = 23;
const SYS_TIME: u8 = 25;
const SYS_TTY_CONFIG: u8 = 26;
const SYSLOG: u8 = 34;
const PERFMON: u8 = 38;
const BPF: u8 = 39;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// Families a container may open sockets of. A list of what is allowed, since the kernel loads the
/// modules of the others for whoever asks; vsock reaches the hypervisor past every network namespace, and
/// AF_ALG has had holes of its own (CVE-2026-31431).
const SOCKETS: &[&str] = &["socket", "socketpair"];
const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
const AF_PACKET: u64 = 17;

/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// For one call the first row that applies decides.
pub static ROWS: &[Row] = &[
    allow(Needs::Nothing, USUAL),
    allow_if(SOCKETS, Test::Equal(0, AF_UNIX)),
    allow_if(SOCKETS, Test::Equal(0, AF_INET)),
    allow_if(SOCKETS, Test::Equal(0, AF_INET6)),
    allow_if(SOCKETS, Test::Equal(0, AF_NETLINK)),
    allow_if(SOCKETS, Test::Equal(0, AF_PACKET)),
    // The 32-bit multiplexer takes the family from memory, where no filter can look: its SYS_SOCKET and
    // SYS_SOCKETPAIR would walk around the list above. C libraries use socket(2) since Linux 4.3.
    Row {
        needs: Needs::Nothing,
        names: &["socketcall"],
        errno: Some(EPERM),
        test: Some(Test::Equal(0, 1)),
    },
    Row {
        needs: Needs::Nothing,
        names: &["socketcall"],
        errno: Some(EPERM),
        test: Some(Test::Equal(0, 8)),
    },
    allow(Needs::Nothing, &["socketcall"]),
    // PER_LINUX, PER_LINUX32, each with UNAME26, and the question what it is.
    allow_if(&["personality"], Test::Equal(0, 0x0)),
    allow_if(&["personality"], Test::Equal(0, 0x8)),
    allow_if(&["personality"], Test::Equal(0, 0x2_0000)),
    allow_if(&["personality"], Test::Equal(0, 0x2_0008)),
    allow_if(&["personality"], Test::Equal(0, 0xffff_ffff)),
    allow(Needs::Capability(DAC_READ_SEARCH), &["open_by_handle_at"]),
    allow(Needs::Capability(SYS_ADMIN), ADMINISTRATION),
    Row {
        needs: Needs::Without(SYS_ADMIN),
        names: &["clone"],
        errno: None,
        test: Some(Test::Clear(0, NEW_NAMESPACES)),
    },
    // Its flags are in memory. C libraries fall back to clone(2) on ENOSYS, and only on that.
    refuse(Needs::Without(SYS_ADMIN), &["clone3"], ENOSYS),
    // So new that programs expect kernels without them.
    refuse(Needs::Nothing, RECENT, ENOSYS),
    allow(Needs::Capability(SYS_BOOT), &["reboot"]),
    allow(Needs::Capability(SYS_CHROOT), &["chroot"]),
    allow(Needs::Capability(SYS_MODULE), &["delete_module", "finit_module", "init_module"]),
    allow(Needs::Capability(SYS_PACCT), &["acct"]),
    allow(Needs::Capability(SYS_PTRACE), &["kcmp", "pidfd_getfd", "process_madvise"]),
    allow(Needs::Capability(SYS_RAWIO), &["ioperm", "iopl"]),
    allow(
        Needs::Capability(SYS_TIME),
        &["clock_settime", "clock_settime64", "settimeofday", "stime"],
    ),
    allow(Needs::Capability(SYS_TTY_CONFIG), &["vhangup"]),
    allow(
        Needs::Capability(SYS_NICE),
        &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"],
    ),
    allow(Needs::Capability(SYSLOG), &["syslog"]),
    allow(Needs::Capability(BPF), &["bpf"]),
    allow(Needs::Capability(PERFMON), &["perf_event_open"]),
];

#[rustfmt::skip]
const ADMINISTRATION: &[&str] = &[
    "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
    "listmount", "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr",
    "mount", "mount_setattr", "move_mount", "open_tree", "open_tree_attr", "perf_event_open",
    "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "statmount", "syslog",
    "umount", "umount2", "unshare",
];

#[rustfmt::skip]
const RECENT: &[&str] = &[
    "file_getattr", "file_setattr", "listmount", "lsm_get_self_attr", "lsm_list_modules",
    "lsm_set_self_attr", "open_tree_attr", "statmount",
];

#[rustfmt::skip]
const USUAL: &[&str] = &[
    "accept", "accept4", "access", "adjtimex", "alarm", "arch_prctl", "arm_fadvise64_64",
    "arm_sync_file_range", "bind", "breakpoint", "brk", "cachestat", "cacheflush", "capget",
    "capset", "chdir", "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64",
    "clock_getres", "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
    "clock_nanosleep_time64", "close", "close_range", "connect", "copy_file_range", "creat",
    "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old",
    "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2",
    "execve", "execveat", "exit", "exit_group", "faccessat", "faccessat2", "fadvise64",
    "fadvise64_64", "fallocate", "fanotify_mark", "fchdir", "fchmod", "fchmodat", "fchmodat2",
    "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr", "flistxattr",
    "flock", "fork", "fremovexattr", "fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs",
    "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue", "futex_time64",
    "futex_wait", "futex_waitv", "futex_wake", "futimesat", "get_robust_list", "get_thread_area",
    "getcpu", "getcwd", "getdents", "getdents64", "getegid", "getegid32", "geteuid", "geteuid32",
    "getgid", "getgid32", "getgroups", "getgroups32", "getitimer", "getpeername", "getpgid",
    "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresgid32",
    "getresuid", "getresuid32", "getrlimit", "getrusage", "getsid", "getsockname", "getsockopt",
    "gettid", "gettimeofday", "getuid", "getuid32", "getxattr", "getxattrat", "inotify_add_watch",
    "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "io_destroy",
    "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit", "ioctl",
    "ioprio_get", "ioprio_set", "ipc", "kill", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "lchown", "lchown32", "lgetxattr", "link", "linkat", "listen",
    "listxattr", "listxattrat", "llistxattr", "_llseek", "lremovexattr", "lseek", "lsetxattr",
    "lstat", "lstat64", "madvise", "map_shadow_stack", "membarrier", "memfd_create",
    "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2",
    "mlockall", "mmap", "mmap2", "modify_ldt", "mprotect", "mq_getsetattr", "mq_notify",
    "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64",
    "mq_unlink", "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd", "msync", "munlock",
    "munlockall", "munmap", "name_to_handle_at", "nanosleep", "newfstatat", "_newselect", "open",
    "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2",
    "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl",
    "pread64", "preadv", "preadv2", "prlimit64", "process_mrelease", "process_vm_readv",
    "process_vm_writev", "pselect6", "pselect6_time64", "ptrace", "pwrite64", "pwritev",
    "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "recv", "recvfrom",
    "recvmmsg", "recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr", "removexattrat",
    "rename", "renameat", "renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction",
    "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
    "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield",
    "seccomp", "select", "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "send",
    "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto", "set_robust_list",
    "set_thread_area", "set_tid_address", "set_tls", "setfsgid", "setfsgid32", "setfsuid",
    "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32", "setitimer", "setpgid",
    "setpriority", "setregid", "setregid32", "setresgid", "setresgid32", "setresuid",
    "setresuid32", "setreuid", "setreuid32", "setrlimit", "setsid", "setsockopt", "setuid",
    "setuid32", "setxattr", "setxattrat", "shmat", "shmctl", "shmdt", "shmget", "shutdown",
    "sigaltstack", "signalfd", "signalfd4", "sigprocmask", "sigreturn", "splice", "stat",
    "stat64", "statfs", "statfs64", "statx", "symlink", "symlinkat", "sync", "sync_file_range",
    "sync_file_range2", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create",
    "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime",
    "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64",
    "timerfd_settime", "timerfd_settime64", "times", "tkill", "truncate", "truncate64",
    "ugetrlimit", "umask", "uname", "unlink", "unlinkat", "uretprobe", "utime", "utimensat",
    "utimensat_time64", "utimes", "vfork", "vmsplice", "wait4", "waitid", "waitpid", "write",
    "writev",
];
