//! Programs to run at points of a container's life (runtime-spec, POSIX-platform hooks).

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// One program; it gets the container's state on its standard input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute path.
    pub path: PathBuf,
    /// argv; empty means only the path.
    pub args: Vec<String>,
    /// The whole environment; `None` inherits that of whoever runs it.
    pub env: Option<Vec<String>>,
    /// Killed after this long.
    pub timeout: Option<Duration>,
    /// Working directory (nsinit's mount commands only).
    pub dir: Option<PathBuf>,
}

/// All hooks, each list in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Deprecated; in the host's namespaces, before pivot_root.
    pub prestart: Vec<Hook>,
    /// Host's namespaces, before pivot_root.
    pub create_runtime: Vec<Hook>,
    /// Container's namespaces, before pivot_root.
    pub create_container: Vec<Hook>,
    /// Container's namespaces, after the start gate, before the program.
    pub start_container: Vec<Hook>,
    /// Host's namespaces, after the program started.
    pub poststart: Vec<Hook>,
    /// Host's namespaces, after the container is deleted.
    pub poststop: Vec<Hook>,
}
