//! D-20 to D-22: our own binary, descriptors and directories while we are on the way into a container. By
//! attackers inside: what they get hold of counts, not what a command said.

use std::{fs, os::unix::fs::symlink, path::Path};

use integration::{Canary, Elf, Image, Layer, Running, TestEnv, images, sha256, tar::Entry};
use serde_json::json;

/// The names programs of the container have; whatever has another is us, on the way in.
const OWN: [&str; 4] = ["probe", "true", "sh", "touch"];

fn own_digest() -> String {
    sha256(&fs::read(integration::program()).unwrap())
}

/// Starts a container whose first process attacks all that enter it.
fn attacker(env: &TestEnv, flags: &[&str]) -> (String, Running) {
    let (name, image) = (env.name("attacked"), env.pulled_busybox());
    let run = env.command(["run", "--rm", "--network", "none", "--name", &name]).args(flags);
    let running = run.arg(&image).args(["probe", "attack", "/stop"]).args(OWN).start();
    env.eventually("the container runs", || env.run(["exec", &name, "true"]).status.success());
    (name, running)
}

/// S5, CVE-2016-9962, CVE-2019-5736, CVE-2024-21626: nothing of a process that enters can be opened, read,
/// followed or taken, however often it enters.
#[test]
fn whoever_enters_cannot_be_looked_into() {
    let Some(env) = TestEnv::root() else { return };
    let before = own_digest();
    let (name, running) = attacker(&env, &["--security-opt", "seccomp=unconfined"]);
    for round in 0..150 {
        let flags: &[&str] = match round % 3 {
            0 => &[],
            1 => &["-u", "1000"],
            _ => &["-w", "/proc"],
        };
        env.command(["exec"]).args(flags).args([&name, "true"]).run().success();
    }
    env.run(["exec", &name, "touch", "/stop"]).success();
    let found = running.finish().success().json();
    assert_eq!(found["reached"], json!({}), "of {} processes", found["seen"]);
    assert!(found["seen"].as_u64().unwrap() > 20, "the attacker has to see us to prove anything");
    assert_eq!(own_digest(), before);
}

/// The same in a user namespace, where the attacker is root over everything inside.
#[test]
fn whoever_enters_a_user_namespace_cannot_be_looked_into() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        for kind in ["uidMappings", "gidMappings"] {
            config["linux"][kind] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        }
        let all = json!(["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_KILL", "CAP_DAC_OVERRIDE"]);
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = all.clone();
        }
        let words = ["probe", "attack", "/dev/stop"].into_iter().chain(OWN);
        config["process"]["args"] = words.collect();
    });
    let id = env.name("attacked");
    let running = env.oci_command(["run", "--bundle", bundle.to_str().unwrap(), &id]).start();
    env.eventually("it runs", || env.oci(["exec", &id, "true"]).status.success());
    for _ in 0..100 {
        env.oci(["exec", &id, "true"]).success();
    }
    env.oci(["exec", &id, "touch", "/dev/stop"]).success();
    let found = running.finish().success().json();
    assert_eq!(found["reached"], json!({}), "of {} processes", found["seen"]);
    assert!(found["seen"].as_u64().unwrap() > 10, "the attacker has to see us to prove anything");
}

/// Whose first process is not alone: another container's pid namespace, in which somebody waits.
#[test]
fn whoever_joins_a_pid_namespace_cannot_be_looked_into() {
    let Some(env) = TestEnv::root() else { return };
    let before = own_digest();
    let words: Vec<_> = ["probe", "attack", "/dev/stop"].into_iter().chain(OWN).collect();
    let bundle = env.bundle(|config| config["process"]["args"] = json!(words));
    let id = env.name("attacked");
    let running = env.oci_command(["run", "--bundle", bundle.to_str().unwrap(), &id]).start();
    env.eventually("it runs", || env.oci(["exec", &id, "true"]).status.success());
    let pid = env.oci(["state", &id]).success().json()["pid"].clone();
    let joining = env.bundle(|config| {
        config["process"]["args"] = json!(["true"]);
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        let pids = namespaces.iter_mut().find(|namespace| namespace["type"] == json!("pid"));
        pids.unwrap()["path"] = json!(format!("/proc/{pid}/ns/pid"));
    });
    for _ in 0..60 {
        let run = ["run", "--bundle", joining.to_str().unwrap(), &env.name("joining")];
        env.oci(run).success();
    }
    env.oci(["exec", &id, "touch", "/dev/stop"]).success();
    let found = running.finish().success().json();
    assert_eq!(found["reached"], json!({}), "of {} processes", found["seen"]);
    assert!(found["seen"].as_u64().unwrap() > 20, "the attacker has to see us to prove anything");
    assert_eq!(own_digest(), before);
}

/// D-20: ways to be executed once more, as the container's own program.
#[test]
fn no_program_of_an_image_leads_to_our_own() {
    let Some(env) = TestEnv::root() else { return };
    let before = own_digest();
    let own = "/proc/self/exe";
    let script = |first: &str| Entry::program("x", format!("#!{first}\n"));
    let elf = || Elf::new().loader(own);
    let ways: Vec<(&str, Vec<Entry>, &[&str])> = vec![
        ("link", vec![Entry::symlink("x", own)], &[]),
        ("link-by-pid", vec![Entry::symlink("x", "/proc/1/exe")], &[]),
        ("chain-of-links", vec![Entry::symlink("x", "/y"), Entry::symlink("y", own)], &[]),
        ("script", vec![script(own)], &[]),
        ("script-with-word", vec![script("/proc/self/exe version")], &[]),
        ("script-with-spaces", vec![script(" \t /proc/self/../self/exe version")], &[]),
        ("script-by-link", vec![script("/y"), Entry::symlink("y", own)], &[]),
        ("script-of-script", vec![script("/y"), Entry::program("y", "#!/proc/self/exe\n")], &[]),
        ("loader", vec![Entry::program("x", elf().build())], &[]),
        (
            "loader-by-link",
            vec![Entry::program("x", Elf::new().loader("/y").build()), Entry::symlink("y", own)],
            &[],
        ),
        ("loader-of-odd-class", vec![Entry::program("x", elf().class(1).build())], &[]),
        ("loader-far-down", vec![Entry::program("x", elf().padding(200).build())], &[]),
        // Neither may we read them, without the capability, nor need the kernel's permission.
        (
            "unreadable-script",
            vec![script("/proc/self/exe version").mode(0o001).owner(9, 9)],
            &["--cap-drop", "DAC_OVERRIDE"],
        ),
        (
            "unreadable-loader",
            vec![Entry::program("x", elf().build()).mode(0o001).owner(9, 9)],
            &["--cap-drop", "DAC_OVERRIDE"],
        ),
    ];
    for (tag, entries, flags) in ways {
        let mut image = images::busybox();
        image.layers.push(Layer::of(&entries));
        let name = images::registry().push(&format!("own-program/{tag}:1"), &image.build());
        let run = env.command(["run", "--rm", "--network", "none"]).args(flags);
        let run = run.args([name.as_str(), "/x", "version"]).run();
        let said = format!("{}{}", run.text(), run.error());
        assert!(run.status.code() == Some(126) || run.status.code() == Some(125), "{tag}: {said}");
        assert!(run.stdout.is_empty(), "{tag}: our own program ran: {said}");
    }
    assert_eq!(own_digest(), before);
}

/// What the checks above must not hinder: programs only others may read.
#[test]
fn a_program_its_user_may_not_read_runs() {
    let Some(env) = TestEnv::root() else { return };
    let mut image = images::busybox();
    let busybox = fs::read("/bin/busybox").unwrap();
    image.layers.push(Layer::of(&[Entry::program("usr/bin/echo", busybox).mode(0o711)]));
    let name = images::registry().push("own-program/unreadable:1", &image.build());
    let run = ["run", "--rm", "--network", "none", "-u", "1000", &name, "/usr/bin/echo", "ran"];
    env.run(run).success().stdout("ran\n");
}

/// D-21, D-22, CVE-2024-21626: no descriptor of ours is a way out, as directory or as program, for `run`,
/// `create` and `exec`.
#[test]
fn no_descriptor_of_ours_is_a_way_out() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    let (name, image) = (env.name("leaks"), env.pulled_busybox());
    let run = env.command(["run", "--rm", "--network", "none", "--name", &name, &image]);
    let running = run.args(["sleep", "60"]).start();
    env.eventually("the container runs", || env.run(["exec", &name, "true"]).status.success());
    let up = format!("../../../../../../..{}", canary.path("file"));
    for process in ["self", "thread-self", "1"] {
        for fd in 3..16 {
            let place = format!("/proc/{process}/fd/{fd}");
            for words in [
                vec!["run", "--rm", "--network", "none", "-w", &place, &image, "cat", &up],
                vec!["exec", "-w", &place, &name, "cat", &up],
            ] {
                let run = env.run(&words);
                assert!(!run.status.success() && run.stdout.is_empty(), "{words:?} led out");
            }
            for tail in ["", "/1/root/bin/true", "/1/exe", "/../../../../../../bin/true"] {
                let program = format!("{place}{tail}");
                let run = env.run(["exec", &name, &program]);
                assert!(!run.status.success(), "{program} could be executed");
            }
        }
    }
    env.run(["rm", "-f", &name]).success();
    running.finish();
    canary.sings();
}

/// A working directory that is missing is made inside, and a link on the way is followed inside only.
#[test]
fn a_working_directory_is_made_inside_only() {
    let Some(env) = TestEnv::root() else { return };
    let canary = Canary::plant(&env);
    let bundle = env.bundle(|config| {
        config["root"]["readonly"] = json!(false);
        config["process"]["cwd"] = json!("/way/new/deep");
        config["process"]["args"] = json!(["pwd"]);
    });
    symlink(canary.directory(), bundle.join("rootfs/way")).unwrap();
    let run = env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("cwd")]);
    canary.sings();
    assert!(run.status.success() || run.stdout.is_empty());
    assert!(!canary.directory().join("new").exists());
}

/// D-23: a /dev/null of the image's making gets none of our output, and host files keep their owners.
#[test]
fn standard_streams_are_neither_replaced_nor_given_away() {
    let Some(env) = TestEnv::root() else { return };
    let probe = fs::read(integration::built("probe")).unwrap();
    let image = Image::new(vec![Layer::of(&[
        Entry::directory("dev"),
        Entry::file("dev/null", "").mode(0o666),
        Entry::program("probe", probe),
    ])]);
    let name = images::registry().push("own-program/null:1", &image.build());
    let output = env.file("output", "");
    let own = || {
        use std::os::unix::fs::MetadataExt;
        let seen = [output.as_path(), Path::new("/dev/null")].map(|path| {
            let found = fs::metadata(path).unwrap();
            (found.uid(), found.gid(), found.mode())
        });
        format!("{seen:?}")
    };
    let before = own();
    let script = format!("exec \"$@\" >>{} 2>&1 </dev/null", output.display());
    let run = env.other("sh", ["-c", &script, "sh"]).arg(integration::program());
    let run = run.arg("--root").arg(env.store()).arg("--runroot").arg(env.runroot());
    let run = run.args(["run", "--rm", "--network", "none", "-u", "1000", &name, "/probe", "fds"]);
    run.run().success();
    let seen = fs::read_to_string(&output).unwrap();
    assert!(seen.contains("\"0\":\"/dev/null\""), "{seen}");
    assert_eq!(own(), before);
}
