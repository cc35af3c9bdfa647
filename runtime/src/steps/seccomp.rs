//! Installing the system call filter the parent compiled.

use std::os::fd::AsFd;

use crate::{Result, channel::FromChild, child::Child, error::OrFail, steps::credentials};

/// Whether the kernel asks for CAP_SYS_ADMIN to take the filter: without no_new_privs, seccomp(2).
pub(crate) fn needs_privilege(child: &Child<'_>) -> bool {
    child.prepared.filter.is_some() && !child.process.no_new_privileges
}

/// Installs the filter as the last thing of all, so that it need not allow our own calls: only capset(2),
/// which takes back the capability that was kept for this, and execve(2).
pub(crate) fn install_last(child: &mut Child<'_>) -> Result<()> {
    if !needs_privilege(child) {
        return install(child);
    }
    credentials::raise_for_filter()?;
    install(child)?;
    credentials::lower_after_filter(child)
}

fn install(child: &Child<'_>) -> Result<()> {
    let Some(filter) = &child.prepared.filter else { return Ok(()) };
    let listener = sys::install_seccomp_filter(&filter.program, filter.flags)
        .or_fail(|| "install the seccomp filter")?;
    match listener {
        Some(listener) => child.channel.send_with(&FromChild::Listener, &[listener.as_fd()]),
        None => Ok(()),
    }
}
