//! What a container's first process does between its birth and the program.

use std::{convert::Infallible, io};

use rustix::event::{PollFd, PollFlags, poll};

use crate::{
    Error, Result,
    channel::{FromChild, FromParent},
    child::{Child, Step, step, walk},
    error::OrFail,
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
    // A filter installed without no_new_privs needs CAP_SYS_ADMIN.
    step("drop privileges", drop_privileges),
    step("enter the working directory", program::enter_directory),
    step("find the program", program::find),
];

/// After the gate.
const START: &[Step] = &[
    step("run the hooks of the start", hooks::start),
    step("set no_new_privs", credentials::forbid_new_privileges),
    // Last, so that the filter need not allow any of our own calls.
    step("install the seccomp filter", seccomp::install_unprivileged),
];

/// Takes the caller from its birth to the program. Returns only on failure, which the parent has been told.
pub(crate) fn run(mut child: Child<'_>) -> Error {
    let Err(error) = become_program(&mut child);
    error
}

fn become_program(child: &mut Child<'_>) -> Result<Infallible> {
    walk(SET_UP, child)?;
    pass_gate(child)?;
    walk(START, child)?;
    program::execute(child)
}
