//! `-u user:password`, as krgo took it.

use crate::output;

/// The login a person typed. krgo took anything without a colon for nobody at all.
pub(super) fn typed(user: Option<&str>) -> Option<String> {
    let (name, password) = user?.split_once(':')?;
    output::note(
        "warning: a password on the command line is seen by everybody on this machine; \
         `crun-cargo login --password-stdin` or a credential helper keeps it to you",
    );
    Some(format!("{name}:{password}"))
}
