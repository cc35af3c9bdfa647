//! The words config.json may use with us, for `features` (runtime-spec, features.md).

use super::words;
use crate::{Capability, NamespaceKind, options, seccomp};

/// What goes in a mount's options, besides a filesystem's own.
pub fn mount_options() -> Vec<String> {
    let mut words = options::words();
    words.sort();
    words
}

/// Namespaces, sorted.
pub fn namespaces() -> Vec<&'static str> {
    let mut names: Vec<_> = NamespaceKind::NAMES.iter().map(|row| row.1).collect();
    names.sort_unstable();
    names
}

/// Capabilities with their prefix, by number.
pub fn capabilities() -> Vec<String> {
    let names = Capability::all().filter_map(Capability::short_name);
    names.map(|name| format!("CAP_{name}")).collect()
}

/// Hooks, in the order they run.
pub const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Comparisons of a system call policy.
pub fn seccomp_operators() -> Vec<&'static str> {
    seccomp::COMPARISONS.iter().map(|row| row.0).collect()
}

/// Modes of a memory policy.
pub fn memory_modes() -> Vec<&'static str> {
    words::MEMORY_MODES.iter().map(|row| row.0).collect()
}

/// Flags of a memory policy.
pub fn memory_flags() -> Vec<&'static str> {
    words::MEMORY_FLAGS.iter().map(|row| row.0).collect()
}
