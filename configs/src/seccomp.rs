//! A system call policy as data: what is allowed, refused or watched, by name.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::default_seccomp;

/// Which system call policy a container gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// docker's default profile for the capabilities of the process. It is named, not spelled out, so
    /// that the runtime can use a filter compiled at build time.
    Default,
    /// This one.
    Policy(Policy),
}

/// A policy, seccomp(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// For calls no rule names.
    pub default: Action,
    /// Architectures by their `SCMP_ARCH_*` name, besides the native one; others are killed.
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_*` names.
    pub flags: Vec<String>,
    /// In order; for one call the first rule whose conditions hold decides.
    pub rules: Vec<Rule>,
    /// Where the listener of [`Action::Notify`] is sent.
    pub notify: Option<Notify>,
}

/// What happens to some calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// System call names; names this program does not know are skipped (D-30).
    pub names: Vec<String>,
    /// What to do.
    pub action: Action,
    /// All must hold.
    pub conditions: Vec<Condition>,
}

/// What a filter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in seccomp(2)")]
pub enum Action {
    KillProcess,
    KillThread,
    Trap,
    Errno(u16),
    Notify,
    Trace(u16),
    Log,
    Allow,
}

/// A comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// How to compare.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

/// How an argument is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the type says it")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `argument & mask == value`
    Masked {
        mask: u64,
    },
}

/// Who answers for [`Action::Notify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// A unix socket that receives the listener.
    pub socket: PathBuf,
    /// Sent along.
    pub metadata: String,
}

impl Policy {
    /// The default profile spelled out, for a container with these capabilities (a mask).
    pub fn default_for(capabilities: u64) -> Self {
        let rules = default_seccomp::ROWS
            .iter()
            .filter(|row| row.applies(capabilities))
            .map(|row| Rule {
                names: row.names.iter().map(|&name| name.to_owned()).collect(),
                action: row.errno.map_or(Action::Allow, Action::Errno),
                conditions: row.test.iter().map(Condition::of_default).collect(),
            })
            .collect();
        Self {
            default: Action::Errno(default_seccomp::DEFAULT_ERRNO),
            architectures: (default_seccomp::ARCHITECTURES.iter())
                .map(|&name| name.to_owned())
                .collect(),
            flags: Vec::new(),
            rules,
            notify: None,
        }
    }
}

impl Condition {
    fn of_default(test: &default_seccomp::Test) -> Self {
        match *test {
            default_seccomp::Test::Equal(index, value) => {
                Self { index, comparison: Comparison::Equal, value }
            }
            default_seccomp::Test::Clear(index, mask) => {
                Self { index, comparison: Comparison::Masked { mask }, value: 0 }
            }
        }
    }
}
