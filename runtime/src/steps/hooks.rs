//! Hooks at points of a creation.

use configs::Hook;

use crate::{
    Result, State, Status,
    channel::{FromChild, FromParent, unexpected},
    child::Child,
    hooks, init,
};

/// Lets the parent run those of the host's namespaces, then runs those of the container's.
pub(crate) fn creation(child: &mut Child<'_>) -> Result<()> {
    let wanted = &child.spec.hooks;
    if !(wanted.prestart.is_empty() && wanted.create_runtime.is_empty()) {
        // The answer to come would otherwise be taken for the one that is due.
        init::wait_to_go(child)?;
        child.tell(&FromChild::RunHooks)?;
        if child.channel.answer()? != FromParent::HooksDone {
            return Err(unexpected());
        }
    }
    if wanted.create_container.is_empty() {
        return Ok(());
    }
    hooks::run("createContainer", &wanted.create_container, &state(child, Status::Creating))
}

/// Runs those that come right before the program, inside.
pub(crate) fn start(child: &mut Child<'_>) -> Result<()> {
    let wanted = &child.spec.hooks.start_container;
    if wanted.is_empty() {
        return Ok(());
    }
    hooks::run("startContainer", wanted, &state(child, Status::Created))
}

/// Programs around one mount (nsinit): the host's tree is still there, and what they mount is seen inside.
pub(crate) fn around_mount(child: &Child<'_>, wanted: &[Hook]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    hooks::run("mount", wanted, &state(child, Status::Creating))
}

fn state(child: &Child<'_>, status: Status) -> State {
    State {
        id: child.id.clone(),
        status,
        // As seen from where the hook runs.
        pid: Some(rustix::process::getpid().as_raw_nonzero().get()),
        bundle: child.prepared.bundle.clone(),
        rootfs: child.spec.root.path.clone(),
        created: std::time::UNIX_EPOCH,
        annotations: child.spec.annotations.clone(),
    }
}
