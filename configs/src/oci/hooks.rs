//! `hooks`.

use std::time::Duration;

use super::document;
use crate::{Hook, Hooks, problems::Findings};

/// `inside` is the environment of the container's program.
pub(super) fn lower(
    document: document::Hooks,
    inside: &[String],
    findings: &mut Findings,
) -> Hooks {
    let mut list = |kind, hooks| list(kind, hooks, inside, findings);
    Hooks {
        prestart: list("prestart", document.prestart),
        create_runtime: list("createRuntime", document.create_runtime),
        create_container: list("createContainer", document.create_container),
        start_container: list("startContainer", document.start_container),
        poststart: list("poststart", document.poststart),
        poststop: list("poststop", document.poststop),
    }
}

fn list(
    kind: &str,
    hooks: Option<Vec<document::Hook>>,
    inside: &[String],
    findings: &mut Findings,
) -> Vec<Hook> {
    let mut lowered = Vec::new();
    for (index, hook) in hooks.unwrap_or_default().into_iter().enumerate() {
        let place = format_args!("hooks.{kind}[{index}]");
        let path = hook.path.unwrap_or_default();
        if !path.starts_with('/') {
            findings.problem(format_args!("{place}.path"), "is not an absolute path");
        }
        let timeout = match hook.timeout.map(u64::try_from) {
            None => None,
            Some(Ok(seconds @ 1..)) => Some(Duration::from_secs(seconds)),
            Some(_) => {
                findings.problem(format_args!("{place}.timeout"), "must be greater than zero");
                None
            }
        };
        // Inside, the environment of whoever called us has no business (S4); the program's own is there.
        let env = match kind {
            "startContainer" => Some(hook.env.unwrap_or_else(|| inside.to_vec())),
            _ => hook.env,
        };
        lowered.push(Hook {
            path: path.into(),
            args: hook.args.unwrap_or_default(),
            env,
            timeout,
            dir: None,
        });
    }
    lowered
}
