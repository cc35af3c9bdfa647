//! docker's seccomp profile files (`--security-opt seccomp=FILE`), which are OCI's with conditions.

use serde::Deserialize;

use crate::{
    Action, Capability, Comparison, Condition, Policy, Rule,
    problems::Findings,
    seccomp::{action_named, comparison_named},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u16>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<Architecture>>,
    flags: Option<Vec<String>>,
    syscalls: Option<Vec<Syscall>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    /// Very old profiles name one call per entry.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u16>,
    args: Option<Vec<Argument>>,
    includes: Option<Conditions>,
    excludes: Option<Conditions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// A rule is for these machines and powers only, or not for them.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conditions {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// The profile's name of this machine.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
const NATIVE: &str =
    if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };

/// Reads a profile for a process with these capabilities.
pub(crate) fn lower(text: &str, capabilities: u64, findings: &mut Findings) -> Option<Policy> {
    const PLACE: &str = "seccomp profile";
    let document: Document = findings.take(PLACE, serde_json::from_str(text))?;
    let default_errno = document.default_errno_ret;
    let default = findings.take(
        format_args!("{PLACE}: defaultAction"),
        action_named(&document.default_action, default_errno),
    )?;
    let mut architectures = document.architectures.unwrap_or_default();
    for row in document.arch_map.unwrap_or_default() {
        if row.architecture == NATIVE {
            architectures.extend(row.sub_architectures.unwrap_or_default());
        }
    }
    let mut rules = Vec::new();
    for (index, call) in document.syscalls.unwrap_or_default().into_iter().enumerate() {
        if applies(&call, capabilities) {
            let place = format!("{PLACE}: syscalls[{index}]");
            rules.extend(rule(call, default, &place, findings));
        }
    }
    let flags = document.flags.unwrap_or_default();
    Some(Policy { default, architectures, flags, rules, notify: None })
}

fn applies(call: &Syscall, capabilities: u64) -> bool {
    let has = |name: &String| {
        name.parse::<Capability>().is_ok_and(|capability| capabilities & capability.bit() != 0)
    };
    let here = |name: &String| name == ARCHITECTURE;
    let included = call.includes.as_ref().is_none_or(|includes| {
        // `minKernel` never asks for more than 4.8, and nothing before 5.x runs us.
        includes.caps.iter().flatten().all(has)
            && includes
                .arches
                .as_ref()
                .is_none_or(|arches| arches.is_empty() || arches.iter().any(here))
    });
    let excluded = call.excludes.as_ref().is_some_and(|excludes| {
        excludes.caps.iter().flatten().any(has)
            || excludes.arches.iter().flatten().any(here)
            || excludes.min_kernel.as_ref().is_some_and(|version| !version.is_empty())
    });
    included && !excluded
}

fn rule(call: Syscall, default: Action, place: &str, findings: &mut Findings) -> Option<Rule> {
    let action = findings.take(place, action_named(&call.action, call.errno_ret))?;
    let names: Vec<String> = call.names.unwrap_or_default().into_iter().chain(call.name).collect();
    if action == default && call.args.as_ref().is_none_or(Vec::is_empty) {
        return None;
    }
    let mut conditions = Vec::new();
    for argument in call.args.unwrap_or_default() {
        let comparison = comparison_named(&argument.op, argument.value);
        let comparison = findings.take(place, comparison)?;
        // The masked comparison's mask comes first, and what it must equal second.
        let value = match comparison {
            Comparison::Masked { .. } => argument.value_two,
            _ => argument.value,
        };
        if argument.index > 5 {
            findings
                .problem(place, format_args!("a system call has no argument {}", argument.index));
        }
        conditions.push(Condition { index: argument.index, comparison, value });
    }
    Some(Rule { names, action, conditions })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]
    use super::*;

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
             "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["s390_pci"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}}
        ]}"#;

    #[test]
    fn conditions_choose_the_rules() {
        let names = |capabilities| -> Vec<String> {
            let mut findings = Findings::default();
            let policy = lower(PROFILE, capabilities, &mut findings).unwrap();
            assert_eq!(policy.default, Action::Errno(38));
            policy.rules.into_iter().flat_map(|rule| rule.names).collect()
        };
        assert_eq!(names(0), ["read", "write", "clone"]);
        assert_eq!(names(1 << 39), ["read", "write", "bpf", "clone"]);
        assert_eq!(names(1 << 21), ["read", "write"]);
    }

    #[test]
    fn an_unknown_action_is_refused() {
        let mut findings = Findings::default();
        let text = PROFILE.replace("SCMP_ACT_ALLOW", "SCMP_ACT_MAYBE");
        lower(&text, 0, &mut findings);
        assert!(findings.finish(()).is_err());
    }
}
