//! Older kernels: the same containers where newer system calls answer ENOSYS.

use integration::{Invocation, Layer, TestEnv, built, images, program, tar::Entry};

/// Runs the program under `without`; the guarantees must hold or it must refuse, never weaken.
fn without(env: &TestEnv, calls: &str, words: &[&str]) -> Invocation {
    let run = env.other(built("without").to_str().unwrap(), [calls]).arg(program());
    run.arg("--root").arg(env.store()).arg("--runroot").arg(env.runroot()).args(words)
}

/// Calls that kernels since 5.12 have, but filters of older engines around us may hide, and newer ones.
const DISPENSABLE: &[&str] = &[
    "openat2",
    "close_range",
    "faccessat2",
    "copy_file_range",
    "fchmodat2",
    "memfd_create",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "listmount",
    "statmount",
    "execveat",
    "landlock_create_ruleset",
    "openat2,close_range,faccessat2,execveat,memfd_create",
];

/// Calls without which the same guarantees cannot be given: containers are refused.
const NEEDED: &[&str] = &[
    "clone3",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "mount_setattr",
    "statx",
];

#[test]
fn containers_start_without_calls_that_may_be_missing() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    for calls in DISPENSABLE {
        let run = ["run", "--rm", "--network", "none", &image, "probe", "fds"];
        let seen = without(&env, calls, &run).run().success().json();
        assert_eq!(seen.as_object().unwrap().len(), 3, "without {calls}, descriptors leak");
    }
}

#[test]
fn a_kernel_that_is_too_old_is_called_so() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    let before = env.traces();
    for call in NEEDED {
        let run = without(&env, call, &["run", "--rm", "--network", "none", &image, "true"]).run();
        run.code(125).stderr_has("not implemented").stderr_has("Linux 5.12").one_clear_line();
        assert_eq!(env.traces(), before, "something is left without {call}");
    }
}

/// What the missing calls would have guaranteed holds without them (D-1, D-21, D-24, D-25).
#[test]
fn the_fallbacks_guarantee_the_same() {
    let Some(env) = TestEnv::root() else { return };
    let outside = env.file("outside/file", "untouched");
    let out = outside.parent().unwrap().display().to_string();
    let mut image = images::busybox();
    image.layers.push(Layer::of(&[
        Entry::symlink("way", &out),
        Entry::symlink("up", "../../../../../../../.."),
        Entry::symlink("fds", "/proc/self/fd"),
    ]));
    let image = images::registry().push("fallbacks/links:1", &image.build());
    env.run(["pull", "-q", &image]).success();
    let inside = |flags: &[&str], words: &[&str]| {
        let run = [&["run", "--rm", "--network", "none"], flags, &[image.as_str()], words].concat();
        without(&env, "openat2,close_range,faccessat2", &run).run()
    };
    // Volumes whose place is behind links land inside.
    let volume = format!("{out}:/way/new:ro");
    inside(&["-v", &volume], &["ls", "/way/new"]).success().stdout("file\n");
    let volume = format!("{out}:/up/below");
    inside(&["-v", &volume], &["ls", "/below"]).success().stdout("file\n");
    let left: Vec<_> = std::fs::read_dir(&out).unwrap().collect();
    assert_eq!(left.len(), 1, "a mount point was made outside: {left:?}");
    // Magic links lead nowhere.
    inside(&["-w", "/fds/5"], &["true"]).code(125).one_clear_line();
    inside(&[], &["/fds/5"]).failure().one_clear_line();
    // And what is wrong is still said exactly.
    inside(&[], &["no-such-program"]).code(127).stderr_has("no-such-program");
    inside(&[], &["/bin/no-interpreter"]).code(127).stderr_has("/bin/missing");
    inside(&[], &["/bin/not-executable"]).code(126).one_clear_line();
    inside(&["-w", "/bin"], &["./script", "x"]).success().stdout("script ran: x\n");
    inside(&["--init"], &["true"]).success();
    inside(&["--sysctl", "net.ipv4.ip_forward=1"], &["cat", "/proc/sys/net/ipv4/ip_forward"])
        .success()
        .stdout("1\n");
}

#[test]
fn pulling_needs_no_newer_call() {
    let Some(_) = TestEnv::root() else { return };
    for call in ["openat2", "copy_file_range", "renameat2", "statx", "fchmodat2"] {
        let env = TestEnv::new();
        let image = images::shared("busybox:latest");
        let run = without(&env, call, &["pull", "-q", &image]).run();
        if run.status.success() {
            env.run(["run", "--rm", "--network", "none", &image, "echo", "ran"])
                .success()
                .stdout("ran\n");
        } else {
            println!("without {call}: {}", run.error().trim());
            run.failure().one_clear_line();
        }
    }
}
