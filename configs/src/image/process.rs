//! The process of an image: what runs, where, as whom, with which environment.

use oci_spec::image::Config;

use super::{Overrides, security};
use crate::{Process, User, defaults, flags, problems::Findings};

pub(super) fn lower(
    config: Option<&Config>,
    asked: &Overrides,
    findings: &mut Findings,
) -> Process {
    Process {
        args: args(config, asked, findings),
        env: environment(config, asked, findings),
        cwd: directory(config, asked, findings),
        terminal: asked.terminal,
        console_size: asked.console_size,
        user: user(config, asked, findings),
        capabilities: security::capabilities(asked, findings),
        rlimits: asked.ulimits.clone(),
        oom_score_adj: asked.limits.oom_score_adj,
        ..Process::default()
    }
}

/// The entrypoint, then the command. An entrypoint on the command line drops the image's command,
/// which was written for another one.
fn args(config: Option<&Config>, asked: &Overrides, findings: &mut Findings) -> Vec<String> {
    let of_image = |field: fn(&Config) -> &Option<Vec<String>>| {
        config.and_then(|config| field(config).clone()).unwrap_or_default()
    };
    let (entrypoint, command) = match &asked.entrypoint {
        // docker's `--entrypoint ""` means none.
        Some(words) if words.iter().all(String::is_empty) => (Vec::new(), Vec::new()),
        Some(words) => (words.clone(), Vec::new()),
        None => (of_image(Config::entrypoint), of_image(Config::cmd)),
    };
    let command = if asked.args.is_empty() { command } else { asked.args.clone() };
    let args = [entrypoint, command].concat();
    if args.is_empty() {
        findings.problem("command", "none was given, and the image names none");
    }
    args
}

fn directory(
    config: Option<&Config>,
    asked: &Overrides,
    findings: &mut Findings,
) -> std::path::PathBuf {
    let image = || {
        let directory = config.and_then(|config| config.working_dir().as_deref())?;
        // Old builders wrote relative directories; they are relative to the root.
        (!directory.is_empty()).then(|| std::path::Path::new("/").join(directory))
    };
    if let Some(directory) = asked.workdir.as_ref().filter(|directory| !directory.is_absolute()) {
        findings.problem("--workdir", format_args!("{directory:?} is not an absolute path"));
        return "/".into();
    }
    asked.workdir.clone().or_else(image).unwrap_or_else(|| "/".into())
}

fn user(config: Option<&Config>, asked: &Overrides, findings: &mut Findings) -> User {
    let (place, text) = match &asked.user {
        Some(user) => ("--user", user.as_str()),
        None => {
            ("image: User", config.and_then(|config| config.user().as_deref()).unwrap_or_default())
        }
    };
    let mut user = findings.take(place, flags::parse_user(text)).unwrap_or_default();
    for group in &asked.group_add {
        user.groups.additional.extend(findings.take("--group-add", flags::parse_id(group)));
    }
    user
}

/// docker's variables, then the image's, then the command line's; a later value replaces an earlier
/// one in its place.
fn environment(config: Option<&Config>, asked: &Overrides, findings: &mut Findings) -> Vec<String> {
    let mut environment = vec![defaults::PATH.to_owned()];
    if let Some(hostname) = &asked.hostname {
        environment.push(format!("HOSTNAME={hostname}"));
    }
    if asked.terminal {
        environment.push("TERM=xterm".to_owned());
    }
    let image = config.and_then(|config| config.env().as_deref()).unwrap_or_default();
    for entry in image {
        if entry.split_once('=').is_some_and(|(name, _)| !name.is_empty()) {
            set(&mut environment, entry);
        } else {
            findings.warn("image: Env", format_args!("{entry:?} has no name and value: ignored"));
        }
    }
    change(&mut environment, asked, findings);
    environment
}

fn change(environment: &mut Vec<String>, asked: &Overrides, findings: &mut Findings) {
    for entry in &asked.env {
        match entry.split_once('=') {
            Some(("", _)) => findings.problem("--env", format_args!("{entry:?} has no name")),
            Some(_) => set(environment, entry),
            None => environment.retain(|known| name(known) != entry),
        }
    }
}

/// Another process for a container, from its first: same identity, powers and filter (D-29), unless
/// something else was asked for.
pub(super) fn lower_exec(first: &Process, asked: &Overrides, findings: &mut Findings) -> Process {
    let mut process = Process {
        args: asked.args.clone(),
        terminal: asked.terminal,
        console_size: asked.console_size,
        ..first.clone()
    };
    if asked.args.is_empty() {
        findings.problem("command", "none was given");
    }
    if asked.terminal && !process.env.iter().any(|known| name(known) == "TERM") {
        process.env.push("TERM=xterm".to_owned());
    }
    change(&mut process.env, asked, findings);
    if let Some(directory) = &asked.workdir {
        process.cwd.clone_from(directory);
    }
    if asked.user.is_some() {
        process.user = user(None, asked, findings);
        // The new user's own, unless the command line says otherwise.
        process.env.retain(|known| name(known) != "HOME" || asked.env.contains(known));
    }
    if asked.privileged {
        process.capabilities = security::capabilities(asked, findings);
    }
    process
}

fn name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |parts| parts.0)
}

fn set(environment: &mut Vec<String>, entry: &str) {
    match environment.iter_mut().find(|known| name(known) == name(entry)) {
        Some(known) => entry.clone_into(known),
        None => environment.push(entry.to_owned()),
    }
}
