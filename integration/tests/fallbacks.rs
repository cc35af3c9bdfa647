//! Older kernels: the same containers where newer system calls answer ENOSYS.

use integration::{Invocation, TestEnv, built, images, program};

/// Runs the program under `without`; the guarantees must hold or it must refuse, never weaken.
fn without(env: &TestEnv, calls: &str, words: &[&str]) -> Invocation {
    let run = env.other(built("without").to_str().unwrap(), [calls]).arg(program());
    run.arg("--root").arg(env.store()).arg("--runroot").arg(env.runroot()).args(words)
}

#[test]
fn each_newer_call_may_be_missing() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    for call in [
        "openat2",
        "close_range",
        "faccessat2",
        "statx",
        "copy_file_range",
        "fchmodat2",
        "renameat2",
        "memfd_create",
        "pidfd_getfd",
        "listmount",
        "statmount",
        "execveat",
        "landlock_create_ruleset",
        "pidfd_open",
        "pidfd_send_signal",
        "mount_setattr",
    ] {
        let run =
            without(&env, call, &["run", "--rm", "--network", "none", &image, "probe", "fds"])
                .run();
        if run.status.success() {
            assert_eq!(run.json().as_object().unwrap().len(), 3, "{call}: descriptors leak");
        } else {
            // Refusing is allowed, by name and in order: Linux 5.12 is the oldest that can do it all.
            println!("without {call}: {}", run.error().trim());
            run.code(125).stderr_has("not implemented");
        }
    }
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
