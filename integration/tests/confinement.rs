//! What a container is confined by, tried by payloads that no compiler would make, and by configurations that
//! ask for less than they seem to (threat model S3, S4, D-23 to D-37).

use std::{
    collections::BTreeMap, fs, os::unix::fs::symlink, path::Path, process::Command, time::Duration,
};

use integration::{
    Canary, Elf, Entrance, Finished, Layer, Need, TestEnv, images, skip, tar::Entry,
};
use nix::errno::Errno;
use serde_json::{Value, json};

/// Makes a program for the tests' volume.
fn payload(env: &TestEnv, name: &str, elf: &Elf) -> String {
    let path = env.file(&format!("payload/{name}"), elf.build());
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:/payload:ro", env.path("payload").display())
}

const NEW_USER_NAMESPACE: u64 = 0x1000_0000;
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
/// A value whose lower half, all that the kernel looks at, is something else.
const HIGH: u64 = 1 << 40;

/// D-30: calls a container has no business with, by their native numbers.
const NATIVE: &[(&str, u32, &[u64])] = &[
    ("add_key", 248, &[]),
    ("request_key", 249, &[]),
    ("keyctl", 250, &[]),
    ("bpf", 321, &[]),
    ("userfaultfd", 323, &[]),
    ("perf_event_open", 298, &[]),
    ("io_uring_setup", 425, &[]),
    ("io_uring_enter", 426, &[]),
    ("io_uring_register", 427, &[]),
    ("open_tree", 428, &[]),
    ("move_mount", 429, &[]),
    ("fsopen", 430, &[]),
    ("fsconfig", 431, &[]),
    ("fsmount", 432, &[]),
    ("fspick", 433, &[]),
    ("mount_setattr", 442, &[]),
    ("mount", 165, &[]),
    ("umount2", 166, &[]),
    ("pivot_root", 155, &[]),
    ("kexec_load", 246, &[]),
    ("kexec_file_load", 320, &[]),
    ("init_module", 175, &[]),
    ("finit_module", 313, &[]),
    ("delete_module", 176, &[]),
    ("reboot", 169, &[]),
    ("swapon", 167, &[]),
    ("acct", 163, &[]),
    ("settimeofday", 164, &[]),
    ("iopl", 172, &[]),
    ("ioperm", 173, &[]),
    ("quotactl", 179, &[]),
    ("open_by_handle_at", 304, &[]),
    ("setns", 308, &[]),
    ("kcmp", 312, &[]),
    ("unshare", 272, &[NEW_USER_NAMESPACE]),
    ("unshare, upper half", 272, &[NEW_USER_NAMESPACE | HIGH]),
    ("clone", 56, &[NEW_USER_NAMESPACE | 17]),
    ("clone, upper half", 56, &[NEW_USER_NAMESPACE | HIGH | 17]),
    ("socket of AF_ALG", 41, &[AF_ALG, 5]),
    ("socket of AF_ALG, upper half", 41, &[AF_ALG | HIGH, 5]),
    ("socket of AF_VSOCK", 41, &[AF_VSOCK, 1]),
    ("socketpair of AF_VSOCK", 53, &[AF_VSOCK, 1]),
];

/// The same by the 32-bit entry point, whose numbers are others.
const I386: &[(&str, u32, &[u64])] = &[
    ("add_key", 286, &[]),
    ("request_key", 287, &[]),
    ("keyctl", 288, &[]),
    ("bpf", 357, &[]),
    ("userfaultfd", 374, &[]),
    ("perf_event_open", 336, &[]),
    ("io_uring_setup", 425, &[]),
    ("fsopen", 430, &[]),
    ("move_mount", 429, &[]),
    ("mount", 21, &[]),
    ("umount2", 52, &[]),
    ("kexec_load", 283, &[]),
    ("init_module", 128, &[]),
    ("reboot", 88, &[]),
    ("setns", 346, &[]),
    ("unshare", 310, &[NEW_USER_NAMESPACE]),
    ("clone", 120, &[NEW_USER_NAMESPACE | 17]),
    ("socket of AF_ALG", 359, &[AF_ALG, 5]),
    ("socket of AF_VSOCK", 359, &[AF_VSOCK, 1]),
];

/// Calls that must not be known, so that programs take another way: clone3, and what is yet to come.
const UNKNOWN: [u32; 4] = [435, 600, 1000, 0x3fff];

struct Attempt {
    name: String,
    expected: &'static [Errno],
}

/// Every attempt as one program, and what each must come to.
fn attempts(with_i386: bool) -> (Elf, Vec<Attempt>) {
    const REFUSED: &[Errno] = &[Errno::EPERM, Errno::ENOSYS];
    const NOT_KNOWN: &[Errno] = &[Errno::ENOSYS];
    let mut elf = Elf::new();
    let mut list = Vec::new();
    let mut add = |elf: &mut Elf, entrance, name: &str, number, args: &[u64], expected| {
        *elf = std::mem::take(elf).call(entrance, number, args);
        list.push(Attempt { name: format!("{entrance:?} {name}"), expected });
    };
    for (name, number, args) in NATIVE {
        add(&mut elf, Entrance::Native, name, *number, args, REFUSED);
    }
    for number in UNKNOWN {
        add(&mut elf, Entrance::Native, &number.to_string(), number, &[], NOT_KNOWN);
    }
    if with_i386 {
        for (name, number, args) in I386 {
            add(&mut elf, Entrance::I386, name, *number, args, REFUSED);
        }
        // The family is in memory, where no filter can look.
        let (with_words, at) = elf.words(&[38, 5, 0]);
        elf = with_words;
        add(&mut elf, Entrance::I386, "socketcall of AF_ALG", 102, &[1, at], REFUSED);
        add(&mut elf, Entrance::I386, "clone3", 435, &[], NOT_KNOWN);
        add(&mut elf, Entrance::I386, "1000", 1000, &[], NOT_KNOWN);
    }
    (elf, list)
}

#[test]
#[cfg(target_arch = "x86_64")]
fn forbidden_calls_are_refused_by_every_entrance() {
    let Some(env) = TestEnv::root() else { return };
    // Does this kernel have the 32-bit entrance at all? getpid(2) says so.
    let i386 = Elf::new().call(Entrance::I386, 20, &[]);
    payload(&env, "i386", &i386);
    let here = Command::new(env.path("payload/i386")).output().unwrap();
    let with_i386 = here.status.success() && Elf::results(&here.stdout).iter().all(|pid| *pid > 0);
    if !with_i386 {
        skip("the kernel has no 32-bit system calls: those were not tried");
    }
    let (elf, list) = attempts(with_i386);
    let volume = payload(&env, "calls", &elf);
    let name = env.name("calls");
    let flags = ["run", "--rm", "--network", "none", "-v", &volume, "--name", &name];
    let running = env.command(flags).arg(env.pulled_busybox()).args(["sleep", "60"]).start();
    env.eventually("the container runs", || env.run(["exec", &name, "true"]).status.success());
    let outcomes = [
        env.inside(["-v", &volume], &["/payload/calls"]).success(),
        env.inside(["-v", &volume, "-u", "1000"], &["/payload/calls"]).success(),
        env.inside(["-v", &volume, "--cap-add", "NET_ADMIN"], &["/payload/calls"]).success(),
        env.run(["exec", &name, "/payload/calls"]).success(),
        env.run(["exec", "-u", "1000", &name, "/payload/calls"]).success(),
    ];
    for outcome in &outcomes {
        let results = Elf::results(&outcome.stdout);
        assert_eq!(results.len(), list.len());
        for (result, Attempt { name, expected }) in results.iter().zip(&list) {
            let got = Errno::from_raw(-result);
            assert!(*result < 0 && expected.contains(&got), "{name}: {result} ({got:?})");
        }
    }
    env.run(["rm", "-f", &name]).success();
    running.finish();
    // The x32 ABI has the native numbers and one bit more; whoever uses it is killed.
    for (name, number, args) in
        [("getpid", 39, &[][..]), ("keyctl", 250, &[]), ("socket", 41, &[AF_ALG])]
    {
        payload(&env, name, &Elf::new().call(Entrance::X32, number, args));
        let run = env.inside(["-v", &volume], &[&format!("/payload/{name}")]);
        let result = Elf::results(&run.stdout).first().copied();
        assert!(
            run.status.code() == Some(128 + 31) || result.is_some_and(|it| it < 0),
            "x32 {name}"
        );
    }
    // Without the filter the same program gets further, so that what was tried was something.
    let open = ["-v", &volume, "--security-opt", "seccomp=unconfined", "-u", "1000"];
    let open = Elf::results(&env.inside(open, &["/payload/calls"]).success().stdout);
    let refused = open.iter().filter(|result| **result == -1 || **result == -38).count();
    assert!(refused < list.len() / 2, "{refused} of {} are refused anyway", list.len());
}

/// Lines of /proc/PID/status that tell processes apart, and nothing else.
const OWN_LINES: [&str; 15] = [
    "SigQ",
    "Tgid",
    "Ngid",
    "Pid",
    "PPid",
    "TracerPid",
    "FDSize",
    "NStgid",
    "NSpid",
    "NSpgid",
    "NSsid",
    "voluntary_ctxt_switches",
    "nonvoluntary_ctxt_switches",
    "x86_Thread_features",
    "x86_Thread_features_locked",
];

fn without_own(seen: &Value) -> BTreeMap<String, Value> {
    let status = seen["status"].as_object().unwrap();
    let told = |name: &&String| {
        let counts = ["Vm", "Rss", "Hugetlb"].iter().any(|start| name.starts_with(start));
        !counts && !OWN_LINES.contains(&name.as_str())
    };
    let mut kept: BTreeMap<_, _> =
        status.keys().filter(told).map(|name| (name.clone(), status[name].clone())).collect();
    for name in ["cgroup", "limits", "namespaces", "fds", "mounts"] {
        kept.insert(name.into(), seen[name].clone());
    }
    for name in ["uid", "gid", "euid", "egid", "groups", "umask"] {
        kept.insert(name.into(), seen["ids"][name].clone());
    }
    kept
}

/// S3, D-29, CVE-2022-29162, CVE-2022-36109: what enters has the powers of what was started, line by line.
#[test]
fn exec_gives_what_run_gave() {
    let Some(env) = TestEnv::root() else { return };
    let image = env.pulled_busybox();
    let ways: [&[&str]; 7] = [
        &[],
        &["-u", "alice"],
        &["--cap-drop", "ALL", "--cap-add", "CHOWN"],
        &["--security-opt", "no-new-privileges", "--group-add", "29"],
        &["--security-opt", "seccomp=unconfined", "--ulimit", "nofile=77:99"],
        &["--privileged"],
        &["--network", "host", "--pid", "host", "--ipc", "host"],
    ];
    for (number, flags) in ways.iter().enumerate() {
        let name = env.name(&format!("same{number}"));
        let out = env.path(format!("out{number}"));
        fs::create_dir(&out).unwrap();
        fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let volume = format!("{}:/out", out.display());
        let network: &[&str] =
            if flags.contains(&"--network") { &[] } else { &["--network", "none"] };
        let run = env.command(["run", "--rm", "--name", &name, "-v", &volume]).args(network);
        let script = "probe all >/out/new && mv /out/new /out/first; sleep 60";
        let running = run.args(*flags).arg(&image).args(["sh", "-c", script]).start();
        env.eventually("the first process tells", || out.join("first").exists());
        let first = serde_json::from_slice(&fs::read(out.join("first")).unwrap()).unwrap();
        let second = env.run(["exec", &name, "probe", "all"]).success().json();
        let (first, mut second) = (without_own(&first), without_own(&second));
        // The shell has its own; both are pipes of the test's.
        second.insert("fds".into(), first["fds"].clone());
        assert_eq!(first, second, "{flags:?}");
        assert_eq!(first["CapInh"], json!("0000000000000000"), "{flags:?}");
        env.run(["rm", "-f", &name]).success();
        running.finish();
    }
}

/// S4: blocked and ignored signals, groups, a file mode mask, descriptors and variables of the caller.
#[test]
fn a_strange_caller_makes_no_strange_container() {
    let needs = [Need::Root, Need::Program("setpriv", "util-linux")];
    let Some(env) = TestEnv::with(&needs) else { return };
    let image = env.pulled_busybox();
    let (name, id) = (env.name("plain"), env.name("bundle"));
    let run = env.command(["run", "--rm", "--network", "none", "--name", &name, &image]);
    let running = run.args(["sleep", "60"]).start();
    env.eventually("the container runs", || env.run(["exec", &name, "true"]).status.success());
    let bundle = env.bundle(|config| config["process"]["args"] = json!(["probe", "all"]));
    let (root, runroot) = (env.store(), env.runroot());
    let main = ["--root", root.to_str().unwrap(), "--runroot", runroot.to_str().unwrap()];
    let oci = ["oci", "--root", runroot.to_str().unwrap()];
    let ways: [Vec<&str>; 3] = [
        [&main[..], &["run", "--rm", "--network", "none", &image, "probe", "all"]].concat(),
        [&main[..], &["exec", &name, "probe", "all"]].concat(),
        [&oci[..], &["run", "--bundle", bundle.to_str().unwrap(), &id]].concat(),
    ];
    let script = "umask 077; exec 7</etc/passwd 9>/dev/null; \
        exec setpriv --groups 4,27,1000 --inh-caps +net_admin,+sys_admin --ambient-caps +net_admin \
        env --block-signal --ignore-signal=HUP,INT,QUIT,USR1,TERM,CHLD,PIPE,RTMIN \
        HOST_SECRET=x LD_PRELOAD=/evil.so \"$@\"";
    for way in ways {
        let told = |run: Finished| {
            let seen = run.success().json();
            let mut kept = without_own(&seen);
            kept.insert("env".into(), seen["env"].clone());
            kept.insert("descriptors".into(), json!(seen["fds"].as_object().unwrap().len()));
            // Each run has a host name, pipes and namespaces of its own.
            ["fds", "namespaces", "mounts"].iter().for_each(|name| drop(kept.remove(*name)));
            kept.values_mut().filter_map(|value| value.as_object_mut()).for_each(|env| {
                env.remove("HOSTNAME");
            });
            kept
        };
        let plain =
            told(env.other("env", [] as [&str; 0]).arg(integration::program()).args(&way).run());
        let strange = env.other("bash", ["-c", script, "bash"]).arg(integration::program());
        assert_eq!(plain, told(strange.args(&way).run()), "{way:?}");
        for set in ["SigBlk", "CapInh", "CapAmb"] {
            assert_eq!(plain[set], json!("0000000000000000"), "{set}");
        }
        // SIGPIPE, which the probe ignores itself, as Rust has it.
        assert_eq!(plain["SigIgn"], json!("0000000000001000"));
        assert_eq!(plain["descriptors"], json!(3));
    }
    env.run(["rm", "-f", &name]).success();
    running.finish();
}

/// D-35: each process is in a session keyring of its own, not in its caller's.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_callers_keyring_stays_outside() {
    let Some(env) = TestEnv::root() else { return };
    // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)
    let elf = Elf::new().call(Entrance::Native, 250, &[0, u64::from((-3_i32).cast_unsigned()), 0]);
    let volume = payload(&env, "keyring", &elf);
    let serial = |output: &[u8]| Elf::results(output).first().copied().unwrap();
    let host = serial(&Command::new(env.path("payload/keyring")).output().unwrap().stdout);
    let open = ["-v", &volume, "--security-opt", "seccomp=unconfined"];
    let inside = serial(&env.inside(open, &["/payload/keyring"]).success().stdout);
    let name = env.name("keyring");
    let run = env.command(["run", "--rm", "--network", "none", "--name", &name]).args(open);
    let running = run.arg(env.pulled_busybox()).args(["sleep", "60"]).start();
    env.eventually("the container runs", || env.run(["exec", &name, "true"]).status.success());
    let entered = serial(&env.run(["exec", &name, "/payload/keyring"]).success().stdout);
    env.run(["rm", "-f", &name]).success();
    running.finish();
    assert!(inside > 0 && entered > 0, "{inside} {entered}");
    assert!(host != inside && host != entered, "the host's keyring {host}: {inside} {entered}");
}

/// D-31, CVE-2022-0492: no file of the cgroup filesystem can be written from inside.
#[test]
fn nothing_of_the_cgroup_filesystem_is_writable() {
    let Some(env) = TestEnv::root() else { return };
    let find = ["find", "/sys/fs/cgroup", "-type", "f"];
    let files = env.inside([] as [&str; 0], &find).success().text();
    let words: Vec<_> = files.lines().map(|file| format!("write={file}")).collect();
    assert!(words.len() > 10, "there is something to be written");
    let words: Vec<_> = ["try"].into_iter().chain(words.iter().map(String::as_str)).collect();
    for flags in [&[][..], &["--cap-add", "SYS_ADMIN"]] {
        let outcome = env.probe(flags, &words);
        for (file, outcome) in outcome.as_object().unwrap() {
            // Some nobody can write; none says yes.
            assert!(["EROFS", "EACCES"].contains(&outcome.as_str().unwrap()), "{file}: {outcome}");
        }
    }
}

/// D-31: a cgroup path does not lead out of where containers live.
#[test]
fn a_cgroup_path_goes_down_only() {
    let Some(env) = TestEnv::root() else { return };
    let token = env.token().to_owned();
    for path in [
        format!("/../../{token}-up"),
        format!("/a/../../../tmp/{token}-up"),
        format!("../{token}-up"),
        format!("/./../{token}-up"),
    ] {
        let bundle = env.bundle(|config| config["linux"]["cgroupsPath"] = json!(path));
        env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("up")])
            .failure()
            .stderr_has("..");
        fs::remove_dir_all(bundle).unwrap();
    }
    env.traces().nothing_lives();
    let bundle = env.bundle(|config| config["process"]["args"] = json!(["sleep", "60"]));
    let id = env.name("below");
    let running = env.oci_command(["run", "--bundle", bundle.to_str().unwrap(), &id]).start();
    env.eventually("it runs", || env.oci(["exec", &id, "true"]).status.success());
    for path in ["..", "../..", "a/../../b", "/.."] {
        env.oci(["exec", "--cgroup", path, &id, "true"]).failure().stderr_has("..");
    }
    env.oci(["delete", "--force", &id]).success();
    running.finish();
}

/// Runs a bundle whose configuration somebody changed; it must not start.
#[track_caller]
fn refused(env: &TestEnv, what: &str, change: impl FnOnce(&mut Value)) {
    let bundle = env.bundle(|config| {
        config["process"]["args"] = json!(["echo", "it ran"]);
        change(config);
    });
    let run = env.oci_command(["run", "--bundle", bundle.to_str().unwrap(), &env.name("refused")]);
    let run = run.limit(Duration::from_secs(15)).run();
    assert!(!run.text().contains("it ran"), "{what} was started: {}", run.error());
    run.failure();
    fs::remove_dir_all(bundle).unwrap();
}

/// D-32, CVE-2022-0811: settings of the host, however they are spelled.
#[test]
fn settings_of_the_host_are_refused() {
    let Some(env) = TestEnv::root() else { return };
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let evil = "|/evil";
    for name in [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "kernel.shm_rmid_forced/../core_pattern",
        "net/../kernel/core_pattern",
        "net.....kernel.core_pattern",
        "net./.kernel.core_pattern",
        "fs/mqueue/../../kernel/core_pattern",
        "/kernel/core_pattern",
        "vm.drop_caches",
        "kernel.modprobe",
        "user.max_user_namespaces",
        "kernel.ns_last_pid",
        "net",
        "net.",
        "",
        "kernel.shmmax+kernel.core_pattern",
        "fs.mqueue.msg_max\0",
    ] {
        refused(&env, name, |config| config["linux"]["sysctl"] = json!({name: evil}));
    }
    // Of a namespace that is not this container's own.
    for (kind, name) in [
        ("network", "net.ipv4.ip_forward"),
        ("ipc", "kernel.shmmax"),
        ("ipc", "fs.mqueue.msg_max"),
        ("uts", "kernel.domainname"),
    ] {
        let file = format!("/proc/self/ns/{}", if kind == "network" { "net" } else { kind });
        let namespaces = |config: &mut Value, change: &dyn Fn(&mut Vec<Value>)| {
            change(config["linux"]["namespaces"].as_array_mut().unwrap());
            config["linux"]["sysctl"] = json!({name: "1"});
            config.as_object_mut().unwrap().remove("hostname");
        };
        let is_it = |namespace: &Value| namespace["type"] == json!(kind);
        refused(&env, name, |config| namespaces(config, &|list| list.retain(|it| !is_it(it))));
        refused(&env, name, |config| {
            namespaces(config, &|list| {
                for namespace in list.iter_mut().filter(|it| is_it(it)) {
                    namespace["path"] = json!(file);
                }
            });
        });
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    env.traces().nothing_lives();
}

/// D-33: what is joined is a namespace, and of the kind that was asked for; nothing hangs.
#[test]
fn only_namespaces_can_be_joined() {
    let Some(env) = TestEnv::root() else { return };
    let fifo = env.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let file = env.file("file", "");
    symlink("fifo", env.path("link")).unwrap();
    let link = env.path("link");
    for path in [
        fifo.to_str().unwrap(),
        file.to_str().unwrap(),
        link.to_str().unwrap(),
        "/",
        "/proc/self/ns",
        "/proc/self/status",
        "/dev/null",
        "/dev/zero",
        "/nowhere",
        "/proc/self/ns/uts",
        "/proc/self/ns/pid_for_children",
        "relative",
    ] {
        refused(&env, path, |config| {
            let list = config["linux"]["namespaces"].as_array_mut().unwrap();
            list.retain(|namespace| namespace["type"] != json!("network"));
            list.push(json!({"type": "network", "path": path}));
        });
    }
    type Change = fn(&mut Vec<Value>);
    let lists: [(&str, Change); 4] = [
        ("twice", |list| list.push(json!({"type": "pid"}))),
        ("twice, once by path", |list| {
            list.push(json!({"type": "network", "path": "/proc/self/ns/net"}));
        }),
        ("unknown", |list| list.push(json!({"type": "everything"}))),
        ("no type", |list| list.push(json!({}))),
    ];
    for (what, change) in lists {
        let list = |config: &mut Value| {
            change(config["linux"]["namespaces"].as_array_mut().unwrap());
        };
        refused(&env, what, list);
    }
    let map = |inside: u64, host: u64, size: u64| json!({"containerID": inside, "hostID": host, "size": size});
    for (what, maps) in [
        ("no maps", json!([])),
        ("an empty map", json!([map(0, 1000, 0)])),
        ("overlapping", json!([map(0, 1000, 10), map(5, 2000, 10)])),
        ("overlapping on the host", json!([map(0, 1000, 10), map(20, 1005, 10)])),
        ("overflowing", json!([map(0, 4_294_967_295, 10)])),
        ("larger than an id", json!([map(4_294_967_296, 0, 1)])),
    ] {
        refused(&env, what, |config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            config["linux"]["uidMappings"] = maps.clone();
            config["linux"]["gidMappings"] = maps;
        });
    }
    env.traces().nothing_lives();
}

/// D-25, CVE-2019-16884, CVE-2025-52881: settings are written to a procfs, or not at all.
#[test]
fn a_procfs_that_is_covered_is_not_believed() {
    let needs = [Need::Root, Need::Program("unshare", "util-linux")];
    let Some(env) = TestEnv::with(&needs) else { return };
    let bundle = env.bundle(|config| {
        config["process"]["args"] = json!(["echo", "it ran"]);
        config["process"]["oomScoreAdj"] = json!(500);
        config["linux"]["sysctl"] = json!({"kernel.domainname": "1"});
    });
    let (bundle, id) = (bundle.to_str().unwrap().to_owned(), env.name("covered"));
    let run = |cover: &str| {
        let script = format!("{cover} && exec \"$@\"");
        let sh =
            env.other("unshare", ["-m", "sh", "-c", &script, "sh"]).args(integration::runtime());
        let run = sh.arg("--root").arg(env.runroot()).args(["run", "--bundle", &bundle, &id]);
        run.limit(Duration::from_secs(15)).run()
    };
    run("true").success().stdout("it ran\n");
    for cover in [
        "mount -t tmpfs t /proc/sys && mkdir /proc/sys/kernel && touch /proc/sys/kernel/domainname",
        "mount -t tmpfs t /proc/sys/kernel && touch /proc/sys/kernel/domainname",
        "touch cover && mount --bind cover /proc/sys/kernel/domainname",
        "mount --bind /proc/sys/kernel/core_pattern /proc/sys/kernel/domainname",
        "mount --bind /proc/sys /proc",
        "mount -t tmpfs t /proc",
    ] {
        let run = run(cover);
        assert!(!run.text().contains("it ran"), "{cover}: {}", run.error());
        run.failure();
    }
    assert_ne!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap().trim(), "1");
    assert_eq!(
        fs::read_to_string(env.path("cover")).unwrap(),
        "",
        "a file was taken for a setting"
    );
    env.traces().nothing_lives();
}

/// D-24, D-27: an image whose /dev is a link to a volume gets no nodes made in it.
#[test]
fn devices_are_not_made_in_a_volume() {
    let Some(env) = TestEnv::root() else { return };
    for name in ["null", "zero", "ptmx", "console", "net/tun"] {
        env.file(&format!("canary/{name}"), "a file of the host");
    }
    let canary = Canary::plant(&env);
    let mut image = images::busybox();
    image.layers.push(Layer::of(&[Entry::symlink("dev", "/data")]));
    let name = images::registry().push("confinement/dev:1", &image.build());
    let volume = format!("{}:/data", canary.directory().display());
    let run = env.run(["run", "--rm", "--network", "none", "-v", &volume, &name, "true"]);
    run.code(125).stderr_has("/dev is a link or a file");
    canary.sings();
    // As a bundle without a /dev of its own, and a deeper place.
    for (device, link) in [("/dev/net/tun", "net"), ("/dev/null", "")] {
        let bundle = env.bundle(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|it| !it["destination"].as_str().unwrap().starts_with("/dev"));
            let source = canary.directory();
            mounts.push(json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind"]}));
            config["root"]["readonly"] = json!(false);
            config["process"]["args"] = json!(["true"]);
            config["linux"]["devices"] =
                json!([{"path": device, "type": "c", "major": 1, "minor": 3}]);
        });
        let rootfs = bundle.join("rootfs");
        fs::create_dir(rootfs.join("data")).unwrap();
        if link.is_empty() {
            fs::remove_dir(rootfs.join("dev")).unwrap();
            symlink("/data", rootfs.join("dev")).unwrap();
        } else {
            symlink(format!("/data/{link}"), rootfs.join("dev").join(link)).unwrap();
        }
        env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("dev")]).failure();
        canary.sings();
    }
}

/// D-24: a user namespace's devices are bound over files; a FIFO in their place is not waited for.
#[test]
fn a_fifo_in_the_place_of_a_device_is_not_opened() {
    let Some(env) = TestEnv::root() else { return };
    let bundle = env.bundle(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|it| !it["destination"].as_str().unwrap().starts_with("/dev"));
        config["root"]["readonly"] = json!(false);
        config["process"]["args"] = json!(["stat", "-c", "%t:%T", "/dev/null"]);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        for kind in ["uidMappings", "gidMappings"] {
            config["linux"][kind] = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        }
    });
    let null = bundle.join("rootfs/dev/null");
    nix::unistd::mkfifo(&null, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let run = env.oci_command(["run", "--bundle", bundle.to_str().unwrap(), &env.name("fifo")]);
    run.limit(Duration::from_secs(15)).run().success().stdout("1:3\n");
}

/// D-24: what may be shown at /proc, at /sys and below a procfs, under any name.
#[test]
fn the_kernels_directories_show_the_kernel_only() {
    let Some(env) = TestEnv::root() else { return };
    let source = env.path("fake");
    fs::create_dir_all(source.join("attr")).unwrap();
    for (kind, from, place) in [
        ("bind", source.to_str().unwrap(), "/proc"),
        ("bind", source.to_str().unwrap(), "/sys"),
        ("bind", source.to_str().unwrap(), "/proc/self/attr"),
        ("bind", source.to_str().unwrap(), "/proc/../proc"),
        ("bind", source.to_str().unwrap(), "/other/sys"),
        ("bind", "/sys", "/proc"),
        ("tmpfs", "tmpfs", "/proc"),
        ("tmpfs", "tmpfs", "/sys"),
        ("tmpfs", "tmpfs", "/proc/sys"),
        ("tmpfs", "tmpfs", "/by-link/attr"),
        ("cgroup", "cgroup", "/proc"),
    ] {
        let bundle = env.bundle(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/other", "type": "proc", "source": "proc"}));
            let options = if kind == "bind" { json!(["rbind"]) } else { json!([]) };
            mounts.push(
                json!({"destination": place, "type": kind, "source": from, "options": options}),
            );
            config["process"]["args"] = json!(["echo", "it ran"]);
            config["root"]["readonly"] = json!(false);
        });
        symlink("/proc/self", bundle.join("rootfs/by-link")).unwrap();
        let run = env.oci(["run", "--bundle", bundle.to_str().unwrap(), &env.name("kernel")]);
        assert!(!run.text().contains("it ran"), "{from} at {place}");
        run.failure();
    }
}

/// D-36: a state that names another process, as a reused number would, reaches nobody.
#[test]
fn a_reused_process_number_is_not_mistaken() {
    let Some(env) = TestEnv::root() else { return };
    let mut innocent = Command::new("sleep").arg("100").spawn().unwrap();
    let real =
        |env: &TestEnv| env.bundle(|config| config["process"]["args"] = json!(["sleep", "60"]));
    type Change = fn(&mut Value, u32);
    let changes: [(&str, Change); 3] = [
        ("start", |init, pid| init["pid"] = json!(pid)),
        ("boot", |init, _| init["boot_id"] = json!("another")),
        ("time", |init, _| init["start_time"] = json!(init["start_time"].as_u64().unwrap() + 1)),
    ];
    for (what, change) in changes {
        let (bundle, id) = (real(&env), env.name(what));
        let running = env.oci_command(["run", "--bundle", bundle.to_str().unwrap(), &id]).start();
        env.eventually("it runs", || env.oci(["exec", &id, "true"]).status.success());
        let file = env.runroot().join(&id).join("init.json");
        let mut init: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        change(&mut init, innocent.id());
        fs::write(&file, init.to_string()).unwrap();
        env.oci(["kill", &id, "KILL"]).failure();
        env.oci(["exec", &id, "true"]).failure();
        let state = env.oci(["state", &id]).success().json();
        assert_eq!(state["status"], json!("stopped"), "{what}");
        env.oci(["delete", "--force", &id]).success();
        running.finish();
        assert!(innocent.try_wait().unwrap().is_none(), "{what}: somebody else was killed");
    }
    innocent.kill().unwrap();
    innocent.wait().unwrap();
    env.traces().nothing_lives();
}

/// S9: what was made for a container that failed at any place is gone again.
#[test]
fn a_container_that_fails_late_leaves_nothing() {
    let Some(env) = TestEnv::root() else { return };
    type Change = fn(&mut Value);
    let late: [(&str, Change); 5] = [
        ("program", |config| config["process"]["args"] = json!(["no-such-program"])),
        ("directory", |config| config["process"]["cwd"] = json!("/etc/passwd/x")),
        ("mount", |config| {
            let mount = json!({"destination": "/x", "type": "bind", "source": "/nowhere", "options": ["bind"]});
            config["mounts"].as_array_mut().unwrap().push(mount);
        }),
        ("limit", |config| {
            config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 1}]);
        }),
        ("hook", |config| {
            config["hooks"] = json!({"startContainer": [{"path": "/bin/false"}]});
        }),
    ];
    for (what, change) in late {
        let bundle = env.bundle(change);
        for verb in ["run", "create"] {
            let id = env.name(what);
            let run = env.oci([verb, "--bundle", bundle.to_str().unwrap(), &id]);
            assert!(!run.status.success() || verb == "create" && what == "hook", "{what}");
            env.oci(["delete", "--force", &id]).success();
            env.traces().nothing_lives();
        }
    }
    assert!(Path::new("/proc/self").exists());
}
