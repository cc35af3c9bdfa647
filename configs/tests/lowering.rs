//! Every sample, lowered: `samples/NAME.json` in, `tests/lowered/NAME.json` out. `UPDATE_GOLDEN=1` writes
//! the latter anew, for a person to read what changed.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use configs::{
    CgroupDriver, Problem, Spec,
    nsinit::{self, Invocation, ProcessFlags},
    oci,
};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn samples() -> Vec<(String, String)> {
    let mut samples: Vec<(String, String)> = fs::read_dir(directory("samples"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    samples.sort();
    samples
}

fn invocation() -> Invocation {
    Invocation {
        directory: "/bundle".into(),
        unique_name: "unique".to_owned(),
        caller: (1000, 1000),
        process: ProcessFlags { args: vec!["sh".to_owned()], ..ProcessFlags::default() },
        ..Invocation::default()
    }
}

fn lower(name: &str, text: &str) -> (Spec, Vec<Problem>) {
    let lowered = if name.starts_with("oci") {
        let directory = Path::new("/bundle");
        let bundle = oci::Bundle { directory, id: "unique", driver: CgroupDriver::Cgroupfs };
        oci::parse(text, bundle)
    } else {
        nsinit::parse(text, &invocation())
    };
    let lowered = lowered.unwrap_or_else(|problems| panic!("{name}: {problems}"));
    (lowered.value, lowered.warnings)
}

#[test]
fn samples_lower_to_what_they_always_did() {
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let mut different = Vec::new();
    for (name, text) in samples() {
        let (spec, warnings) = lower(&name, &text);
        let notes: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let document = serde_json::json!({ "spec": spec, "warnings": notes });
        let lowered = format!("{document:#}\n");
        let golden = directory("tests/lowered").join(format!("{name}.json"));
        if update {
            fs::write(golden, lowered).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != lowered {
            different.push(name);
        }
    }
    assert!(different.is_empty(), "{different:?}: look at the change, then UPDATE_GOLDEN=1");
}

#[test]
fn every_sample_can_be_written_as_config_json_and_means_the_same() {
    for (name, text) in samples() {
        let (mut spec, _) = lower(&name, &text);
        let written = oci::write(&spec).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        let (mut again, _) = lower("oci", &written.value);
        // What config.json cannot say was a warning each; the rest is the same.
        let said = |spec: &mut Spec| {
            spec.interfaces.clear();
            spec.routes.clear();
            spec.parent_death_signal = 0;
            spec.no_pivot = false;
            for mount in &mut spec.mounts {
                mount.before.clear();
                mount.after.clear();
                mount.relabel = None;
            }
            if let Some(process) = &mut spec.process {
                process.user = configs::User::default();
            }
            // Other runtimes make the usual devices and allow them without being asked.
            spec.devices.retain(|device| device.path.starts_with("/nowhere"));
            if let Some(cgroup) = &mut spec.cgroup {
                cgroup.resources.devices.clear();
            }
        };
        if spec.cgroup.is_none() {
            again.cgroup = None;
        }
        said(&mut spec);
        said(&mut again);
        assert_eq!(again, spec, "{name}");
    }
}
