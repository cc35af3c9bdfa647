//! docker's security flags: capabilities, filters, masks and labels.

use super::Overrides;
use crate::{
    Capabilities, Capability, Seccomp, Spec, defaults,
    flags::{LabelPart, SecurityOption},
    problems::Findings,
    seccomp_profile,
};

const EVERY: &str = "ALL";

/// docker's rule: `--cap-add ALL` is everything but what is dropped, `--cap-drop ALL` is only what is
/// added; otherwise the default set is changed, additions last.
pub(super) fn capabilities(asked: &Overrides, findings: &mut Findings) -> Capabilities {
    if asked.privileged {
        return Capabilities::usable(every());
    }
    let (add_every, add) = names("--cap-add", &asked.cap_add, findings);
    let (drop_every, drop) = names("--cap-drop", &asked.cap_drop, findings);
    Capabilities::usable(match (add_every, drop_every) {
        (true, _) => every() & !drop,
        (false, true) => add,
        (false, false) => (defaults::CAPABILITIES & !drop) | add,
    })
}

fn every() -> u64 {
    Capability::all().fold(0, |mask, capability| mask | capability.bit())
}

/// Whether `ALL` is among them, and a mask of the others.
fn names(flag: &str, list: &[String], findings: &mut Findings) -> (bool, u64) {
    let is_every =
        |name: &&String| name.eq_ignore_ascii_case(EVERY) || name.eq_ignore_ascii_case("CAP_ALL");
    let mut mask = 0;
    for name in list.iter().filter(|name| !is_every(name)) {
        let capability = findings.take(flag, name.parse::<Capability>());
        mask |= capability.map_or(0, Capability::bit);
    }
    (list.iter().any(|name| is_every(&name)), mask)
}

pub(super) fn apply(spec: &mut Spec, asked: &Overrides, findings: &mut Findings) {
    let mut choices = Choices::new(asked);
    asked.security.iter().for_each(|option| choices.set(option, findings));
    spec.seccomp = choices.seccomp(spec, asked, findings);
    if choices.masks {
        spec.masked_paths = defaults::masked_paths();
        spec.read_only_paths = defaults::read_only_paths();
    }
    let label = choices.label(findings);
    if let Some(process) = &mut spec.process {
        process.no_new_privileges = choices.no_new_privileges;
        process.apparmor_profile = choices.apparmor;
        process.selinux_label = label;
    }
}

enum Filter {
    Default,
    File,
    Nothing,
}

struct Choices {
    filter: Filter,
    masks: bool,
    no_new_privileges: bool,
    apparmor: Option<String>,
    label: [Option<String>; 4],
}

impl Choices {
    fn new(asked: &Overrides) -> Self {
        Self {
            filter: if asked.privileged { Filter::Nothing } else { Filter::Default },
            masks: !asked.privileged,
            no_new_privileges: false,
            apparmor: asked.default_apparmor.clone().filter(|_| !asked.privileged),
            label: [None, None, None, None],
        }
    }

    fn set(&mut self, option: &SecurityOption, findings: &mut Findings) {
        match option {
            SecurityOption::SeccompDefault => self.filter = Filter::Default,
            SecurityOption::SeccompFile(_) => self.filter = Filter::File,
            SecurityOption::SeccompUnconfined => self.filter = Filter::Nothing,
            SecurityOption::SystemPathsUnconfined => self.masks = false,
            SecurityOption::NoNewPrivileges(wanted) => self.no_new_privileges = *wanted,
            SecurityOption::AppArmor(profile) => self.apparmor.clone_from(profile),
            SecurityOption::LabelDisable => self.label = [None, None, None, None],
            SecurityOption::Label { part, value } => {
                let index = match part {
                    LabelPart::User => 0,
                    LabelPart::Role => 1,
                    LabelPart::Type => 2,
                    LabelPart::Level => 3,
                };
                match self.label.get_mut(index) {
                    Some(slot) => *slot = Some(value.clone()),
                    None => findings.problem("--security-opt", "no such part of a label"),
                }
            }
        }
    }

    fn seccomp(&self, spec: &Spec, asked: &Overrides, findings: &mut Findings) -> Option<Seccomp> {
        match self.filter {
            Filter::Default => Some(Seccomp::Default),
            Filter::Nothing => None,
            Filter::File => {
                let capabilities = spec.process.as_ref().map_or(0, |it| it.capabilities.bounding);
                let text = asked.seccomp_profile.as_deref().unwrap_or_default();
                seccomp_profile::lower(text, capabilities, findings).map(Seccomp::Policy)
            }
        }
    }

    /// docker fills the parts nobody names from the machine's policy files, which we do not read.
    fn label(&self, findings: &mut Findings) -> Option<String> {
        match &self.label {
            [None, None, None, None] => None,
            [Some(user), Some(role), Some(kind), Some(level)] => {
                Some(format!("{user}:{role}:{kind}:{level}"))
            }
            _ => {
                let what = "an SELinux label needs all of user, role, type and level";
                findings.problem("--security-opt label", what);
                None
            }
        }
    }
}
