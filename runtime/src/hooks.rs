//! Running a Spec's hooks (runtime-spec, POSIX-platform hooks).

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use configs::Hook;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{Error, Result, State};

/// Runs hooks in their order, with the container's state on their standard input; the first that fails
/// ends it.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &State) -> Result<()> {
    let document = state.to_oci().to_string();
    for hook in hooks {
        run_one(hook, &document, &state.bundle).map_err(|reason| Error::Hook {
            kind: kind.to_owned(),
            path: hook.path.clone(),
            reason,
        })?;
    }
    Ok(())
}

/// The same where a failure must not change what has happened already: it is only logged.
pub(crate) fn run_all(kind: &str, hooks: &[Hook], state: &State) {
    for hook in hooks {
        if let Err(error) = run(kind, std::slice::from_ref(hook), state) {
            log::warn!("{error}");
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "programs the Spec names are what hooks are")]
fn run_one(hook: &Hook, document: &str, bundle: &Path) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    let (name, args) = match hook.args.split_first() {
        Some((name, args)) => (name.clone(), args),
        None => (hook.path.display().to_string(), &[][..]),
    };
    command.arg0(name).args(args);
    if let Some(env) = &hook.env {
        command.env_clear().envs(env.iter().filter_map(|entry| entry.split_once('=')));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    match &hook.dir {
        Some(dir) => drop(command.current_dir(dir)),
        // Inside the container the bundle is no longer there, and the root is as good.
        None if bundle.is_dir() => drop(command.current_dir(bundle)),
        None => {}
    }
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its state; then the pipe breaks, and that is fine.
        drop(stdin.write_all(document.as_bytes()));
    }
    if let Some(timeout) = hook.timeout {
        wait_or_kill(&mut child, timeout)?;
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default().escape_default();
    Err(format!("{} {last}", output.status).trim_end().to_owned())
}

fn wait_or_kill(child: &mut Child, timeout: Duration) -> Result<(), String> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| "it has no process id".to_owned())?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => break,
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
    Err(format!("killed after its timeout of {} s", timeout.as_secs_f32()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;
    use crate::Status;

    fn state() -> State {
        State {
            id: "c".parse().unwrap(),
            status: Status::Creating,
            pid: Some(7),
            bundle: std::env::temp_dir(),
            rootfs: "/".into(),
            created: std::time::UNIX_EPOCH,
            annotations: [("a".to_owned(), "b".to_owned())].into(),
        }
    }

    fn shell(script: &str, timeout: Option<Duration>) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        let env = Some(Vec::new());
        Hook { path: "/bin/sh".into(), args, env, timeout, ..Hook::default() }
    }

    #[test]
    fn a_hook_gets_the_state_and_its_own_environment_only() {
        let script = "read -r line; case $line in *'\"status\":\"creating\"'*) ;; *) exit 3;; esac; \
                      test -z \"$CARGO_PKG_NAME\"";
        run("prestart", &[shell(script, None)], &state()).unwrap();
    }

    #[test]
    fn a_failing_hook_is_named_with_what_it_said() {
        let error = run("createRuntime", &[shell("echo why >&2; exit 4", None)], &state());
        let text = error.unwrap_err().to_string();
        assert!(text.contains("createRuntime hook /bin/sh") && text.ends_with("why"), "{text}");
    }

    #[test]
    fn a_slow_hook_is_killed() {
        let slow = shell("exec sleep 60", Some(Duration::from_millis(50)));
        let text = run("prestart", &[slow], &state()).unwrap_err().to_string();
        assert!(text.contains("timeout"), "{text}");
    }
}
