//! What stays behind: nothing after a container, a usable store after kill -9 (S8, S9).

use std::{fs, time::Duration};

use integration::{Image, Layer, Need, TestEnv, images, tar::Entry};
use nix::sys::signal::Signal;

const NOTHING: [&str; 0] = [];

#[test]
fn a_finished_container_leaves_nothing() {
    let Some(env) = TestEnv::root() else { return };
    env.pulled_busybox();
    let before = env.traces();
    env.inside(["--name", &env.name("tidy")], &["sh", "-c", "echo x >/file"]).success();
    assert_eq!(env.traces(), before);
}

#[test]
fn a_container_that_cannot_start_leaves_nothing() {
    let Some(env) = TestEnv::root() else { return };
    env.pulled_busybox();
    let before = env.traces();
    let name = env.name("failing");
    for flags in [
        vec!["--name", &name, "--entrypoint", "no-such-program"],
        vec!["--name", &name, "--user", "no-such-user"],
        vec!["--name", &name, "-v", "/no/such/place/at/all:/x:ro,colour"],
        vec!["--name", &name, "--device", "/dev/no-such-device"],
        vec!["--name", &name, "--cpuset-cpus", "9999"],
        vec!["--name", &name, "-w", "/etc/passwd"],
    ] {
        env.inside(flags.clone(), &["true"]).failure();
        assert_eq!(env.traces(), before, "{flags:?}");
    }
}

/// kill -9 of the keeper at any moment of a container's life.
#[test]
fn killing_the_keeper_at_any_moment_leaves_what_rm_can_remove() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    for round in 0..25_u64 {
        let name = env.name(&format!("killed{round}"));
        let run = ["run", "--network", "none", "--name", &name, &image, "sleep", "100"];
        let running = env.command(run).start();
        std::thread::sleep(Duration::from_micros(round * 1500));
        running.signal(Signal::SIGKILL);
        running.finish();
        // It may not have come to exist; if it did, force removes it.
        env.run(["rm", "-f", &name]);
        env.eventually(&format!("round {round} is cleared away"), || {
            let traces = env.traces();
            traces.processes.is_empty() && traces.cgroups.is_empty() && traces.mounts.is_empty()
        });
        env.run(["ps", "-aq"]).success().stdout("");
        // The name is free again.
        env.inside(["--name", &name], &["true"]).success();
    }
}

#[test]
fn killing_a_pull_at_any_moment_leaves_a_usable_store() {
    let Some(env) = TestEnv::root() else { return };
    let registry = env.registry();
    let mut image = images::busybox();
    for number in 0..4 {
        let files: Vec<_> = (0..300)
            .map(|file| Entry::file(format!("d{number}/{file}"), vec![b'x'; 2000]))
            .collect();
        image.layers.push(Layer::of(&files));
    }
    let name = registry.push("killed:1", &image.build());
    let whole = {
        let env = TestEnv::new();
        env.run(["pull", "-q", &name]).success().took
    };
    for round in 0..20 {
        let running = env.command(["pull", "-q", &name]).start();
        std::thread::sleep(whole * round / 20);
        running.signal(Signal::SIGKILL);
        running.finish();
        env.run(["images"]).success();
        if round % 5 == 4 {
            let run =
                ["run", "--rm", "--network", "none", &name, "sh", "-c", "cat /d[0-9]/* | wc -c"];
            env.run(run).success().stdout("2400000\n");
            env.run(["rmi", &name]).success();
        }
    }
    env.run(["pull", "-q", &name]).success();
    env.run(["rmi", &name]).success();
    let left = size_of(&env.store());
    assert!(left < 300 << 10, "{left} bytes stay in an empty store");
}

fn size_of(directory: &std::path::Path) -> u64 {
    fs::read_dir(directory).into_iter().flatten().flatten().fold(0, |sum, entry| {
        let metadata = entry.metadata().unwrap();
        sum + if metadata.is_dir() { size_of(&entry.path()) } else { metadata.len() }
    })
}

/// A full disk: one clear line, nothing half-made, and removing still works (D-54).
#[test]
fn a_full_disk_is_reported_and_survived() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::Overlay]) else { return };
    let disk = env.path("disk");
    fs::create_dir(&disk).unwrap();
    let size = "size=12m";
    env.other("mount", ["-t", "tmpfs", "-o", size, env.token()]).arg(&disk).run().success();
    let run = |words: &[&str]| {
        let mut command = env.bare();
        command
            .arg("--root")
            .arg(disk.join("root"))
            .arg("--runroot")
            .arg(env.runroot())
            .args(words);
        integration::Invocation::new(command).run()
    };
    let small = Image::new(vec![Layer::of(&[Entry::file("small", "x")])]).build();
    let small = images::registry().push("cleanup/small:1", &small);
    let noise: Vec<u8> =
        (0..16_u32 << 20).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ 0x55).collect();
    let large = Image::new(vec![Layer::of(&[Entry::file("large", noise)])]).build();
    let large = images::registry().push("cleanup/large:1", &large);
    let outcome = std::panic::catch_unwind(|| {
        run(&["pull", "-q", &small]).success();
        run(&["pull", "-q", &large]).failure().stderr_has("space").one_clear_line();
        run(&["images", "--format", "{{.Repository}}"])
            .success()
            .stdout_has("cleanup/small")
            .stdout_lacks("large");
        run(&["rmi", &small]).success();
        run(&["pull", "-q", &small]).success();
    });
    env.other("umount", ["-l"]).arg(&disk).run();
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure);
    }
}

/// The state directory of a machine that was switched off: pids in it mean nothing any more.
#[test]
fn leftovers_of_an_earlier_boot_are_no_obstacle() {
    let Some(env) = TestEnv::root() else { return };
    let (name, image) = (env.name("earlier"), env.pulled_busybox());
    let run = ["run", "--network", "none", "--name", &name, &image, "sleep", "100"];
    let running = env.command(run).start();
    env.eventually("the container runs", || env.run(["exec", &name, "true"]).status.success());
    running.signal(Signal::SIGKILL);
    running.finish();
    let Some(traces) = Some(env.traces()) else { return };
    for process in &traces.processes {
        let pid = process.split(':').next().unwrap().parse().unwrap();
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    }
    // /run is empty after a boot.
    env.eventually("the container's processes end", || env.traces().processes.is_empty());
    fs::remove_dir_all(env.runroot()).unwrap();
    env.run(["ps", "-a"]).success().stdout_has(&name);
    env.run(["rm", "-f", &name]).success();
    env.run(["ps", "-aq"]).success().stdout("");
    env.inside(["--name", &name], &["true"]).success();
    let _ = NOTHING;
}

/// A keeper killed between making the file of a container's state and writing it.
#[test]
fn a_state_that_was_never_written_is_no_obstacle() {
    let Some(env) = TestEnv::root() else { return };
    let (name, image) = (env.name("unwritten"), env.pulled_busybox());
    env.run(["run", "--network", "none", "--name", &name, &image, "true"]).success();
    let id = env.run(["ps", "-aq", "--no-trunc"]).success().word();
    let state = env.runroot().join(&id);
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("state.json"), "").unwrap();
    env.run(["ps", "-a"]).success().stdout_has(&name);
    env.run(["rm", "-f", &name]).success();
    assert!(!state.exists());
}
