//! What can go wrong with a container, with advice.

use std::{io, path::PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::{ContainerId, Status, user_namespace};

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a container.
///
/// Serializable because the container's first process has no other way to tell its parent: what arrives
/// is the same value, with a real errno inside, so that hints still work.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Error {
    /// Not a name for a container.
    #[error(
        "{0:?} is not a container id: letters, digits and `_.+-`, the first a letter or digit, \
         at most 255"
    )]
    InvalidId(String),
    /// The name is taken.
    #[error("container {0} already exists")]
    Exists(ContainerId),
    /// No such container.
    #[error("container {0} does not exist")]
    NotFound(ContainerId),
    /// The container is not in the state the operation needs.
    #[error("cannot {verb} container {id}: it is {status}")]
    WrongStatus {
        /// Which container.
        id: ContainerId,
        /// What was to be done.
        verb: String,
        /// How it is.
        status: Status,
    },
    /// One operation on one object failed.
    #[error("{what}")]
    Call {
        /// The operation and its object, such as `openat2 /proc/sys/kernel/shmmax`.
        what: String,
        /// Why.
        #[source]
        #[serde(with = "errno")]
        source: Errno,
    },
    /// A named step of a creation failed.
    #[error("{step}")]
    Step {
        /// The row of the step table.
        step: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// Something in the container's tree is not what safety needs it to be.
    #[error("{0}")]
    Unsafe(String),
    /// What the Spec asks for cannot be done here, and is never skipped in silence (D-37).
    #[error("{0}")]
    Unsupported(String),
    /// The program is not there, or what it needs to run is not (exit code 127).
    #[error("{program}: {reason}")]
    ProgramNotFound {
        /// As it was asked for.
        program: String,
        /// What exactly is missing: the file, its interpreter, its loader.
        reason: String,
    },
    /// The program is there but cannot be executed (exit code 126).
    #[error("{program}: {reason}")]
    CannotExecute {
        /// As it was asked for.
        program: String,
        /// Why not.
        reason: String,
    },
    /// A user or group is not in the container's files.
    #[error("no {kind} {name:?} in the container's {file}")]
    UnknownUser {
        /// `user` or `group`.
        kind: String,
        /// As it was asked for.
        name: String,
        /// Where it was looked for.
        file: String,
    },
    /// A hook failed.
    #[error("{kind} hook {path}: {reason}")]
    Hook {
        /// Such as `createRuntime`.
        kind: String,
        /// The program.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A state file is damaged or of another version.
    #[error("{path}: {reason}")]
    State {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The container's first process ended before it could say why.
    #[error("the container's first process died while it was being set up{0}")]
    InitDied(String),
    /// Several things failed at once, as when deleting goes on past failures.
    #[error("{}", join(.0))]
    Several(Vec<Error>),
}

fn join(errors: &[Error]) -> String {
    let texts: Vec<String> = errors.iter().map(chain).collect();
    texts.join("; ")
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

impl Error {
    /// What the reader can try, when the cause is known to us.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Step { source, .. } => source.hint(),
            Self::Several(errors) => errors.iter().find_map(Self::hint),
            Self::Exists(_) => Some("choose another name, or delete that container first"),
            Self::Call { what, source } => call_hint(what, *source),
            Self::ProgramNotFound { .. } => Some("the path is looked up inside the container"),
            Self::CannotExecute { .. } => Some(
                "it must be a program of this architecture, or a script whose first line names its \
                 interpreter, and executable for the container's user",
            ),
            Self::UnknownUser { .. } => {
                Some("names come from the container's own files; a number needs no entry there")
            }
            Self::WrongStatus { status: Status::Paused, .. } => Some("let it go on first"),
            _ => None,
        }
    }

    /// The errno at the bottom, if a system call is to blame.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Call { source, .. } => Some(*source),
            Self::Step { source, .. } => source.errno(),
            _ => None,
        }
    }

    /// The error itself, without the step it happened in.
    pub fn innermost(&self) -> &Self {
        match self {
            Self::Step { source, .. } => source.innermost(),
            other => other,
        }
    }

    pub(crate) fn call(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        Self::Call {
            what: what.into(),
            source: Errno::from_raw(source.raw_os_error().unwrap_or(0)),
        }
    }
}

fn call_hint(what: &str, errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EPERM if what.starts_with("clone3") => Some(
            "creating these namespaces needs root, or a user namespace: \
             check `sysctl kernel.unprivileged_userns_clone user.max_user_namespaces`",
        ),
        Errno::ENOSPC if what.starts_with("clone3") => {
            Some("a namespace limit was reached: check `sysctl user`")
        }
        Errno::EINVAL if what.starts_with("clone3") => {
            Some("this kernel may lack one of the namespaces: check /proc/self/ns")
        }
        Errno::ENOSYS => Some(
            "Linux 5.12 or newer is needed, and no system call filter in the way, such as another \
             container's",
        ),
        Errno::EINVAL if what == "cut the propagation of mounts" => Some(
            "the root directory is no mount point, as in a chroot: `mount --bind DIR DIR` before \
             entering it makes it one",
        ),
        Errno::ENOTDIR => Some("a part of that path is no directory"),
        Errno::EINVAL if what.starts_with("option ") => {
            Some("the filesystem does not know that option: tmpfs(5) and its like list them")
        }
        Errno::EPERM if what.starts_with("setrlimit") => {
            Some("raising a limit above our own needs CAP_SYS_RESOURCE; `ulimit -aH` shows ours")
        }
        Errno::ERANGE | Errno::EINVAL if what.contains("/cpuset.") => Some(
            "/sys/devices/system/cpu/online and /sys/devices/system/node/online list what there is, \
             such as 0-3,7",
        ),
        Errno::EINVAL if what.starts_with("setuid") || what.starts_with("setgid") => Some(
            "the container's user namespace has no such id: an ordinary user's are granted in /etc/subuid \
             and /etc/subgid",
        ),
        Errno::EINVAL if what.contains("overlay") && !user_namespace::is_initial() => Some(
            "in a user namespace a directory with mounts below it, such as /, cannot be a layer: name one \
             without",
        ),
        Errno::EINVAL if what.contains("overlay") => {
            Some("overlay may be refused on this filesystem: check `dmesg`")
        }
        _ => None,
    }
}

/// Names the operation when a system call fails: `call().or_fail(|| format!("open {path}"))`.
pub(crate) trait OrFail<T> {
    fn or_fail<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> OrFail<T> for std::result::Result<T, E> {
    fn or_fail<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::call(what(), source))
    }
}

/// An errno travels as its number.
mod errno {
    use nix::errno::Errno;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde prescribes the signature")]
    pub(super) fn serialize<S: Serializer>(errno: &Errno, to: S) -> Result<S::Ok, S::Error> {
        let number = std::io::Error::from(*errno).raw_os_error().unwrap_or(0);
        number.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Errno, D::Error> {
        i32::deserialize(from).map(Errno::from_raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_to_the_parent() {
        let error = Error::Step {
            step: "mount the filesystems".into(),
            source: Box::new(Error::call("clone3", Errno::ENOSPC)),
        };
        let sent = serde_json::to_vec(&error).unwrap();
        let received: Error = serde_json::from_slice(&sent).unwrap();
        assert_eq!(received.errno(), Some(Errno::ENOSPC));
        assert_eq!(received.hint(), error.hint());
        assert_eq!(
            chain(&received),
            "mount the filesystems: clone3: ENOSPC: No space left on device"
        );
    }
}
