//! Signals: those the container's program gets, and those that end the program itself.

use nix::sys::signal::Signal;

use integration::{Running, TestEnv};

/// Starts a shell that says `ready` and then what reaches it.
fn listening(env: &TestEnv, flags: &[&str], script: &str) -> (Running, std::path::PathBuf) {
    let image = env.pulled_busybox();
    let said = env.path("said");
    std::fs::create_dir_all(&said).unwrap();
    let volume = format!("{}:/said", said.display());
    let run = env.command(["run", "--rm", "--network", "none", "-v", &volume]);
    let script = format!("{script}; touch /said/ready; while :; do sleep 0.05; done");
    let running = run.args(flags).arg(&image).args(["sh", "-c", &script]).start();
    env.eventually("the program is ready", || said.join("ready").exists());
    (running, said)
}

#[test]
fn signals_are_passed_on() {
    let Some(env) = TestEnv::root() else { return };
    for (signal, word) in [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGINT, "INT"),
    ] {
        let env = TestEnv::new();
        let script = format!("trap 'echo got {word}; exit 4' {word}");
        let (running, _) = listening(&env, &[], &script);
        running.signal(signal);
        running.finish().code(4).stdout(&format!("got {word}\n"));
    }
    drop(env);
}

/// A kernel rule: process 1 ignores what it has no handler for, so the second interrupt is a person's hint.
#[test]
fn init_lets_a_program_die_of_a_signal_it_does_not_handle() {
    let Some(env) = TestEnv::root() else { return };
    let (running, _) = listening(&env, &["--init"], "true");
    running.signal(Signal::SIGTERM);
    running.finish().code(143);
}

#[test]
fn a_container_dies_with_kill_nine_of_its_keeper_or_can_be_removed() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.name("orphan");
    let (running, _) = listening(&env, &["--name", &name], "true");
    running.signal(Signal::SIGKILL);
    let _ = running.finish();
    env.run(["rm", "-f", &name]);
    env.eventually("nothing is left", || env.traces().processes.is_empty());
    env.traces().nothing_lives();
    env.run(["ps", "-aq"]).success().stdout("");
}

/// A program inside starts with no signal blocked or ignored (S4), whatever the caller had.
#[test]
fn signal_dispositions_of_the_caller_stay_outside() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    let script = format!(
        "trap '' HUP USR1 PIPE; exec {} --root {} --runroot {} run --rm --network none {image} probe status",
        integration::program().display(),
        env.store().display(),
        env.runroot().display(),
    );
    let seen = env.other("sh", ["-c", &script]).run().success().json();
    assert_eq!(seen["SigBlk"], serde_json::json!("0000000000000000"));
    // The probe's own language runtime ignores SIGPIPE; nothing else may be there.
    assert_eq!(seen["SigIgn"], serde_json::json!("0000000000001000"));
}

#[test]
fn the_stop_signal_of_the_image_or_the_flag_is_used() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.name("stopped");
    let script = "trap 'exit 6' USR1; trap 'exit 7' TERM";
    let (running, _) = listening(&env, &["--name", &name, "--stop-signal", "USR1"], script);
    env.run(["stop", &name]).success();
    running.finish().code(6);
}

#[test]
fn a_closed_output_ends_the_program_as_in_a_pipe() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    let script = format!(
        "{} --root {} --runroot {} run --rm --network none {image} yes | head -n 1",
        integration::program().display(),
        env.store().display(),
        env.runroot().display(),
    );
    env.other("sh", ["-c", &script]).run().success().stdout("y\n");
    env.eventually("nothing is left", || env.traces().processes.is_empty());
}
