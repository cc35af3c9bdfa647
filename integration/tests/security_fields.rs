//! D-37, never silently weaker: a field with security meaning that cannot be understood or honoured stops the
//! container, whatever is wrong with it. One change per case, to a configuration that otherwise starts.

use std::{cell::RefCell, fs};

use integration::TestEnv;
use serde_json::{Value, json};

/// Values no such field takes. `null` is not among them: it means that there is none.
fn wrong_for(kind: &str) -> Vec<Value> {
    let all = [
        ("bool", json!(true)),
        ("number", json!(7)),
        ("text", json!("surely-not")),
        ("words", json!(["surely-not"])),
        ("numbers", json!([7])),
        ("map", json!({"surely": "not"})),
        ("nested", json!([[]])),
        ("fraction", json!(0.5)),
        ("negative", json!(-1)),
        ("huge", json!(18_446_744_073_709_551_615_u64)),
    ];
    all.into_iter().filter(|(of, _)| !kind.split('|').any(|it| it == *of)).map(|(_, v)| v).collect()
}

/// Fields and what kinds of value could be right for each. Unknown keys are ignored, as the specification wants,
/// and a list of the right values is as good as a map of them.
const FIELDS: [(&str, &str); 38] = [
    ("/process", "map"),
    ("/process/noNewPrivileges", "bool"),
    ("/process/terminal", "bool"),
    ("/process/user", "map"),
    ("/process/user/uid", "number"),
    ("/process/user/gid", "number"),
    ("/process/user/additionalGids", "numbers"),
    ("/process/user/umask", "number"),
    ("/process/capabilities", "map"),
    ("/process/capabilities/bounding", "words"),
    ("/process/capabilities/effective", "words"),
    ("/process/capabilities/permitted", "words"),
    ("/process/capabilities/inheritable", "words"),
    ("/process/capabilities/ambient", "words"),
    ("/process/rlimits", "none"),
    ("/process/apparmorProfile", "none"),
    ("/process/selinuxLabel", "none"),
    ("/process/oomScoreAdj", "number|negative"),
    ("/root", "none"),
    ("/root/readonly", "bool"),
    ("/mounts", "none"),
    ("/mounts/0/options", "none"),
    ("/linux", "none"),
    ("/linux/namespaces", "none"),
    ("/linux/namespaces/0/type", "none"),
    ("/linux/maskedPaths", "none"),
    ("/linux/readonlyPaths", "none"),
    ("/linux/seccomp", "none"),
    ("/linux/seccomp/defaultAction", "none"),
    ("/linux/seccomp/architectures", "none"),
    ("/linux/seccomp/syscalls", "none"),
    ("/linux/resources", "map"),
    ("/linux/resources/devices", "none"),
    ("/linux/resources/devices/0/allow", "bool"),
    ("/linux/resources/memory", "map"),
    ("/linux/resources/pids", "map|numbers"),
    ("/linux/sysctl", "none"),
    ("/linux/rootfsPropagation", "none"),
];

/// Puts a value where the pointer says, making what leads there.
fn put(document: &mut Value, pointer: &str, value: Value) {
    let mut here = document;
    for part in pointer.split('/').skip(1) {
        here = match part.parse::<usize>() {
            Ok(index) => &mut here[index],
            Err(_) => &mut here[part],
        };
    }
    *here = value;
}

/// A bundle to change again and again.
struct Bundle {
    env: TestEnv,
    path: String,
    good: Value,
    /// What was started all the same.
    started: RefCell<Vec<String>>,
}

impl Bundle {
    fn new() -> Option<Self> {
        let env = TestEnv::root()?;
        let mut good = Value::Null;
        let path = env.bundle(|config| {
            config["process"]["args"] = json!(["echo", "it ran"]);
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}],
            });
            good = config.clone();
        });
        let path = path.to_str().unwrap().to_owned();
        let bundle = Self { env, path, good, started: RefCell::default() };
        bundle.run(&bundle.good.to_string()).0.then_some(bundle)
    }

    /// Whether it ran, and what was said.
    fn run(&self, config: &str) -> (bool, String) {
        fs::write(format!("{}/config.json", self.path), config).unwrap();
        let run = self.env.oci(["run", "--bundle", &self.path, &self.env.name("field")]);
        let ran = run.text().contains("it ran");
        let said = run.error();
        if !ran {
            run.failure();
        }
        (ran, said)
    }

    fn must_refuse(&self, config: &str, what: &str) {
        let (ran, said) = self.run(config);
        if ran {
            self.started.borrow_mut().push(format!("{what} {said}"));
        }
    }

    /// Everything was refused, and nothing is left of it.
    #[track_caller]
    fn has_refused_all(&self) {
        let started = self.started.borrow();
        assert!(started.is_empty(), "started all the same: {started:#?}");
        self.env.traces().nothing_lives();
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_refused() {
    let Some(bundle) = Bundle::new() else { return };
    for (pointer, kind) in FIELDS {
        for value in wrong_for(kind) {
            let mut config = bundle.good.clone();
            put(&mut config, pointer, value.clone());
            bundle.must_refuse(&config.to_string(), &format!("{pointer} = {value}"));
        }
    }
    bundle.has_refused_all();
}

#[test]
fn an_unknown_word_is_refused() {
    let Some(bundle) = Bundle::new() else { return };
    let seccomp = |change: Value| {
        let mut seccomp = bundle.good["linux"]["seccomp"].clone();
        let (seccomp_map, change) = (seccomp.as_object_mut().unwrap(), change);
        seccomp_map.extend(change.as_object().unwrap().clone());
        seccomp
    };
    let call = |change: Value| {
        let mut call = json!({"names": ["reboot"], "action": "SCMP_ACT_ERRNO"});
        call.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        seccomp(json!({"syscalls": [call]}))
    };
    let argument = |change: Value| {
        let mut argument = json!({"index": 0, "value": 1, "op": "SCMP_CMP_EQ"});
        argument.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        call(json!({"args": [argument]}))
    };
    let mount = |options: Value| json!([{"destination": "/tmp", "type": "bind", "source": "/tmp", "options": options}]);
    for (pointer, value) in [
        ("/process/rlimits", json!([{"type": "RLIMIT_OF_MINE", "soft": 1, "hard": 1}])),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}])),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 1}]),
        ),
        ("/process/user/uid", json!(4_294_967_295_u64)),
        ("/process/user/additionalGids", json!([4_294_967_296_u64])),
        ("/process/oomScoreAdj", json!(1001)),
        ("/process/cwd", json!("relative")),
        ("/process/env", json!(["A\u{0}B=1"])),
        ("/process/args", json!(["echo", "it ran\u{0}"])),
        ("/process/apparmorProfile", json!("no-such-profile-of-ours")),
        ("/process/selinuxLabel", json!("no_u:such_r:label_t:s0")),
        ("/process/scheduler", json!({"policy": "SCHED_OF_MINE"})),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_OF_MINE", "priority": 1})),
        ("/linux/rootfsPropagation", json!("sharedly")),
        ("/linux/maskedPaths", json!(["relative"])),
        ("/linux/readonlyPaths", json!(["relative"])),
        ("/linux/seccomp", json!({})),
        ("/linux/seccomp", seccomp(json!({"defaultAction": "SCMP_ACT_OF_MINE"}))),
        ("/linux/seccomp", seccomp(json!({"architectures": ["SCMP_ARCH_OF_MINE"]}))),
        ("/linux/seccomp", seccomp(json!({"flags": ["SECCOMP_FILTER_FLAG_OF_MINE"]}))),
        ("/linux/seccomp", call(json!({"action": "SCMP_ACT_OF_MINE"}))),
        ("/linux/seccomp", call(json!({"action": "SCMP_ACT_NOTIFY"}))),
        ("/linux/seccomp", call(json!({"names": []}))),
        ("/linux/seccomp", call(json!({"errnoRet": -5}))),
        ("/linux/seccomp", argument(json!({"op": "SCMP_CMP_OF_MINE"}))),
        ("/linux/seccomp", argument(json!({"index": 6}))),
        ("/linux/seccomp", argument(json!({"value": -1}))),
        ("/linux/resources/devices", json!([{"allow": true, "type": "x", "access": "rwm"}])),
        ("/linux/resources/devices", json!([{"allow": false, "access": "everything"}])),
        ("/linux/resources/memory", json!({"limit": "1g"})),
        ("/linux/resources/pids", json!({"limit": "many"})),
        ("/linux/personality", json!({"domain": "LINUX_OF_MINE"})),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "x", "major": 1, "minor": 3}])),
        ("/linux/devices", json!([{"path": "relative", "type": "c", "major": 1, "minor": 3}])),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 3}])),
        ("/linux/timeOffsets", json!({"of-mine": {"secs": 1}})),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 1}})),
        ("/mounts", mount(json!(["rbind", "readonly"]))),
        ("/mounts", mount(json!(["rbind", "no-suid"]))),
        ("/mounts", mount(json!(["rbind", "RO"]))),
        ("/hooks", json!({"prestart": [{"args": ["no-path"]}]})),
        ("/hooks", json!({"createRuntime": [{"path": "relative"}]})),
    ] {
        let mut config = bundle.good.clone();
        put(&mut config, pointer, value.clone());
        bundle.must_refuse(&config.to_string(), &format!("{pointer} = {value}"));
    }
    bundle.has_refused_all();
}

/// Which of two counts depends on who reads them: then neither does.
#[test]
fn a_field_that_appears_twice_is_refused() {
    let Some(bundle) = Bundle::new() else { return };
    let text = bundle.good.to_string();
    for (field, again) in [
        ("\"noNewPrivileges\":true", "\"noNewPrivileges\":true,\"noNewPrivileges\":false"),
        ("\"readonly\":true", "\"readonly\":true,\"readonly\":false"),
        ("\"maskedPaths\":", "\"maskedPaths\":[],\"maskedPaths\":"),
        ("\"seccomp\":", "\"seccomp\":null,\"seccomp\":"),
        ("\"user\":{\"gid\":0,\"uid\":0}", "\"user\":{\"gid\":0,\"uid\":0,\"uid\":1}"),
        ("\"namespaces\":", "\"namespaces\":[],\"namespaces\":"),
    ] {
        assert!(text.contains(field), "{field}");
        bundle.must_refuse(&text.replacen(field, again, 1), again);
    }
    bundle.has_refused_all();
}

/// A capability nobody knows widens nothing, and is said (D-29).
#[test]
fn an_unknown_capability_is_warned_of_and_left_out() {
    let Some(bundle) = Bundle::new() else { return };
    let mut config = bundle.good.clone();
    config["process"]["args"] = json!(["sh", "-c", "echo it ran; grep Cap /proc/self/status"]);
    let list = json!(["CAP_KILL", "CAP_OF_MINE", "cap_chown"]);
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = list.clone();
    }
    fs::write(format!("{}/config.json", bundle.path), config.to_string()).unwrap();
    let run = bundle.env.oci(["run", "--bundle", &bundle.path, &bundle.env.name("capability")]);
    assert!(run.error().contains("CAP_OF_MINE"), "{}", run.error());
    if run.status.success() {
        // CAP_KILL is 5, CAP_CHOWN 0.
        let sets: Vec<u64> = (run.text().lines().skip(1))
            .filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok())
            .collect();
        assert!(sets.iter().all(|set| set & !0x21 == 0), "{}", run.text());
    }
}
