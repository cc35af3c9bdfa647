//! nsinit's command line and its container.json.

use std::{fs, path::Path};

use integration::{Need, TestEnv};
use serde_json::json;

/// A minimal document of the second generation.
fn container(env: &TestEnv, change: impl FnOnce(&mut serde_json::Value)) -> std::path::PathBuf {
    let mut document = json!({
        "rootfs": env.rootfs("rootfs"),
        "hostname": "nsinit-box",
        "namespaces": [
            {"type": "NEWNS"}, {"type": "NEWUTS"}, {"type": "NEWIPC"}, {"type": "NEWPID"}, {"type": "NEWNET"},
        ],
        "capabilities": ["CHOWN", "KILL"],
        "cgroups": {"name": env.name("nsinit"), "parent": "", "allow_all_devices": false},
        "mounts": [],
    });
    change(&mut document);
    env.file("container.json", document.to_string())
}

fn nsinit(env: &TestEnv, words: &[&str]) -> integration::Invocation {
    let mut command = env.bare();
    command.args(["nsinit", "--root"]).arg(env.runroot()).args(words);
    integration::Invocation::new(command)
}

#[test]
fn a_container_json_runs() {
    let Some(env) = TestEnv::root() else { return };
    let config = container(&env, |_| {});
    let run =
        nsinit(&env, &["exec", "--config", config.to_str().unwrap(), "--id", "c1", "probe", "all"])
            .run();
    let seen = run.success().json();
    assert_eq!(seen["ids"]["pid"], json!(1));
    assert_eq!(seen["status"]["CapEff"], json!("0000000000000021"));
    env.traces().nothing_lives();
}

#[test]
fn options_stop_at_the_command() {
    let Some(env) = TestEnv::root() else { return };
    let config = container(&env, |_| {});
    let config = config.to_str().unwrap();
    for words in [vec!["ls", "-d", "/"], vec!["--", "ls", "-d", "/"]] {
        let words = [&["exec", "--config", config][..], &words].concat();
        nsinit(&env, &words).run().success().stdout("/\n");
    }
}

#[test]
fn exit_codes_pass_and_failures_are_one() {
    let Some(env) = TestEnv::root() else { return };
    let config = container(&env, |_| {});
    let config = config.to_str().unwrap();
    nsinit(&env, &["exec", "--config", config, "sh", "-c", "exit 42"]).run().code(42);
    nsinit(&env, &["exec", "--config", "/no/such/file", "true"]).run().code(1).one_clear_line();
}

#[test]
fn the_document_in_the_current_directory_is_used() {
    let Some(env) = TestEnv::root() else { return };
    container(&env, |_| {});
    nsinit(&env, &["exec", "hostname"]).run().success().stdout("nsinit-box\n");
    // The same door on the main command.
    env.run(["exec", "hostname"]).success().stdout("nsinit-box\n");
}

/// `exec --image`: the document gives the configuration, the image the files.
#[test]
fn an_image_can_supply_the_files() {
    let Some(env) = TestEnv::root() else { return };
    container(&env, |document| {
        document["rootfs"] = json!("/no/such/directory");
    });
    let image = env.busybox();
    env.run(["exec", "--image", &image, "sh", "-c", "hostname; cat /etc/os-release | head -1"])
        .success()
        .stdout("nsinit-box\nID=test\n");
    let config = env.path("container.json");
    let elsewhere =
        env.command(["exec", "--image", &image, "--config", config.to_str().unwrap(), "hostname"]);
    elsewhere.current_dir("/").run().success().stdout("nsinit-box\n");
}

#[test]
fn config_prints_a_document_that_runs() {
    let Some(env) = TestEnv::root() else { return };
    let rootfs = env.rootfs("rootfs");
    let text =
        nsinit(&env, &["config", "--rootfs", rootfs.to_str().unwrap()]).run().success().text();
    let file = env.file("printed.json", text);
    nsinit(&env, &["exec", "--config", file.to_str().unwrap(), "echo", "from the template"])
        .run()
        .success()
        .stdout("from the template\n");
}

/// A container of the current directory that lives until the file `stop` appears in it.
fn living(env: &TestEnv) -> integration::Running {
    container(env, |document| {
        // The older generation: what its program is like stands in the file.
        document["environment"] = json!(["PATH=/bin", "WHERE=file"]);
        let rootfs = document["rootfs"].take();
        document.as_object_mut().unwrap().remove("rootfs");
        document.as_object_mut().unwrap().remove("mounts");
        document["root_fs"] = rootfs;
        document["mount_config"] = json!({});
        document["cgroups"]["allow_all_devices"] = json!(true);
    });
    let script = "touch /ready; while [ ! -e /stop ]; do sleep 0.05; done; exit 5";
    let running = nsinit(env, &["exec", "sh", "-c", script]).start();
    // The file is written once the program runs, so it may be a moment later than the program's own.
    let is_told = || {
        fs::read_to_string(env.path("state.json")).is_ok_and(|text| text.contains("cgroup_paths"))
    };
    env.eventually("the container is ready", || env.path("rootfs/ready").exists() && is_told());
    running
}

fn stop(env: &TestEnv, running: integration::Running) {
    fs::write(env.path("rootfs/stop"), "").unwrap();
    running.finish().code(5);
}

#[test]
fn commands_join_the_running_container_two_at_once() {
    let Some(env) = TestEnv::root() else { return };
    let running = living(&env);
    let join = |word: &str| {
        nsinit(&env, &["exec", "sh", "-c", &format!("sleep 0.3; echo {word} $WHERE; hostname")])
    };
    let (one, two) = (join("one").start(), join("two").start());
    one.finish().success().stdout("one file\nnsinit-box\n");
    two.finish().success().stdout("two file\nnsinit-box\n");
    // TRAP: the older version returned 255 here.
    nsinit(&env, &["exec", "sh", "-c", "kill -9 $$"]).run().code(137);
    env.run(["exec", "sh", "-c", "exit 9"]).code(9);
    stop(&env, running);
    env.traces().nothing_lives();
}

#[test]
fn the_state_file_beside_the_document_tells_the_process_and_goes_with_it() {
    let Some(env) = TestEnv::root() else { return };
    // As after a crash: a process of that number that is another one.
    let state = env.file("state.json", r#"{"init_pid": 1, "init_start_time": "12345"}"#);
    let running = living(&env);
    let document: serde_json::Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    let pid = document["init_pid"].as_i64().unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let time = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned();
    assert_eq!(document["init_start_time"], json!(time));
    assert_eq!(document["network_state"], json!({}));
    assert!(
        document["cgroup_paths"]["memory"].is_string() || document["cgroup_paths"][""].is_string()
    );
    // Known elsewhere, it is not started a second time.
    let mut other = env.bare();
    other.args(["nsinit", "--root"]).arg(env.path("elsewhere")).args(["exec", "true"]);
    integration::Invocation::new(other)
        .run()
        .code(1)
        .stderr_has("runs as process")
        .one_clear_line();
    stop(&env, running);
    assert!(!state.exists());
}

#[test]
fn functions_of_the_older_version_work_by_all_their_names() {
    let Some(env) = TestEnv::root() else { return };
    let list = nsinit(&env, &["exec", "--list"]).run().success().text();
    let names: Vec<_> = list.lines().map(|line| line.split_at(10).0.trim_end()).collect();
    assert_eq!(names, ["NAME", "exec", "ip", "mknod"]);
    let running = living(&env);
    nsinit(&env, &["exec", "--func", "mknod", "/dev/extra", "c", "1", "3"]).run().success();
    nsinit(&env, &["exec", "ls", "-l", "/dev/extra"]).run().success().stdout_has("1,   3");
    let few = nsinit(&env, &["exec", "--func", "mknod", "/dev/extra"]).run();
    few.code(1).stderr_has("expected mknod to have 4 arguments not 1");
    let table = nsinit(&env, &["exec", "--func", "ip"]).run().success().text();
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("NAME      MTU       MAC       FLAG          ADDRS"));
    let row: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(row, ["lo", "65536", "up|loopback", "127.0.0.1/8,::1/128"]);

    let document = fs::read(env.path("state.json")).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    let pid = document["init_pid"].to_string();
    let called = |name: &str, words: &[&str]| {
        let link = env.path(name);
        if !link.exists() {
            std::os::unix::fs::symlink(integration::program(), &link).unwrap();
        }
        let words = [&["--nspid", &pid, "--"], words].concat();
        env.other(link.to_str().unwrap(), words).env("CRUN_CARGO_RUNROOT", env.runroot()).run()
    };
    called("nsenter-exec", &["sh", "-c", "hostname; exit 3"]).code(3).stdout("nsinit-box\n");
    called("nsenter-mknod", &["/dev/second", "b", "8", "0"]).success();
    called("nsenter-ip", &[]).success().stdout(&table);
    nsinit(&env, &["exec", "ls", "-l", "/dev/second"]).run().success().stdout_has("8,   0");
    let none = ["nsenter-exec", "--nspid", "1", "--", "true"];
    nsinit(&env, &none).run().code(1).stderr_has("not the first one of a container");
    stop(&env, running);
}

/// Every sample document, in a network namespace that has the bridge some of them want.
#[test]
fn every_sample_runs() {
    let Some(env) = TestEnv::with(&[Need::Root, Need::Program("ip", "iproute2")]) else { return };
    let rootfs = env.rootfs("rootfs");
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/samples");
    let block_device = block_device();
    let mut ran = 0;
    for entry in fs::read_dir(samples).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut text = fs::read_to_string(&path).unwrap();
        match &block_device {
            Some(number) => text = text.replace("8:0 ", &format!("{number} ")),
            None if text.contains("8:0 ") => continue,
            None => {}
        }
        let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
        // One container of a name at a time, on a machine that may run several tests.
        let cgroup = env.name(&name);
        if document["ociVersion"].is_string() {
            document["root"]["path"] = json!(rootfs);
            document["linux"]["cgroupsPath"] = json!(format!("/{cgroup}"));
        } else {
            document["cgroups"]["name"] = json!(cgroup);
            if document["rootfs"].is_string() {
                document["rootfs"] = json!(rootfs);
            }
        }
        fs::write(rootfs.join("container.json"), document.to_string()).unwrap();
        let script = "ip link add ccs0 type bridge && ip addr add 172.31.255.1/24 dev ccs0 && \
                      ip link set ccs0 up && exec \"$@\"";
        let (program, runroot) = (integration::program(), env.runroot());
        let words = [
            &["-n", "sh", "-c", script, "sh", program.to_str().unwrap(), "nsinit", "--root"][..],
            &[runroot.to_str().unwrap(), "exec", "sh", "-c", "echo it runs; exit 6"],
        ];
        let result = env.other("unshare", words.concat()).current_dir(&rootfs).run();
        match name.as_str() {
            // Refused with the reason where the kernel has no such module, never run without it.
            "nested-apparmor" if !Path::new("/sys/kernel/security/apparmor").exists() => {
                result.code(1).stderr_has("label").one_clear_line();
            }
            "nested-selinux" if !Path::new("/sys/fs/selinux/enforce").exists() => {
                result.code(1).stderr_has("set the label");
            }
            "flat-limits" if !has_controller("hugetlb") => {
                result.code(1).stderr_has("hugetlb").one_clear_line();
            }
            // It has settings of kernels and machines that this one need not have.
            "oci-full" => {}
            _ => {
                // Some have a terminal, which ends lines its own way.
                let text = result.code(6).text();
                assert_eq!(text.replace('\r', ""), "it runs\n", "{name}");
                ran += 1;
            }
        }
    }
    assert!(ran >= 15, "{ran} samples ran");
    env.traces().nothing_lives();
}

/// On version 1 a mounted one, on version 2 one the root has.
fn has_controller(name: &str) -> bool {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mounted = text("/proc/self/cgroup");
    let mut mounted = mounted.lines().filter_map(|line| line.split(':').nth(1));
    mounted.any(|names| names.split(',').any(|it| it == name))
        || text("/sys/fs/cgroup/cgroup.controllers").split_whitespace().any(|it| it == name)
}

/// A disk of this machine, for a limit that names one.
fn block_device() -> Option<String> {
    let mut disks = fs::read_dir("/sys/block").ok()?.flatten();
    let real = disks.find(|disk| !disk.file_name().to_string_lossy().starts_with("loop"))?;
    Some(fs::read_to_string(real.path().join("dev")).ok()?.trim().to_owned())
}

/// A terminal: exit codes, the window's size, signals that are passed on.
#[test]
fn a_terminal_is_relayed_and_signals_are_forwarded() {
    let Some(env) = TestEnv::root() else { return };
    let config = container(&env, |_| {});
    let config = config.to_str().unwrap();
    let mut command = env.bare();
    command.args(["nsinit", "--root"]).arg(env.runroot());
    command.args(["exec", "--tty", "--config", config, "sh"]);
    let mut terminal = integration::Terminal::start(&command);
    terminal.expect("# ");
    terminal.send("stty size\r");
    terminal.expect("24 80");
    terminal.resize(40, 100);
    terminal.send("sleep 0.2; stty size; tty\r");
    terminal.expect("40 100");
    terminal.expect("/dev/");
    terminal.send("exit 7\r");
    assert_eq!(terminal.end().code(), Some(7));
    assert!(terminal.is_cooked());

    let script = "trap 'exit 3' USR1; touch /ready; while :; do sleep 0.05; done";
    let running = nsinit(&env, &["exec", "--config", config, "sh", "-c", script]).start();
    env.eventually("the trap is set", || env.path("rootfs/ready").exists());
    running.signal(nix::sys::signal::Signal::SIGUSR1);
    running.finish().code(3);
    for (words, code) in
        [(&["sh", "-c", "kill -9 $$"][..], 0), (&["/no/such/program"], 1), (&["/etc"], 1)]
    {
        // Process 1 of a pid namespace cannot kill itself (pid_namespaces(7)).
        nsinit(&env, &[&["exec", "--config", config][..], words].concat()).run().code(code);
    }
}

/// The old how-to's sample has no network but loopback; people who need one say so.
#[test]
fn the_hosts_network_can_be_asked_for() {
    let Some(env) = TestEnv::root() else { return };
    container(&env, |_| {});
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let script = "readlink /proc/self/ns/net; cat /etc/resolv.conf 2>/dev/null | wc -c";
    let inside = |words: &[&str]| {
        nsinit(&env, &[&["exec"][..], words, &["sh", "-c", script]].concat()).run().success().text()
    };
    let alone = inside(&[]);
    assert!(!alone.contains(own.to_str().unwrap()), "{alone}");
    let size = fs::read("/etc/resolv.conf").map(|it| it.len()).unwrap_or_default();
    assert_eq!(inside(&["--net", "host"]), format!("{}\n{size}\n", own.display()));
    assert_eq!(inside(&["--net", "host", "--no-resolv-conf"]), format!("{}\n0\n", own.display()));
    // The same door on the main command.
    let main = env.run(["exec", "--net", "host", "hostname"]).success();
    main.stdout("nsinit-box\n");
}

#[test]
fn pause_stats_and_state_have_the_old_keys() {
    let Some(env) = TestEnv::root() else { return };
    let running = living(&env);
    let json = |words: &[&str]| nsinit(&env, words).run().success().json();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let state = json(&["state"]);
    let mut found = keys(&state);
    found.sort();
    assert_eq!(
        found,
        [
            "cgroup_paths",
            "config",
            "external_descriptors",
            "id",
            "init_process_pid",
            "init_process_start",
            "namespace_paths"
        ]
    );
    assert_eq!(state["namespace_paths"].as_object().unwrap().len(), 6);
    assert_eq!(state["external_descriptors"].as_array().unwrap().len(), 3);
    let older = json(&["stats"]);
    assert!(older["cgroup_stats"]["cpu_stats"]["cpu_usage"]["usage_in_kernelmode"].is_u64());
    assert!(older["cgroup_stats"]["memory_stats"]["failcnt"].is_u64());
    let later = json(&["stats", "--id", state["id"].as_str().unwrap()]);
    assert!(later["Interfaces"].is_array());
    assert!(later["CgroupStats"]["memory_stats"]["usage"]["usage"].is_u64());
    nsinit(&env, &["pause"]).run().success();
    nsinit(&env, &["exec", "true"]).run().code(1).stderr_has("paused");
    nsinit(&env, &["unpause"]).run().success();
    nsinit(&env, &["exec", "true"]).run().success();
    nsinit(&env, &["checkpoint"])
        .run()
        .code(1)
        .stderr_has("The --image-path option isn't specified");
    stop(&env, running);
}
