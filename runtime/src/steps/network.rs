//! The container's end of its network.

use configs::NamespaceKind;

use crate::{Result, child::Child, network};

/// Brings up what a new network namespace has; the rest the parent makes, who can see both sides.
pub(crate) fn set_up(child: &mut Child<'_>) -> Result<()> {
    if !child.spec.namespaces.creates(NamespaceKind::Network) {
        return Ok(());
    }
    network::bring_up_loopback()
}
