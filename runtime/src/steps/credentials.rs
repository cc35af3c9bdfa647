//! Who the program is and what it may do (D-29). `exec` takes the same steps from the same data.

use configs::{Capabilities, Capability, Process};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::{
    Error, Result,
    child::Child,
    error::OrFail,
    steps::{program, seccomp},
    user,
};

/// Asks the container's own files who the program will be.
pub(crate) fn look_up(child: &mut Child<'_>) -> Result<()> {
    let needs_home = program::needs_home(&child.process.env);
    child.identity = Some(user::resolve(child.root()?, &child.process.user, needs_home)?);
    Ok(())
}

/// Becomes root of a user namespace just entered: until then our ids mean nothing in it.
pub(crate) fn become_namespace_root(child: &mut Child<'_>) -> Result<()> {
    if !child.in_user_namespace {
        return Ok(());
    }
    // Refused where setgroups is denied (an unprivileged user's own map); the groups are then unmapped.
    match set_thread_groups(&[]) {
        Err(rustix::io::Errno::PERM) | Ok(()) => {}
        Err(error) => return Err(Error::call("setgroups", error)),
    }
    set_ids(0, 0)
}

/// Takes the program's ids, keeping capabilities across the change of user.
pub(crate) fn become_user(child: &mut Child<'_>) -> Result<()> {
    let identity = child.identity()?;
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match set_thread_groups(&groups) {
        // A rootless container may not set groups: those of its user stay, unmapped (user_namespaces(7)).
        Err(rustix::io::Errno::PERM) if child.in_user_namespace && groups.is_empty() => {}
        other => other.or_fail(|| "setgroups")?,
    }
    drop_bounding(child.process.capabilities.bounding)?;
    // Cleared again by exec.
    set_keep_capabilities(true).or_fail(|| "keep capabilities")?;
    set_ids(identity.uid, identity.gid)?;
    let umask = child.process.user.umask.unwrap_or(0o022);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask & 0o777));
    Ok(())
}

fn set_ids(uid: u32, gid: u32) -> Result<()> {
    let gid_ = Gid::from_raw(gid);
    set_thread_res_gid(Some(gid_), Some(gid_), Some(gid_)).or_fail(|| format!("setgid {gid}"))?;
    let uid_ = Uid::from_raw(uid);
    set_thread_res_uid(Some(uid_), Some(uid_), Some(uid_)).or_fail(|| format!("setuid {uid}"))
}

/// Sets the capability sets to exactly what was asked, and reads them back.
///
/// Where the filter needs CAP_SYS_ADMIN, that stays permitted, without effect, until the filter is there.
pub(crate) fn limit_capabilities(child: &mut Child<'_>) -> Result<()> {
    // What we lack ourselves cannot be given; leaving it out narrows, never widens.
    let ours = capabilities(None).or_fail(|| "capget")?.permitted;
    child.available = ours;
    let mut sets = wanted(child.process.capabilities, ours);
    if seccomp::needs_privilege(child) {
        sets.permitted |= CapabilitySet::SYS_ADMIN & ours;
    }
    set_capabilities(None, sets).or_fail(|| "capset")?;
    let got = capabilities(None).or_fail(|| "capget")?;
    if got != sets {
        return Err(Error::Unsafe("the kernel took other capabilities than were set".into()));
    }
    clear_ambient_capability_set().or_fail(|| "clear the ambient set")?;
    // The kernel has no others, capabilities(7); `runc spec` asks for some that are not inheritable.
    let ambient = set(child.process.capabilities.ambient);
    for capability in members((ambient & sets.permitted & sets.inheritable).bits()) {
        configure_capability_in_ambient_set(set(1 << capability.0), true)
            .or_fail(|| format!("add capability {} to the ambient set", capability.0))?;
    }
    Ok(())
}

fn wanted(wanted: Capabilities, ours: CapabilitySet) -> CapabilitySets {
    CapabilitySets {
        effective: set(wanted.effective) & ours,
        permitted: set(wanted.permitted) & ours,
        inheritable: set(wanted.inheritable) & ours,
    }
}

/// Puts the capability that was kept for the filter into effect.
pub(crate) fn raise_for_filter() -> Result<()> {
    let mut sets = capabilities(None).or_fail(|| "capget")?;
    sets.effective |= CapabilitySet::SYS_ADMIN & sets.permitted;
    set_capabilities(None, sets).or_fail(|| "raise CAP_SYS_ADMIN for the seccomp filter")
}

/// Gives it up again, under the filter: what is left is exactly what was asked. Asking the kernel what we
/// have would need one more call that a policy may not allow; naming a set we lack is refused anyway.
pub(crate) fn lower_after_filter(child: &Child<'_>) -> Result<()> {
    let sets = wanted(child.process.capabilities, child.available);
    set_capabilities(None, sets).or_fail(|| "capset under the seccomp filter, which must allow it")
}

/// Drops what may never come back. Needs CAP_SETPCAP, so it precedes the change of user.
fn drop_bounding(keep: u64) -> Result<()> {
    for capability in 0..64_u8 {
        if keep & 1 << capability != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(set(1 << capability)) {
            Ok(()) => {}
            // The first number the kernel does not know; there are none above it.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => {
                return Err(Error::call(format!("drop capability {capability}"), error));
            }
        }
    }
    Ok(())
}

fn set(mask: u64) -> CapabilitySet {
    CapabilitySet::from_bits_retain(mask)
}

fn members(mask: u64) -> impl Iterator<Item = Capability> {
    (0..64).filter(move |number| mask & 1 << number != 0).map(Capability)
}

/// Nothing executed from here on can gain privileges.
pub(crate) fn forbid_new_privileges(child: &mut Child<'_>) -> Result<()> {
    if child.process.no_new_privileges {
        set_no_new_privs(true).or_fail(|| "set no_new_privs")?;
    }
    Ok(())
}

/// What can be known to fail before anything is made.
pub(crate) fn check(process: &Process) -> Result<()> {
    let Capabilities { effective, permitted, .. } = process.capabilities;
    if effective & !permitted != 0 {
        return Err(Error::Unsupported("effective capabilities must be permitted ones".into()));
    }
    Ok(())
}
