//! OCI bundles: a directory with a root filesystem and a `config.json`.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::TestEnv;

/// Makes a bundle whose configuration is the usual one, changed by the caller.
pub(crate) fn make(env: &TestEnv, change: impl FnOnce(&mut Value)) -> PathBuf {
    let bundle = (0..)
        .map(|number| env.path(format!("bundle{number}")))
        .find(|path| !path.exists())
        .expect("numbers do not end");
    fs::create_dir(&bundle).expect("a directory of ours");
    let name = bundle.file_name().expect("it has one").to_string_lossy().into_owned();
    env.rootfs(&format!("{name}/rootfs"));
    let mut config = usual();
    // The cgroup bears the test's token, so that what stays behind can be attributed.
    config["linux"]["cgroupsPath"] = json!(format!("/{}-{name}", env.token()));
    change(&mut config);
    let text = serde_json::to_string_pretty(&config).expect("a document of ours");
    fs::write(bundle.join("config.json"), text).expect("a file of ours");
    bundle
}

/// What engines write: five namespaces, the usual mounts, devices denied, few capabilities.
pub fn usual() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["probe", "all"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}, {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}
