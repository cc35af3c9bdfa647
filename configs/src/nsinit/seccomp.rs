//! Filters of the flat generation: raw x86-64 numbers → names.

use super::fields::Fields;
use crate::{Action, Comparison, Condition, Policy, Rule, Seccomp, problems::Findings, syscalls};

pub(super) fn lower(fields: &mut Fields, findings: &mut Findings) -> Option<Seccomp> {
    let mut filter = fields.object("seccomp", findings)?;
    let mut rules = Vec::new();
    filter.objects("syscalls", findings, |row, findings| {
        rules.extend(self::rules(row, findings));
        Some(())
    });
    filter.finish(findings);
    // Only the native architecture: the old filter took every number for x86-64's.
    let architectures = Vec::new();
    let (default, flags, notify) = (Action::Allow, Vec::new(), None);
    Some(Seccomp::Policy(Policy { default, architectures, flags, rules, notify }))
}

fn rules(row: &mut Fields, findings: &mut Findings) -> Vec<Rule> {
    let number: u32 = row.narrow("value", findings);
    let action = action(row.number("action", findings).unwrap_or_default());
    let conditions = row.objects("args", findings, condition).unwrap_or_default();
    let Some(name) = syscalls::x86_64_name(number) else {
        findings.problem(row.place("value"), format_args!("x86-64 has no system call {number}"));
        return Vec::new();
    };
    let Ok(action) = action else {
        let what = "is -3 (kill), -2 (trap), -1 (allow) or an errno";
        findings.problem(row.place("action"), what);
        return Vec::new();
    };
    let rule = |conditions| Rule { names: vec![name.to_owned()], action, conditions };
    if conditions.is_empty() {
        return vec![rule(Vec::new())];
    }
    // Any of a rule's arguments decided. (They were all compared with the first one's place, too.)
    conditions.into_iter().map(|condition| rule(vec![condition])).collect()
}

fn action(number: i64) -> Result<Action, ()> {
    match number {
        -3 => Ok(Action::KillThread),
        -2 => Ok(Action::Trap),
        -1 => Ok(Action::Allow),
        errno => u16::try_from(errno).map(Action::Errno).map_err(drop),
    }
}

fn condition(row: &mut Fields, findings: &mut Findings) -> Option<Condition> {
    let index: u8 = row.narrow("index", findings);
    let value: u32 = row.narrow("value", findings);
    let op = row.number("op", findings).unwrap_or_default();
    let value = u64::from(value);
    let comparison = match op {
        0 => Comparison::Equal,
        1 => Comparison::NotEqual,
        2 => Comparison::GreaterOrEqual,
        3 => Comparison::LessOrEqual,
        // All bits of the value are set, and none of the upper half is.
        4 => Comparison::Masked { mask: value | !u64::from(u32::MAX) },
        _ => {
            findings.problem(row.place("op"), "is between 0 and 4");
            return None;
        }
    };
    if index > 5 {
        findings.problem(row.place("index"), "is between 0 and 5");
        return None;
    }
    Some(Condition { index, comparison, value })
}
