//! System call filters: from a policy to a program the kernel can run. Installing one is `sys`' part.

#[allow(dead_code, unreachable_pub, reason = "shared with build.rs, each using a part")]
pub(crate) mod calls;
#[allow(dead_code, reason = "shared with build.rs, each using a part")]
mod compile;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use calls::Architecture;
use compile::{Answer, Rule, Test};
use configs::{Action, Comparison, Condition, Policy, Seccomp, syscalls};
use seccompiler::SeccompCmpOp;
use sys::SeccompInstruction;

use crate::{Error, Result};

/// A filter, ready for [`sys::install_seccomp_filter`].
#[derive(Debug)]
pub struct Filter {
    /// What the kernel runs.
    pub program: Cow<'static, [SeccompInstruction]>,
    /// `SECCOMP_FILTER_FLAG_*`, with NEW_LISTENER when a rule asks for a listener.
    pub flags: u64,
}

impl Filter {
    /// Whether installing it yields a listener, [`Action::Notify`].
    pub fn has_listener(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }
}

/// The names of actions, flags and architectures this program knows, for OCI `features`.
pub const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// See [`ACTIONS`].
#[cfg(target_arch = "x86_64")]
pub const ARCHITECTURES: &[&str] = &["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"];

/// See [`ACTIONS`].
#[cfg(target_arch = "aarch64")]
pub const ARCHITECTURES: &[&str] = &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];

/// Flags and their bits, `linux/seccomp.h`.
pub const FLAGS: &[(&str, u64)] = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", 1),
    ("SECCOMP_FILTER_FLAG_LOG", 1 << 1),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 1 << 2),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 1 << 5),
];
const TSYNC: u64 = 1;
const NEW_LISTENER: u64 = 1 << 3;
/// Needed to have both of the above, Linux 5.7.
const TSYNC_ESRCH: u64 = 1 << 4;

/// The filter of a container whose bounding set is `capabilities` (a mask).
pub fn filter(seccomp: &Seccomp, capabilities: u64) -> Result<Filter> {
    let policy = match seccomp {
        Seccomp::Policy(policy) => Cow::Borrowed(policy),
        Seccomp::Default => {
            if (capabilities ^ embedded::CAPABILITIES) & embedded::DECIDING == 0 {
                return Ok(Filter { program: Cow::Borrowed(embedded::PROGRAM), flags: 0 });
            }
            Cow::Owned(Policy::default_for(capabilities))
        }
    };
    let program = program(&policy, Architecture::of_target(std::env::consts::ARCH))?;
    Ok(Filter { program: Cow::Owned(program), flags: flags(&policy)? })
}

/// What build.rs made: `PROGRAM`, for the `CAPABILITIES` most containers have; `DECIDING` is the
/// mask of those that make a difference to it.
mod embedded {
    use sys::SeccompInstruction;

    include!(concat!(env!("OUT_DIR"), "/default_filter.rs"));
}

fn program(policy: &Policy, native: Option<Architecture>) -> Result<Vec<SeccompInstruction>> {
    let native = native.ok_or_else(|| {
        Error::Unsupported(format!("seccomp: not known on {}", std::env::consts::ARCH))
    })?;
    let architectures = architectures(policy, native);
    let rules = rules(policy);
    let rules: Vec<Rule<'_>> = rules
        .iter()
        .flat_map(|(rule, answer, tests)| {
            rule.names.iter().map(|name| Rule { name, answer: *answer, tests })
        })
        .collect();
    let default = answer(policy.default)?;
    let policy = compile::Policy {
        architectures: &architectures,
        default,
        newer: newer(policy.default, default),
        rules: &rules,
    };
    let program = compile::compile(&policy).map_err(Error::Unsupported)?;
    Ok(program
        .into_iter()
        .map(|from| SeccompInstruction { code: from.code, jt: from.jt, jf: from.jf, k: from.k })
        .collect())
}

/// The native architecture, then those the policy lists that this processor can run. Profiles list
/// every architecture there is; those of other machines cannot be entered here.
fn architectures(policy: &Policy, native: Architecture) -> Vec<Architecture> {
    let mut all = vec![native];
    for name in &policy.architectures {
        if let Some(other) = Architecture::named(name)
            && native.runs(other)
            && !all.contains(&other)
        {
            all.push(other);
        }
    }
    all
}

/// Each rule with its answer and tests, translated once for all its names.
fn rules(policy: &Policy) -> Vec<(&configs::Rule, Answer, Vec<Test>)> {
    (policy.rules.iter())
        .map(|rule| (rule, number(rule.action), rule.conditions.iter().map(test).collect()))
        .collect()
}

/// Calls newer than the profile: a profile that refuses what it does not list would break programs that
/// try a new call first and fall back when it is ENOSYS. Profiles that let calls through, or hand them
/// to a tracer, are left alone.
fn newer(action: Action, default: Answer) -> Answer {
    const ENOSYS: Answer = 38;
    match action {
        Action::Allow | Action::Log | Action::Trace(_) => default,
        _ => compile::ERRNO | ENOSYS,
    }
}

/// The answer to calls without a rule.
fn answer(action: Action) -> Result<Answer> {
    if action == Action::Notify {
        // Nobody could answer for the calls that pass the listener on.
        return Err(Error::Unsupported("seccomp: SCMP_ACT_NOTIFY as the default action".into()));
    }
    Ok(number(action))
}

fn number(action: Action) -> Answer {
    match action {
        Action::KillProcess => compile::KILL_PROCESS,
        Action::KillThread => compile::KILL_THREAD,
        Action::Trap => compile::TRAP,
        Action::Errno(errno) => compile::ERRNO | Answer::from(errno),
        Action::Notify => compile::NOTIFY,
        Action::Trace(message) => compile::TRACE | Answer::from(message),
        Action::Log => compile::LOG,
        Action::Allow => compile::ALLOW,
    }
}

fn test(condition: &Condition) -> Test {
    let operator = match condition.comparison {
        Comparison::Equal => SeccompCmpOp::Eq,
        Comparison::NotEqual => SeccompCmpOp::Ne,
        Comparison::Less => SeccompCmpOp::Lt,
        Comparison::LessOrEqual => SeccompCmpOp::Le,
        Comparison::Greater => SeccompCmpOp::Gt,
        Comparison::GreaterOrEqual => SeccompCmpOp::Ge,
        Comparison::Masked { mask } => SeccompCmpOp::MaskedEq(mask),
    };
    Test { index: condition.index, operator, value: condition.value }
}

fn flags(policy: &Policy) -> Result<u64> {
    let mut flags = 0;
    for name in &policy.flags {
        let flag = FLAGS
            .iter()
            .find(|row| row.0 == name)
            .ok_or_else(|| Error::Unsupported(format!("seccomp: no such flag {name:?}")))?;
        flags |= flag.1;
    }
    if policy.rules.iter().any(|rule| rule.action == Action::Notify) {
        flags |= NEW_LISTENER;
        if flags & TSYNC != 0 {
            flags |= TSYNC_ESRCH;
        }
    }
    Ok(flags)
}
