//! Namespaces: which to create, which to join, and the id and clock maps that go with them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A kind of namespace, namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in namespaces(7)")]
pub enum NamespaceKind {
    User,
    Cgroup,
    Ipc,
    Uts,
    Network,
    Pid,
    Mount,
    Time,
}

impl NamespaceKind {
    /// Each kind, its OCI name and its nsinit name: the only place they meet.
    pub const NAMES: [(Self, &'static str, &'static str); 8] = [
        (Self::User, "user", "NEWUSER"),
        (Self::Cgroup, "cgroup", "NEWCGROUP"),
        (Self::Ipc, "ipc", "NEWIPC"),
        (Self::Uts, "uts", "NEWUTS"),
        (Self::Network, "network", "NEWNET"),
        (Self::Pid, "pid", "NEWPID"),
        (Self::Mount, "mount", "NEWNS"),
        (Self::Time, "time", "NEWTIME"),
    ];

    /// As config.json spells it.
    pub fn oci_name(self) -> &'static str {
        Self::NAMES.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// As container.json spells it.
    pub fn nsinit_name(self) -> &'static str {
        Self::NAMES.iter().find(|row| row.0 == self).map_or("", |row| row.2)
    }

    /// From config.json's spelling.
    pub fn from_oci(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// From container.json's spelling.
    pub fn from_nsinit(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|row| row.2 == name).map(|row| row.0)
    }
}

/// One entry: a kind, and whether to create or to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Which kind.
    pub kind: NamespaceKind,
    /// Join the namespace this nsfs file names; `None` creates a new one.
    pub join: Option<PathBuf>,
}

/// At most one entry per kind; a kind that is absent is shared with the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces(Vec<Namespace>);

impl Namespaces {
    /// Adds an entry; gives it back when its kind is already there (D-33).
    pub fn insert(&mut self, namespace: Namespace) -> Result<(), Namespace> {
        if self.get(namespace.kind).is_some() {
            return Err(namespace);
        }
        self.0.push(namespace);
        Ok(())
    }

    /// Replaces or removes the entry of a kind: `None` shares it with the caller.
    pub fn set(&mut self, kind: NamespaceKind, entry: Option<Option<PathBuf>>) {
        self.0.retain(|namespace| namespace.kind != kind);
        if let Some(join) = entry {
            self.0.push(Namespace { kind, join });
        }
    }

    /// The entry of a kind.
    pub fn get(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.0.iter().find(|namespace| namespace.kind == kind)
    }

    /// Whether this container gets a new namespace of that kind.
    pub fn creates(&self, kind: NamespaceKind) -> bool {
        self.get(kind).is_some_and(|namespace| namespace.join.is_none())
    }

    /// All entries, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.0.iter()
    }
}

/// One line of `/proc/PID/uid_map`, user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// Both maps of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the type says it")]
pub struct IdMaps {
    pub uids: Vec<IdMap>,
    pub gids: Vec<IdMap>,
}

/// An offset added to a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in time_namespaces(7)")]
pub struct TimeOffset {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// The clocks of a time namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in time_namespaces(7)")]
pub struct TimeOffsets {
    pub monotonic: Option<TimeOffset>,
    pub boottime: Option<TimeOffset>,
}
