//! `linux.seccomp`.

use super::{document, filled, words};
use crate::{
    Action, Comparison, Condition, Notify, Policy, Rule, Seccomp,
    problems::Findings,
    seccomp::{action_named, comparison_named},
};

pub(super) fn lower(document: document::Seccomp, findings: &mut Findings) -> Option<Seccomp> {
    const PLACE: &str = "linux.seccomp";
    let errno = document.default_errno_ret;
    let default = action_named(&document.default_action.unwrap_or_default(), errno);
    let default = findings.take(format_args!("{PLACE}.defaultAction"), default)?;
    let mut known = |field: &str, list: Option<Vec<String>>, table: &[&str]| {
        let list = list.unwrap_or_default();
        for (index, word) in list.iter().enumerate() {
            if !table.contains(&word.as_str()) {
                let place = format_args!("{PLACE}.{field}[{index}]");
                findings.problem(place, format_args!("{word:?} is not known"));
            }
        }
        list
    };
    let architectures = known("architectures", document.architectures, words::ARCHITECTURES);
    let flags = known("flags", document.flags, words::SECCOMP_FLAGS);
    let calls = document.syscalls.unwrap_or_default();
    let mut rules = Vec::with_capacity(calls.len());
    for (index, call) in calls.into_iter().enumerate() {
        rule(call, format_args!("{PLACE}.syscalls[{index}]"), &mut rules, findings);
    }
    let notify = filled(document.listener_path).map(|socket| Notify {
        socket: socket.into(),
        metadata: document.listener_metadata.unwrap_or_default(),
    });
    let watches = default == Action::Notify || rules.iter().any(|it| it.action == Action::Notify);
    if watches && notify.is_none() {
        findings.problem(format_args!("{PLACE}.listenerPath"), "is missing, and NOTIFY needs it");
    }
    Some(Seccomp::Policy(Policy { default, architectures, flags, rules, notify }))
}

fn rule(
    call: document::Syscall,
    place: std::fmt::Arguments<'_>,
    rules: &mut Vec<Rule>,
    findings: &mut Findings,
) {
    let action = action_named(&call.action.unwrap_or_default(), call.errno_ret);
    let Some(action) = findings.take(format_args!("{place}.action"), action) else { return };
    let names = call.names.unwrap_or_default();
    if names.is_empty() {
        findings.problem(format_args!("{place}.names"), "is missing");
    }
    let mut conditions = Vec::new();
    for (index, argument) in call.args.unwrap_or_default().iter().enumerate() {
        let place = format_args!("{place}.args[{index}]");
        conditions.extend(findings.take(place, condition(argument)));
    }
    // Engines mean "any of them" by several conditions on one argument, because libseccomp cannot
    // say "all" of those.
    let repeated =
        |one: &Condition| conditions.iter().filter(|other| other.index == one.index).count() > 1;
    if conditions.iter().any(repeated) {
        rules.extend(conditions.iter().map(|condition| Rule {
            names: names.clone(),
            action,
            conditions: vec![*condition],
        }));
    } else {
        rules.push(Rule { names, action, conditions });
    }
}

fn condition(argument: &document::Argument) -> Result<Condition, String> {
    let index = argument.index.unwrap_or_default();
    if index > 5 {
        return Err(format!("a system call has no argument {index}"));
    }
    let first = argument.value.unwrap_or_default();
    let comparison = comparison_named(argument.op.as_deref().unwrap_or_default(), first)?;
    let value = match comparison {
        Comparison::Masked { .. } => argument.value_two.unwrap_or_default(),
        _ => first,
    };
    Ok(Condition { index, comparison, value })
}
