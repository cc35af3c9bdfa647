//! What a container sees when nobody asked for anything: S3 and S4 of the threat model.

use std::{collections::BTreeSet, fs};

use integration::TestEnv;
use serde_json::{Value, json};

const NOTHING: [&str; 0] = [];
/// docker's fourteen: chown … audit_write, setfcap.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

fn own_namespace(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

#[test]
fn namespaces_are_the_containers_own() {
    let Some(env) = TestEnv::root() else { return };
    let seen = env.probe(NOTHING, &["namespaces"]);
    for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        assert_ne!(seen[kind], json!(own_namespace(kind)), "{kind}");
    }
    // Nobody asked for another set of users or another clock.
    for kind in ["user", "time"] {
        assert_eq!(seen[kind], json!(own_namespace(kind)), "{kind}");
    }
}

#[test]
fn the_program_is_process_one_in_a_session_of_its_own() {
    let Some(env) = TestEnv::root() else { return };
    let ids = env.probe(NOTHING, &["ids"]);
    assert_eq!((&ids["pid"], &ids["ppid"], &ids["sid"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!(ids["umask"], json!(0o022));
}

#[test]
fn capabilities_are_dockers_defaults_and_nothing_is_inheritable() {
    let Some(env) = TestEnv::root() else { return };
    let status = env.probe(NOTHING, &["status"]);
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status[set], json!(DEFAULT_CAPABILITIES), "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status[set], json!("0000000000000000"), "{set}");
    }
}

#[test]
fn another_user_has_no_effective_capabilities() {
    let Some(env) = TestEnv::root() else { return };
    let status = env.probe(["--user", "1000:1000"], &["status"]);
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status[set], json!("0000000000000000"), "{set}");
    }
    assert_eq!(status["CapBnd"], json!(DEFAULT_CAPABILITIES));
}

#[test]
fn capabilities_can_be_added_and_dropped() {
    let Some(env) = TestEnv::root() else { return };
    let effective = |flags: &[&str]| env.probe(flags, &["status"])["CapEff"].clone();
    assert_eq!(effective(&["--cap-drop", "ALL"]), json!("0000000000000000"));
    assert_eq!(effective(&["--cap-drop=all", "--cap-add=CHOWN"]), json!("0000000000000001"));
    assert_eq!(effective(&["--cap-drop", "CAP_CHOWN"]), json!("00000000a80425fa"));
    assert_eq!(effective(&["--cap-add", "net_admin"]), json!("00000000a80435fb"));
    env.inside(["--cap-add", "NO_SUCH"], &["true"]).code(125).stderr_has("NO_SUCH");
}

#[test]
fn a_system_call_filter_is_in_force() {
    let Some(env) = TestEnv::root() else { return };
    let status = env.probe(NOTHING, &["status"]);
    assert_eq!(status["Seccomp"], json!("2"));
    assert_eq!(status["NoNewPrivs"], json!("0"));
    let calls = ["unshare-user", "unshare-mount", "socket-vsock", "socket-alg", "mount-tmpfs=/tmp"];
    let outcome = env.probe(NOTHING, &[&["try"], &calls[..]].concat());
    for call in calls {
        assert_ne!(outcome[call], json!("ok"), "{call}");
    }
    assert_eq!(env.probe(NOTHING, &["try", "socket-inet"])["socket-inet"], json!("ok"));
}

#[test]
fn the_filter_can_be_lifted_and_privileges_frozen() {
    let Some(env) = TestEnv::root() else { return };
    let open = env.probe(["--security-opt", "seccomp=unconfined"], &["status"]);
    assert_eq!(open["Seccomp"], json!("0"));
    let frozen = env.probe(["--security-opt", "no-new-privileges"], &["status"]);
    assert_eq!(frozen["NoNewPrivs"], json!("1"));
}

#[test]
fn a_filter_of_the_users_own_is_obeyed() {
    let Some(env) = TestEnv::root() else { return };
    let profile = env.file(
        "profile.json",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
        })
        .to_string(),
    );
    let option = format!("seccomp={}", profile.display());
    let outcome = env.probe(["--security-opt", &option], &["try", "mkdir=/tmp/new"]);
    assert_eq!(outcome["mkdir=/tmp/new"], json!("EOPNOTSUPP"));
}

/// S4: the host's descriptors, variables and groups stay outside.
#[test]
fn nothing_of_the_caller_leaks_in() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.busybox();
    let secret = env.file("secret", "secret");
    // A shell leaves a descriptor open and a variable set for the program it starts.
    let script = format!(
        "exec 7<{}; exec {} --root {} --runroot {} run --rm --network none {name} probe all",
        secret.display(),
        integration::program().display(),
        env.store().display(),
        env.runroot().display(),
    );
    let seen = env.other("sh", ["-c", &script]).env("HOST_SECRET", "x").run().success().json();
    let open: Vec<_> = seen["fds"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(open, ["0", "1", "2"]);
    assert_eq!(seen["env"]["HOST_SECRET"], Value::Null);
    assert_eq!(
        seen["ids"]["groups"].as_array().unwrap().iter().filter(|g| **g != json!(0)).count(),
        0
    );
}

#[test]
fn the_environment_is_the_images_and_a_few_names_more() {
    let Some(env) = TestEnv::root() else { return };
    let seen = env.probe(["--hostname", "box"], &["env"]);
    let names: BTreeSet<_> = seen.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["HOME", "HOSTNAME", "PATH"]));
    assert_eq!((&seen["HOME"], &seen["HOSTNAME"]), (&json!("/root"), &json!("box")));
}

#[test]
fn host_files_processes_and_devices_are_out_of_sight() {
    let Some(env) = TestEnv::root() else { return };
    let marker = env.file("marker", "of the host");
    env.inside(NOTHING, &["test", "!", "-e", marker.to_str().unwrap()]).success();
    let processes = env.inside(NOTHING, &["sh", "-c", "ls /proc | grep -c '^[0-9]'"]).success();
    assert!(processes.word().parse::<u32>().unwrap() <= 4, "{}", processes.word());
    let devices = env.inside(NOTHING, &["ls", "/dev"]).success().text();
    let devices: BTreeSet<_> = devices.split_whitespace().collect();
    let known = [
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
        "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    ];
    assert!(devices.is_subset(&known.into()), "{devices:?}");
    let network = env.inside(NOTHING, &["ls", "/sys/class/net"]).success();
    assert_eq!(network.word(), "lo");
}

#[test]
fn loopback_is_up_in_a_network_of_its_own() {
    let Some(env) = TestEnv::root() else { return };
    let seen =
        env.probe(NOTHING, &["try", "bind-port=80", "send-out=127.0.0.1:9", "send-out=1.1.1.1:9"]);
    assert_eq!(seen["bind-port=80"], json!("ok"));
    assert_eq!(seen["send-out=127.0.0.1:9"], json!("ok"));
    assert_eq!(seen["send-out=1.1.1.1:9"], json!("ENETUNREACH"));
}

#[test]
fn the_hosts_network_is_shared_when_asked_for() {
    let Some(env) = TestEnv::root() else { return };
    let name = env.busybox();
    let seen = env.run(["run", "--rm", "--network", "host", &name, "probe", "namespaces"]);
    assert_eq!(seen.success().json()["net"], json!(own_namespace("net")));
}

#[test]
fn kernel_files_are_masked_or_read_only() {
    let Some(env) = TestEnv::root() else { return };
    let mounts = env.probe(NOTHING, &["mounts"]);
    for masked in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"] {
        if fs::symlink_metadata(masked).is_ok() {
            assert!(mounts.get(masked).is_some(), "{masked} is not covered");
        }
    }
    let paths = ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/profiling"];
    let words: Vec<_> = paths.iter().map(|path| format!("write={path}")).collect();
    let words: Vec<_> = ["try"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let outcome = env.probe(NOTHING, &words);
    for word in &words[1..] {
        assert_ne!(outcome[*word], json!("ok"), "{word}");
    }
    // Empty, not merely unreadable.
    env.inside(NOTHING, &["sh", "-c", "wc -c </proc/keys"]).success().stdout("0\n");
}

#[test]
fn disks_cannot_be_made_or_opened() {
    let Some(env) = TestEnv::root() else { return };
    // mknod of a device is docker's habit to allow; opening it is what the policy denies.
    env.inside(NOTHING, &["sh", "-c", "mknod /disk b 8 0 && ! cat /disk"]).success();
    env.inside(NOTHING, &["sh", "-c", "mknod /mem c 1 1; ! head -c 1 /mem"]).success();
    env.inside(NOTHING, &["sh", "-c", "head -c 4 /dev/zero | wc -c"]).success().stdout("4\n");
}

#[test]
fn privileged_means_privileged() {
    let Some(env) = TestEnv::root() else { return };
    let seen = env.probe(["--privileged"], &["all"]);
    assert_eq!(seen["status"]["Seccomp"], json!("0"));
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    assert_eq!(seen["status"]["CapEff"], json!(own));
    assert!(!seen["mounts"]["/sys"]["options"].as_str().unwrap().split(',').any(|o| o == "ro"));
}

#[test]
fn the_container_has_its_own_hostname() {
    let Some(env) = TestEnv::root() else { return };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    env.inside(["--hostname", "box"], &["hostname"]).success().stdout("box\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host);
    // Without one, the container's short id.
    let unnamed = env.inside(NOTHING, &["hostname"]).success().word();
    assert!(unnamed.len() == 12 && unnamed.chars().all(|c| c.is_ascii_hexdigit()), "{unnamed}");
}

#[test]
fn names_and_name_servers_are_given() {
    let Some(env) = TestEnv::root() else { return };
    let flags = ["--hostname", "box", "--add-host", "db:10.1.2.3", "--dns", "192.0.2.53"];
    let hosts = env.inside(flags, &["cat", "/etc/hosts"]).success().text();
    assert!(hosts.lines().any(|line| line.starts_with("127.0.0.1") && line.contains("localhost")));
    assert!(
        hosts.lines().any(|line| line.starts_with("10.1.2.3") && line.contains("db")),
        "{hosts}"
    );
    env.inside(flags, &["cat", "/etc/resolv.conf"]).success().stdout_has("nameserver 192.0.2.53");
    env.inside(flags, &["cat", "/etc/hostname"]).success().stdout("box\n");
}
