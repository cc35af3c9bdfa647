//! What a container's first process does between its birth and the program.

use std::{convert::Infallible, io};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{DumpableBehavior, set_dumpable_behavior},
};

use crate::{
    Error, Result,
    channel::{FromChild, FromParent, unexpected},
    child::{Child, Step, step, walk},
    error::OrFail,
    reaper,
    steps::{
        cgroup, credentials, devices, hooks, limits, masks, mounts, namespaces, network, program,
        root, seccomp, sysctl, terminal,
    },
};

/// From birth until the program could run.
///
/// The order is the security argument: a line that must not move says why.
const SET_UP: &[Step] = &[
    // Its id maps are written, and it is recorded, before it may use either.
    step("wait to be adopted", wait_for_maps),
    step("choose processors", limits::set_initial_affinity),
    // First of all: everything below is accounted and limited.
    step("enter the cgroup", cgroup::enter),
    // Its root is the cgroup we are in, so it comes after.
    step("make the cgroup namespace", namespaces::make_cgroup_namespace),
    step("join namespaces", namespaces::join_all),
    step("become root of the user namespace", credentials::become_namespace_root),
    step("make the time namespace", namespaces::make_time_namespace),
    step("lead a new session", terminal::lead_session),
    step("join a new keyring", limits::renew_keyring),
    step("set up the network", network::set_up),
    step("name the host", sysctl::name_host),
    // Before the first mount: nothing may be seen outside.
    step("cut the propagation of mounts", root::isolate),
    step("attach the root", root::attach),
    step("mount the filesystems", mounts::mount_all),
    step("make the devices", devices::make_all),
    step("make the links of /dev", devices::link_all),
    step("open the terminal", terminal::open),
    step("mount the console", terminal::mount_console),
    // Host paths are still reachable for them, as the specification wants.
    step("run the hooks of creation", hooks::creation),
    // Needs the host's procfs, which the pivot takes away, and the namespaces above.
    step("set kernel parameters", sysctl::apply),
    // After all mounts and nodes, of which some lie in it.
    step("make the root read-only", root::protect),
    step("make paths read-only", masks::protect),
    step("mask paths", masks::mask),
    step("look up the user", credentials::look_up),
    // After it, no host path can be opened any more.
    step("enter the root", root::pivot),
    step("take the standard descriptors", terminal::take_stdio),
    step("set limits", limits::set_rlimits),
    step("set the scheduling", limits::set_scheduling),
    step("set the personality", limits::set_personality),
    step("set security labels", limits::set_labels),
    // Before any path of the image's choice is used: no descriptor of the host may be found there.
    step("close descriptors", program::close_descriptors),
    // With our powers: a directory only root may enter has always been allowed.
    step("enter the working directory", program::enter_directory),
    // Before the filter, which need not allow it.
    step("stay behind as init", reaper::stay_behind),
    step("drop privileges", drop_privileges),
    // On a network filesystem it may be the other way round.
    step("enter the user's working directory", program::enter_directory_as_user),
    step("find the program", program::find),
];

/// After the gate.
const START: &[Step] = &[
    step("run the hooks of the start", hooks::start),
    // The change of user has cleared it, prctl(2).
    step("set the parent-death signal", limits::set_parent_death_signal),
    step("limit descriptors", limits::limit_descriptors),
    step("set no_new_privs", credentials::forbid_new_privileges),
    // Last, so that the filter need not allow any of our own calls.
    step("install the seccomp filter", seccomp::install_last),
];

/// Takes a new container's first process from its birth to the program. Returns only on failure.
pub(crate) fn run(child: &mut Child<'_>) -> Result<Infallible> {
    walk(SET_UP, child)?;
    pass_gate(child)?;
    walk(START, child)?;
    program::execute(child)
}

/// The same for a process that joins a running container.
pub(crate) fn join(child: &mut Child<'_>) -> Result<Infallible> {
    walk(JOIN, child)?;
    program::execute(child)
}

/// Id maps must be there before anything is done with ids; without a user namespace nothing below needs
/// the parent before the gate.
fn wait_for_maps(child: &mut Child<'_>) -> Result<()> {
    if !child.prepared.waits_for_maps {
        return Ok(());
    }
    wait_to_go(child)?;
    // An unprivileged parent had to leave us dumpable to write the maps.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).or_fail(|| "become undumpable")
}

/// Whoever needs the parent first, waits for it first: id maps, hooks, or else the gate.
pub(crate) fn wait_to_go(child: &mut Child<'_>) -> Result<()> {
    if child.may_go {
        return Ok(());
    }
    match child.channel.answer()? {
        FromParent::Go { ignored_signals } => {
            child.may_go = true;
            child.ignored_signals = ignored_signals;
            Ok(())
        }
        FromParent::HooksDone => Err(unexpected()),
    }
}

fn drop_privileges(child: &mut Child<'_>) -> Result<()> {
    credentials::become_user(child)?;
    credentials::limit_capabilities(child)
}

/// Waits until the program may run: for a parent that has recorded us, or for `start`.
fn pass_gate(child: &mut Child<'_>) -> Result<()> {
    wait_to_go(child)?;
    sys::default_signals(child.ignored_signals).or_fail(|| "reset signals")?;
    let Some(gate) = &child.prepared.gate else {
        return child.tell(&FromChild::Executing);
    };
    child.tell(&FromChild::Ready)?;
    wait_at(gate)
}

/// Until a writer has come, poll(2) on a FIFO waits, even though nobody holds its other end.
fn wait_at(gate: &std::os::fd::OwnedFd) -> Result<()> {
    let mut byte = [0];
    loop {
        let mut fds = [PollFd::new(gate, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.or_fail(|| "wait for the start")?,
        };
        match rustix::io::read(gate, &mut byte) {
            // The starter died between opening and writing: wait for the next.
            Ok(0) => {
                return Err(Error::call(
                    "wait for the start",
                    io::Error::from_raw_os_error(libc::EPIPE),
                ));
            }
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::call("read the start gate", error)),
        }
    }
}

/// What another process goes through on its way into a running container.
const JOIN: &[Step] = &[
    step("wait to be adopted", wait_for_maps),
    step("choose processors", limits::set_initial_affinity),
    // Before the namespaces: a cgroup namespace hides where this is.
    step("enter the cgroup", cgroup::enter),
    step("join namespaces", namespaces::join_all),
    step("become root of the user namespace", credentials::become_namespace_root),
    step("lead a new session", terminal::lead_session),
    step("join a new keyring", limits::renew_keyring),
    step("open the root", root::open_joined),
    step("open the terminal", terminal::open),
    step("look up the user", credentials::look_up),
    step("take the standard descriptors", terminal::take_stdio),
    step("set limits", limits::set_rlimits),
    step("set the scheduling", limits::set_scheduling),
    step("set the personality", limits::set_personality),
    step("set security labels", limits::set_labels),
    // Before any path of the container's choice is used (CVE-2024-21626).
    step("close descriptors", program::close_descriptors),
    step("enter the working directory", program::enter_directory),
    step("drop privileges", drop_privileges),
    step("enter the user's working directory", program::enter_directory_as_user),
    step("find the program", program::find),
    step("wait to be recorded", pass_gate),
    step("limit descriptors", limits::limit_descriptors),
    step("set no_new_privs", credentials::forbid_new_privileges),
    step("install the seccomp filter", seccomp::install_last),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    #[track_caller]
    fn position(table: &[Step], name: &str) -> usize {
        table.iter().position(|step| step.name == name).unwrap()
    }

    #[test]
    fn nothing_is_mounted_after_the_root_was_entered() {
        let enter = position(SET_UP, "enter the root");
        for name in ["mount the filesystems", "mask paths", "make the root read-only"] {
            assert!(position(SET_UP, name) < enter, "{name}");
        }
        assert!(position(SET_UP, "drop privileges") > enter);
    }

    #[test]
    fn no_descriptor_is_left_when_a_path_of_the_containers_is_used() {
        for table in [SET_UP, JOIN] {
            let close = position(table, "close descriptors");
            assert!(close < position(table, "enter the working directory"));
            assert!(close < position(table, "find the program"));
        }
    }

    #[test]
    fn the_filter_comes_last() {
        for table in [START, JOIN] {
            assert_eq!(position(table, "install the seccomp filter"), table.len() - 1);
        }
    }
}
