//! For callers with threads: ourselves again, single-threaded.

use crate::ExitStatus;

/// To be called first thing in `main`: does a bootstrap's work if this process was started to be one.
///
/// Returns what to exit with, or `None` in every other process. A program that never starts a container
/// while it has threads need not call it.
pub fn run_if_requested() -> Option<ExitStatus> {
    None
}
