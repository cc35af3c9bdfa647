//! Limits and scheduling of the program, and everything else that is set on a process once.

use std::os::fd::AsRawFd;

use configs::{CpuAffinity, Process, Rlimit};
use nix::sys::resource::{Resource, setrlimit};
use rustix::{
    fs::OFlags,
    thread::{CpuSet, sched_setaffinity},
};

use crate::{Error, Result, child::Child, error::OrFail, procfs::Procfs};

/// Descriptors of ours may have numbers up to here: a limit below would stop us before the program.
const DESCRIPTORS_NEEDED: u64 = 1024;

/// Sets resource limits. Raising a hard limit needs CAP_SYS_RESOURCE, so this precedes its loss.
pub(crate) fn set_rlimits(child: &mut Child<'_>) -> Result<()> {
    child.process.rlimits.iter().filter(|limit| !hinders_us(limit)).try_for_each(set)
}

/// Sets the limit that would have hindered us. Lowering needs no capability.
pub(crate) fn limit_descriptors(child: &mut Child<'_>) -> Result<()> {
    child.process.rlimits.iter().filter(|limit| hinders_us(limit)).try_for_each(set)
}

fn hinders_us(limit: &Rlimit) -> bool {
    resource(limit.resource.0) == Some(Resource::RLIMIT_NOFILE) && limit.hard < DESCRIPTORS_NEEDED
}

fn set(limit: &Rlimit) -> Result<()> {
    let resource = resource(limit.resource.0)
        .ok_or_else(|| Error::Unsupported(format!("no limit number {}", limit.resource.0)))?;
    setrlimit(resource, limit.soft, limit.hard)
        .or_fail(|| format!("setrlimit {resource:?} {} {}", shown(limit.soft), shown(limit.hard)))
}

fn shown(value: u64) -> String {
    if value == u64::MAX { "unlimited".into() } else { value.to_string() }
}

fn resource(number: u32) -> Option<Resource> {
    const ALL: [Resource; 16] = [
        Resource::RLIMIT_CPU,
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_DATA,
        Resource::RLIMIT_STACK,
        Resource::RLIMIT_CORE,
        Resource::RLIMIT_RSS,
        Resource::RLIMIT_NPROC,
        Resource::RLIMIT_NOFILE,
        Resource::RLIMIT_MEMLOCK,
        Resource::RLIMIT_AS,
        Resource::RLIMIT_LOCKS,
        Resource::RLIMIT_SIGPENDING,
        Resource::RLIMIT_MSGQUEUE,
        Resource::RLIMIT_NICE,
        Resource::RLIMIT_RTPRIO,
        Resource::RLIMIT_RTTIME,
    ];
    ALL.get(usize::try_from(number).ok()?).copied()
}

/// Scheduler, I/O priority, processors and memory policy.
pub(crate) fn set_scheduling(child: &mut Child<'_>) -> Result<()> {
    let process = child.process;
    if let Some(wanted) = &process.scheduler {
        let attr = sys::SchedAttr {
            policy: wanted.policy,
            flags: wanted.flags,
            nice: wanted.nice,
            priority: wanted.priority,
            runtime: wanted.runtime,
            deadline: wanted.deadline,
            period: wanted.period,
        };
        sys::sched_setattr(&attr).or_fail(|| "sched_setattr")?;
    }
    if let Some(wanted) = &process.io_priority {
        sys::ioprio_set(wanted.class, wanted.priority).or_fail(|| "ioprio_set")?;
    }
    match &process.cpu_affinity {
        CpuAffinity { last: Some(list), .. } => set_affinity(list)?,
        CpuAffinity { initial: Some(_), .. } => {}
        // All that its cgroup has: where our caller was told to run is nothing to the container.
        _ => sched_setaffinity(None, &every_processor()).or_fail(|| "run on every processor")?,
    }
    if let Some(policy) = &child.spec.memory_policy {
        sys::set_mempolicy(policy.mode, &policy.nodes).or_fail(|| "set_mempolicy")?;
    }
    Ok(())
}

/// Processors while the process is on its way into the container.
pub(crate) fn set_initial_affinity(child: &mut Child<'_>) -> Result<()> {
    child.process.cpu_affinity.initial.as_deref().map_or(Ok(()), set_affinity)
}

fn every_processor() -> CpuSet {
    let mut set = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu));
    set
}

fn set_affinity(list: &str) -> Result<()> {
    let set = parse_cpus(list)
        .ok_or_else(|| Error::Unsupported(format!("{list:?} is not a list of processors")))?;
    sched_setaffinity(None, &set).or_fail(|| format!("run on processors {list}"))
}

/// The kernel's list format, cpuset(7): `0-3,7`.
fn parse_cpus(list: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CpuSet::MAX_CPU {
            return None;
        }
        (first..=last).for_each(|cpu| set.set(cpu));
    }
    Some(set)
}

/// Execution domain, personality(2).
pub(crate) fn set_personality(child: &mut Child<'_>) -> Result<()> {
    match child.spec.personality {
        Some(persona) => sys::set_personality(persona.0).or_fail(|| "personality"),
        None => Ok(()),
    }
}

/// The signal for the death of whoever started the container.
pub(crate) fn set_parent_death_signal(child: &mut Child<'_>) -> Result<()> {
    let number = child.spec.parent_death_signal;
    if number == 0 {
        return Ok(());
    }
    let signal = rustix::process::Signal::from_named_raw(number)
        .ok_or_else(|| Error::Unsupported(format!("no signal {number}")))?;
    rustix::process::set_parent_process_death_signal(Some(signal))
        .or_fail(|| "set the parent-death signal")
}

/// A session keyring of its own (D-35). A kernel without keyrings has none to leak.
pub(crate) fn renew_keyring(child: &mut Child<'_>) -> Result<()> {
    if child.spec.keep_keyring {
        return Ok(());
    }
    match sys::join_anonymous_session_keyring() {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.or_fail(|| "join a new session keyring"),
    }
}

/// Security labels taken at exec, written through a procfs known to be one (D-25).
pub(crate) fn set_labels(child: &mut Child<'_>) -> Result<()> {
    let process = child.process;
    if let Some(label) = &process.selinux_label {
        label_at_exec(child, &["thread-self/attr/exec"], label)?;
    }
    if let Some(profile) = &process.apparmor_profile {
        // The first exists where several security modules are stacked (Linux 5.8).
        let files = ["thread-self/attr/apparmor/exec", "thread-self/attr/exec"];
        label_at_exec(child, &files, &format!("exec {profile}"))?;
    }
    Ok(())
}

fn label_at_exec(child: &Child<'_>, files: &[&str], label: &str) -> Result<()> {
    let open = |procfs: &Procfs| {
        Ok(files.iter().find_map(|name| procfs.open_file(name, OFlags::WRONLY).ok()))
    };
    let file = child.with_own_procfs(open)?.ok_or_else(|| {
        Error::Unsupported(format!("no security module here takes the label {label:?}"))
    })?;
    rustix::io::write(&file, label.as_bytes())
        .map(drop)
        .or_fail(|| format!("set the label {label:?} (descriptor {})", file.as_raw_fd()))
}

/// What can be known to fail before anything is made.
pub(crate) fn check(process: &Process) -> Result<()> {
    let lists = [&process.cpu_affinity.initial, &process.cpu_affinity.last];
    for list in lists.into_iter().flatten() {
        if parse_cpus(list).is_none() {
            return Err(Error::Unsupported(format!("{list:?} is not a list of processors")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    #[test]
    fn processor_lists_are_understood() {
        let set = parse_cpus("0-2, 7").unwrap();
        let members: Vec<usize> = (0..10).filter(|cpu| set.is_set(*cpu)).collect();
        assert_eq!(members, [0, 1, 2, 7]);
        for bad in ["", "a", "3-1", "0-", "99999", "-1"] {
            assert!(parse_cpus(bad).is_none(), "{bad:?}");
        }
    }
}
