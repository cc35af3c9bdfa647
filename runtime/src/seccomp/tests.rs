//! Programs are judged by what they answer, here by a small interpreter of the kernel's machine.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a test may panic"
)]

use super::*;

const EPERM: u32 = 0x5_0001;
const ENOSYS: u32 = 0x5_0026;

/// Runs a program as the kernel would, on one system call.
fn run(program: &[SeccompInstruction], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
    let mut data = vec![nr, arch, 0, 0];
    data.extend(args.iter().flat_map(|&arg| [arg as u32, (arg >> 32) as u32]));
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let SeccompInstruction { code, jt, jf, k } = program[at];
        at += 1;
        let holds = match code {
            0x20 => {
                accumulator = data[k as usize / 4];
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x06 => return k,
            0x05 => {
                at += k as usize;
                continue;
            }
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
}

/// What the policy itself says, by reading it from top to bottom.
fn read(policy: &Policy, name: &str, args: [u64; 6]) -> u32 {
    for rule in policy.rules.iter().filter(|rule| rule.names.iter().any(|each| each == name)) {
        if rule.conditions.iter().all(|condition| {
            let (arg, value) = (args[usize::from(condition.index)], condition.value);
            match condition.comparison {
                Comparison::Equal => arg == value,
                Comparison::NotEqual => arg != value,
                Comparison::Less => arg < value,
                Comparison::LessOrEqual => arg <= value,
                Comparison::Greater => arg > value,
                Comparison::GreaterOrEqual => arg >= value,
                Comparison::Masked { mask } => arg & mask == value & mask,
            }
        }) {
            return number(rule.action);
        }
    }
    number(policy.default)
}

fn rule(names: &[&str], action: Action, conditions: &[(u8, Comparison, u64)]) -> configs::Rule {
    configs::Rule {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        action,
        conditions: conditions
            .iter()
            .map(|&(index, comparison, value)| Condition { index, comparison, value })
            .collect(),
    }
}

fn policy(default: Action, architectures: &[&str], rules: Vec<configs::Rule>) -> Policy {
    Policy {
        default,
        architectures: architectures.iter().map(|&name| name.to_owned()).collect(),
        flags: Vec::new(),
        rules,
        notify: None,
    }
}

const X86_64: Architecture = Architecture::X86_64;

#[track_caller]
fn compiled(policy: &Policy) -> Vec<SeccompInstruction> {
    program(policy, Some(X86_64)).unwrap()
}

#[track_caller]
fn nr(name: &str, architecture: Architecture) -> u32 {
    calls::numbers(name).unwrap().on(architecture).unwrap()
}

#[test]
fn the_first_rule_that_holds_decides() {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Masked, NotEqual};
    let big = 0x1_0000_0007;
    let policy = policy(
        Action::Errno(1),
        &[],
        vec![
            rule(&["read", "write"], Action::Allow, &[]),
            rule(&["mmap"], Action::Trap, &[(2, Equal, 7), (3, NotEqual, 0)]),
            rule(&["mmap"], Action::Log, &[(2, Greater, big)]),
            rule(&["mmap"], Action::Trace(9), &[(2, Masked { mask: 0xff_0000_00ff }, big)]),
            rule(&["mmap"], Action::Errno(5), &[(4, LessOrEqual, 3), (4, GreaterOrEqual, 2)]),
            rule(&["mmap"], Action::KillThread, &[(5, Less, big)]),
            rule(&["mmap"], Action::KillProcess, &[]),
            rule(&["mmap"], Action::Allow, &[]),
            rule(&["brk"], Action::Notify, &[(0, NotEqual, big)]),
        ],
    );
    let program = compiled(&policy);
    let values = [0, 1, 2, 3, 4, 7, 8, big - 1, big, big + 1, big << 1, 0xff_0000_0007, u64::MAX];
    for name in ["read", "write", "mmap", "brk", "open"] {
        for (step, &first) in values.iter().enumerate() {
            for (other, &second) in values.iter().enumerate() {
                let third = values[(step * 5 + other * 3) % values.len()];
                let args = [first, second, first, second, third, first ^ third];
                assert_eq!(
                    run(&program, X86_64.audit(), nr(name, X86_64), args),
                    read(&policy, name, args),
                    "{name} {args:x?}"
                );
            }
        }
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let rules = || vec![rule(&["read", "openat2"], Action::Allow, &[])];
    let check = |default, expected| {
        let program = compiled(&policy(default, &[], rules()));
        let last = nr("openat2", X86_64);
        assert_eq!(run(&program, X86_64.audit(), last - 1, [0; 6]), number(default));
        assert_eq!(run(&program, X86_64.audit(), last, [0; 6]), compile::ALLOW);
        assert_eq!(run(&program, X86_64.audit(), last + 1, [0; 6]), expected);
        assert_eq!(run(&program, X86_64.audit(), u32::MAX, [0; 6]), number(default));
    };
    check(Action::Errno(1), ENOSYS);
    check(Action::KillProcess, ENOSYS);
    check(Action::Allow, compile::ALLOW);
    check(Action::Log, compile::LOG);
}

#[test]
fn entry_points_that_are_not_listed_are_killed() {
    let rules = || vec![rule(&["read"], Action::Allow, &[])];
    let only = compiled(&policy(Action::Errno(1), &[], rules()));
    let all = compiled(&policy(
        Action::Errno(1),
        &["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_S390X"],
        rules(),
    ));
    for (architecture, closed, open) in [
        (Architecture::I386, compile::KILL_PROCESS, compile::ALLOW),
        (Architecture::X32, compile::KILL_PROCESS, compile::ALLOW),
        (Architecture::Aarch64, compile::KILL_PROCESS, compile::KILL_PROCESS),
    ] {
        let call = nr("read", architecture);
        assert_eq!(run(&only, architecture.audit(), call, [0; 6]), closed, "{architecture:?}");
        assert_eq!(run(&all, architecture.audit(), call, [0; 6]), open, "{architecture:?}");
    }
}

#[test]
fn the_upper_half_of_an_int_cannot_be_used_to_walk_around_a_rule() {
    let policy = policy(
        Action::Allow,
        &[],
        vec![
            rule(&["ioctl"], Action::Errno(1), &[(1, Comparison::Equal, 0x5412)]),
            rule(&["lseek"], Action::Errno(1), &[(1, Comparison::Equal, 0x5412)]),
        ],
    );
    let program = compiled(&policy);
    let dirty = [0, 0x1_0000_5412, 0, 0, 0, 0];
    assert_eq!(run(&program, X86_64.audit(), nr("ioctl", X86_64), dirty), EPERM);
    assert_eq!(run(&program, X86_64.audit(), nr("lseek", X86_64), dirty), compile::ALLOW);
}

#[test]
fn the_default_profile_keeps_its_promises() {
    let default = embedded::CAPABILITIES;
    let filter = filter(&Seccomp::Default, default).unwrap();
    assert!(matches!(filter.program, Cow::Borrowed(_)), "compiled ahead of time");
    let check = |name: &str, args: [u64; 6], expected: u32| {
        for architecture in [X86_64, Architecture::I386] {
            let Some(call) = calls::numbers(name).unwrap().on(architecture) else { continue };
            let got = run(&filter.program, architecture.audit(), call, args);
            assert_eq!(got, expected, "{name} on {architecture:?}");
        }
    };
    let args = |first| [first, 0, 0, 0, 0, 0];
    for name in ["read", "openat", "execve", "chroot", "ptrace", "futex_wait", "setresuid32"] {
        check(name, args(0), compile::ALLOW);
    }
    for name in [
        "mount",
        "bpf",
        "add_key",
        "keyctl",
        "request_key",
        "userfaultfd",
        "perf_event_open",
        "io_uring_setup",
        "fsopen",
        "move_mount",
        "init_module",
        "kexec_load",
        "unshare",
        "setns",
        "open_by_handle_at",
        "reboot",
    ] {
        check(name, args(0), EPERM);
    }
    check("clone3", args(0), ENOSYS);
    check("clone", args(17), compile::ALLOW);
    check("clone", args(0x1000_0000), EPERM);
    check("personality", args(8), compile::ALLOW);
    check("personality", args(0x40000), EPERM);
    for (family, expected) in
        [(1, compile::ALLOW), (2, compile::ALLOW), (17, compile::ALLOW), (38, EPERM), (40, EPERM)]
    {
        check("socket", args(family), expected);
        check("socket", args(family | 1 << 32), expected);
    }
    check("socketcall", args(1), EPERM);
    check("socketcall", args(3), compile::ALLOW);
}

#[test]
fn the_program_made_ahead_of_time_is_the_one_made_now() {
    let default = embedded::CAPABILITIES;
    assert_eq!(embedded::CAPABILITIES, default);
    let native = Architecture::of_target(std::env::consts::ARCH);
    assert_eq!(embedded::PROGRAM, program(&Policy::default_for(default), native).unwrap());
    let admin = filter(&Seccomp::Default, default | 1 << 21).unwrap();
    let mount = nr("mount", X86_64);
    assert_eq!(run(&admin.program, X86_64.audit(), mount, [0; 6]), compile::ALLOW);
}

#[test]
fn numbers_agree_with_libc() {
    let native = Architecture::of_target(std::env::consts::ARCH).unwrap();
    for (name, number) in [
        ("read", libc::SYS_read),
        ("clone3", libc::SYS_clone3),
        ("ioctl", libc::SYS_ioctl),
        ("execveat", libc::SYS_execveat),
        ("rt_sigaction", libc::SYS_rt_sigaction),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("mseal", libc::SYS_mseal),
        ("fchmodat2", libc::SYS_fchmodat2),
    ] {
        assert_eq!(i64::from(nr(name, native)), number, "{name}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let check = |policy: Policy, expected: &str| {
        let error = filter(&Seccomp::Policy(policy), 0).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(policy(Action::Notify, &[], vec![]), "SCMP_ACT_NOTIFY");
    let sixth = rule(&["read"], Action::Allow, &[(6, Comparison::Equal, 0)]);
    check(policy(Action::Errno(1), &[], vec![sixth]), "no argument 6");
    let flags = vec!["SECCOMP_FILTER_FLAG_NEW_LISTENER".to_owned()];
    check(Policy { flags, ..policy(Action::Allow, &[], vec![]) }, "no such flag");
}

#[test]
fn the_kernel_takes_the_default_profile() {
    // A filter is a thread's own, so the test process is spared.
    let refused = std::thread::spawn(|| {
        let filter = filter(&Seccomp::Default, embedded::CAPABILITIES).unwrap();
        rustix::thread::set_no_new_privs(true).unwrap();
        sys::install_seccomp_filter(&filter.program, filter.flags).unwrap();
        rustix::system::sethostname(b"never").unwrap_err()
    })
    .join()
    .unwrap();
    assert_eq!(refused, rustix::io::Errno::PERM);
}
