//! `process`.

use super::{document, filled, text};
use crate::{
    Capabilities, Capability, Process, Rlimit, UserId, capability, oci::words, problems::Findings,
};

pub(super) fn raise(process: &Process, findings: &mut Findings) -> document::Process {
    let affinity = &process.cpu_affinity;
    document::Process {
        terminal: process.terminal.then_some(true),
        console_size: process.console_size.map(|size| document::ConsoleSize {
            height: Some(size.rows),
            width: Some(size.columns),
        }),
        user: Some(user(process, findings)),
        args: Some(process.args.clone()),
        env: filled(process.env.clone()),
        cwd: Some(text(&process.cwd)),
        capabilities: Some(capabilities(&process.capabilities)),
        rlimits: filled(process.rlimits.iter().map(rlimit).collect()),
        no_new_privileges: process.no_new_privileges.then_some(true),
        apparmor_profile: process.apparmor_profile.clone(),
        oom_score_adj: process.oom_score_adj,
        scheduler: process.scheduler.map(|scheduler| document::Scheduler {
            policy: words::word(words::SCHEDULERS, scheduler.policy.into()).map(str::to_owned),
            nice: Some(scheduler.nice),
            priority: i32::try_from(scheduler.priority).ok(),
            flags: filled(words::words(words::SCHEDULER_FLAGS, scheduler.flags)),
            runtime: Some(scheduler.runtime),
            deadline: Some(scheduler.deadline),
            period: Some(scheduler.period),
        }),
        selinux_label: process.selinux_label.clone(),
        io_priority: process.io_priority.map(|priority| document::IoPriority {
            class: words::word(words::IO_CLASSES, priority.class.into()).map(str::to_owned),
            priority: Some(priority.priority.into()),
        }),
        exec_cpu_affinity: (*affinity != crate::CpuAffinity::default()).then(|| {
            document::CpuAffinity {
                initial: affinity.initial.clone(),
                r#final: affinity.last.clone(),
            }
        }),
    }
}

fn user(process: &Process, findings: &mut Findings) -> document::User {
    let mut number = |id: &UserId| match id {
        UserId::Number(number) => *number,
        UserId::Name(name) => {
            let what = "config.json has numbers only: 0 stands for";
            findings.warn("process.user", format_args!("{what} {name:?}"));
            0
        }
    };
    let user = &process.user;
    document::User {
        uid: Some(number(&user.uid)),
        gid: Some(user.gid.as_ref().map_or(0, &mut number)),
        umask: user.umask,
        additional_gids: filled(user.groups.additional.iter().map(number).collect()),
    }
}

fn capabilities(sets: &Capabilities) -> document::Capabilities {
    let names = |mask| {
        let names = capability::in_mask(mask).filter_map(Capability::short_name);
        filled(names.map(|name| format!("CAP_{name}")).collect())
    };
    document::Capabilities {
        bounding: names(sets.bounding),
        effective: names(sets.effective),
        inheritable: names(sets.inheritable),
        permitted: names(sets.permitted),
        ambient: names(sets.ambient),
    }
}

fn rlimit(limit: &Rlimit) -> document::Rlimit {
    document::Rlimit {
        r#type: limit.resource.oci_name().map(str::to_owned),
        hard: Some(limit.hard),
        soft: Some(limit.soft),
    }
}
