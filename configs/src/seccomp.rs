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

/// libseccomp's spelling of each action, with what it returns when nothing else is said.
const ACTIONS: [(&str, Action); 9] = [
    ("SCMP_ACT_ALLOW", Action::Allow),
    // EPERM is what every engine means by an ERRNO without a number.
    ("SCMP_ACT_ERRNO", Action::Errno(1)),
    ("SCMP_ACT_KILL", Action::KillThread),
    ("SCMP_ACT_KILL_THREAD", Action::KillThread),
    ("SCMP_ACT_KILL_PROCESS", Action::KillProcess),
    ("SCMP_ACT_TRAP", Action::Trap),
    ("SCMP_ACT_TRACE", Action::Trace(1)),
    ("SCMP_ACT_LOG", Action::Log),
    ("SCMP_ACT_NOTIFY", Action::Notify),
];

pub(crate) const COMPARISONS: [(&str, Comparison); 7] = [
    ("SCMP_CMP_EQ", Comparison::Equal),
    ("SCMP_CMP_NE", Comparison::NotEqual),
    ("SCMP_CMP_LT", Comparison::Less),
    ("SCMP_CMP_LE", Comparison::LessOrEqual),
    ("SCMP_CMP_GT", Comparison::Greater),
    ("SCMP_CMP_GE", Comparison::GreaterOrEqual),
    ("SCMP_CMP_MASKED_EQ", Comparison::Masked { mask: 0 }),
];

/// The action of that name, returning `errno` where it returns something. An unknown name is refused,
/// never read as a weaker one (D-30, D-37).
pub(crate) fn action_named(name: &str, errno: Option<u16>) -> Result<Action, String> {
    let row = ACTIONS.iter().find(|row| row.0 == name);
    let action = row.map(|row| row.1).ok_or_else(|| format!("no such action {name:?}"))?;
    match (action, errno) {
        (Action::Errno(_), Some(errno)) => Ok(Action::Errno(errno)),
        (Action::Trace(_), Some(message)) => Ok(Action::Trace(message)),
        (_, Some(_)) => Err(format!("{name} returns no errno")),
        (action, None) => Ok(action),
    }
}

/// The comparison of that name; a masked one masks with `mask`.
pub(crate) fn comparison_named(name: &str, mask: u64) -> Result<Comparison, String> {
    match COMPARISONS.iter().find(|row| row.0 == name).map(|row| row.1) {
        Some(Comparison::Masked { .. }) => Ok(Comparison::Masked { mask }),
        Some(comparison) => Ok(comparison),
        None => Err(format!("no such comparison {name:?}")),
    }
}

impl Action {
    /// libseccomp's name, and the number that goes with it.
    pub(crate) fn oci_name(self) -> (&'static str, Option<u16>) {
        let number = match self {
            Self::Errno(number) | Self::Trace(number) => Some(number),
            _ => None,
        };
        let same =
            |row: &&(&str, Self)| std::mem::discriminant(&row.1) == std::mem::discriminant(&self);
        (ACTIONS.iter().rfind(same).map_or("SCMP_ACT_KILL", |row| row.0), number)
    }
}

impl Comparison {
    /// libseccomp's name.
    pub(crate) fn oci_name(self) -> &'static str {
        let same =
            |row: &&(&str, Self)| std::mem::discriminant(&row.1) == std::mem::discriminant(&self);
        COMPARISONS.iter().find(same).map_or("SCMP_CMP_EQ", |row| row.0)
    }
}
