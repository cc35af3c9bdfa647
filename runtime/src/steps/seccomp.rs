//! Installing the system call filter the parent compiled.

use std::os::fd::AsFd;

use crate::{Result, channel::FromChild, child::Child, error::OrFail};

/// Installs the filter where it needs CAP_SYS_ADMIN: without no_new_privs, before capabilities go.
pub(crate) fn install_privileged(child: &mut Child<'_>) -> Result<()> {
    if child.process.no_new_privileges { Ok(()) } else { install(child) }
}

/// Installs the filter as the last thing of all, so that it need not allow our own calls.
pub(crate) fn install_unprivileged(child: &mut Child<'_>) -> Result<()> {
    if child.process.no_new_privileges { install(child) } else { Ok(()) }
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
