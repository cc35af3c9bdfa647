//! `process`.

use super::{document, filled, words};
use crate::{
    Capabilities, Capability, CpuAffinity, Groups, IoPriority, Process, Resource, Rlimit,
    Scheduler, Size, User, UserId, capability, problems::Findings,
};

pub(super) fn lower(document: document::Process, findings: &mut Findings) -> Process {
    Process {
        args: document.args.unwrap_or_default(),
        env: document.env.unwrap_or_default(),
        cwd: document.cwd.unwrap_or_default().into(),
        terminal: document.terminal.unwrap_or_default(),
        console_size: document.console_size.and_then(size),
        user: user(document.user.unwrap_or_default()),
        capabilities: capabilities(document.capabilities.unwrap_or_default(), findings),
        rlimits: rlimits(document.rlimits.unwrap_or_default(), findings),
        no_new_privileges: document.no_new_privileges.unwrap_or_default(),
        apparmor_profile: filled(document.apparmor_profile),
        selinux_label: filled(document.selinux_label),
        oom_score_adj: oom_score(document.oom_score_adj, findings),
        scheduler: document.scheduler.and_then(|scheduler| self::scheduler(scheduler, findings)),
        io_priority: document.io_priority.and_then(|priority| io_priority(priority, findings)),
        cpu_affinity: affinity(document.exec_cpu_affinity.unwrap_or_default(), findings),
    }
}

/// Zero by zero is what Go writes for "not known".
fn size(size: document::ConsoleSize) -> Option<Size> {
    let (rows, columns) = (size.height.unwrap_or_default(), size.width.unwrap_or_default());
    ((rows, columns) != (0, 0)).then_some(Size { rows, columns })
}

fn user(user: document::User) -> User {
    let additional = user.additional_gids.unwrap_or_default();
    User {
        uid: UserId::Number(user.uid.unwrap_or_default()),
        gid: Some(UserId::Number(user.gid.unwrap_or_default())),
        groups: Groups {
            from_files: false,
            additional: additional.into_iter().map(UserId::Number).collect(),
        },
        umask: user.umask,
    }
}

fn capabilities(sets: document::Capabilities, findings: &mut Findings) -> Capabilities {
    let mut mask = |set: &str, names: Option<Vec<String>>| {
        let mut mask = 0;
        for (index, name) in names.unwrap_or_default().iter().enumerate() {
            // D-29: one this kernel's world does not know widens nothing when it is left out. The
            // specification spells them in full; the short form would be a mistake.
            match name.parse::<Capability>() {
                Ok(capability) if name.starts_with("CAP_") => mask |= capability.bit(),
                _ => findings.warn(
                    format_args!("process.capabilities.{set}[{index}]"),
                    format_args!("no such capability {name:?}: ignored"),
                ),
            }
        }
        mask
    };
    let permitted = mask("permitted", sets.permitted);
    let inheritable = mask("inheritable", sets.inheritable);
    let bounding = mask("bounding", sets.bounding);
    let effective = mask("effective", sets.effective);
    let ambient = mask("ambient", sets.ambient);
    // The kernel refuses more (capabilities(7)), yet runc's own template for long named ambient
    // capabilities that were not inheritable: less is what everybody means.
    let possible = permitted & inheritable;
    for capability in capability::in_mask(ambient & !possible) {
        findings.warn(
            "process.capabilities.ambient",
            format_args!(
                "can't raise ambient capability CAP_{}: it is not both permitted and inheritable",
                capability.short_name().unwrap_or_default()
            ),
        );
    }
    Capabilities {
        bounding,
        effective: effective & permitted,
        ambient: ambient & possible,
        permitted,
        inheritable,
    }
}

fn rlimits(limits: Vec<document::Rlimit>, findings: &mut Findings) -> Vec<Rlimit> {
    let mut lowered = Vec::new();
    for (index, limit) in limits.into_iter().enumerate() {
        let name = limit.r#type.unwrap_or_default();
        let (soft, hard) = (limit.soft.unwrap_or_default(), limit.hard.unwrap_or_default());
        match Resource::from_oci(&name) {
            Some(resource) => lowered.push(Rlimit { resource, soft, hard }),
            None => findings.problem(
                format_args!("process.rlimits[{index}].type"),
                format_args!("no such limit {name:?}"),
            ),
        }
    }
    lowered
}

fn oom_score(score: Option<i32>, findings: &mut Findings) -> Option<i32> {
    if score.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        findings.problem("process.oomScoreAdj", "is between -1000 and 1000");
    }
    score
}

fn scheduler(scheduler: document::Scheduler, findings: &mut Findings) -> Option<Scheduler> {
    const PLACE: &str = "process.scheduler";
    let policy = scheduler.policy.unwrap_or_default();
    let number = words::number(words::SCHEDULERS, "policy", &policy);
    let policy = findings.take(format_args!("{PLACE}.policy"), number)?;
    let mut flags = 0;
    for (index, flag) in scheduler.flags.unwrap_or_default().iter().enumerate() {
        let bit = words::number(words::SCHEDULER_FLAGS, "flag", flag);
        flags |= findings.take(format_args!("{PLACE}.flags[{index}]"), bit).unwrap_or_default();
    }
    let nice = scheduler.nice.unwrap_or_default();
    if !(-20..=19).contains(&nice) {
        findings.problem(format_args!("{PLACE}.nice"), "is between -20 and 19");
    }
    let priority = u32::try_from(scheduler.priority.unwrap_or_default());
    Some(Scheduler {
        policy: u32::try_from(policy).unwrap_or_default(),
        flags,
        nice,
        priority: findings.take(format_args!("{PLACE}.priority"), priority)?,
        runtime: scheduler.runtime.unwrap_or_default(),
        deadline: scheduler.deadline.unwrap_or_default(),
        period: scheduler.period.unwrap_or_default(),
    })
}

fn io_priority(priority: document::IoPriority, findings: &mut Findings) -> Option<IoPriority> {
    const PLACE: &str = "process.ioPriority";
    let class = priority.class.unwrap_or_default();
    let class = words::number(words::IO_CLASSES, "class", &class);
    let class = findings.take(format_args!("{PLACE}.class"), class)?;
    match u8::try_from(priority.priority.unwrap_or_default()) {
        Ok(priority @ 0..=7) => {
            Some(IoPriority { class: u8::try_from(class).unwrap_or_default(), priority })
        }
        _ => {
            findings.problem(format_args!("{PLACE}.priority"), "is between 0 and 7");
            None
        }
    }
}

fn affinity(affinity: document::CpuAffinity, findings: &mut Findings) -> CpuAffinity {
    let mut list = |field: &str, list: Option<String>| {
        let list = filled(list)?;
        let place = format_args!("process.execCPUAffinity.{field}");
        findings.take(place, number_list(&list)).map(|_| list)
    };
    CpuAffinity {
        initial: list("initial", affinity.initial),
        last: list("final", affinity.r#final),
    }
}

/// The kernel's list format, cpuset(7): `0-3,7`.
pub(super) fn number_list(text: &str) -> Result<Vec<u32>, String> {
    let refuse = || format!("{text:?} is no list such as 0-3,7");
    // More processors or memory nodes than any machine has.
    const LIMIT: u32 = 65536;
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u32 = first.parse().map_err(|_| refuse())?;
        let last: u32 = last.parse().map_err(|_| refuse())?;
        if first > last || last >= LIMIT {
            return Err(refuse());
        }
        numbers.extend(first..=last);
    }
    Ok(numbers)
}
