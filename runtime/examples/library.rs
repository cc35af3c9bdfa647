//! A container without a bundle: a Spec of our own making, and descriptors of our own as its stdio.
//!
//! ```text
//! cargo run -p runtime --example library -- DIRECTORY PROGRAM [ARGUMENT...]
//! ```

use std::{env, error::Error, path::PathBuf, process::ExitCode};

use configs::{AttrFlags, Filesystem, Mount, MountSource, Namespace, NamespaceKind, Process, Spec};
use runtime::{Containers, bootstrap, foreground};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // Only needed by programs that start containers while they have threads.
    if let Some(status) = bootstrap::run_if_requested() {
        return Ok(ExitCode::from(status.code()));
    }
    let mut args = env::args().skip(1);
    let directory = args.next().ok_or("which directory?")?;
    let args: Vec<String> = args.collect();

    let spec = spec(directory.into(), args)?;
    let containers = Containers::open(&env::temp_dir().join("library-example"))?;
    let id = format!("library-{}", std::process::id()).parse()?;
    let options = foreground::Options::default();
    let status = foreground::run(&containers, &id, &spec, options)?;
    Ok(ExitCode::from(status.code()))
}

fn spec(directory: PathBuf, args: Vec<String>) -> Result<Spec, Box<dyn Error>> {
    let mut spec = Spec {
        process: Some(Process {
            args,
            env: vec!["PATH=/usr/bin:/bin".into()],
            cwd: "/".into(),
            no_new_privileges: true,
            ..Process::default()
        }),
        hostname: Some("library".into()),
        mounts: vec![procfs()],
        masked_paths: vec!["/proc/kcore".into(), "/proc/acpi".into()],
        read_only_paths: vec!["/proc/sys".into()],
        ..Spec::default()
    };
    spec.root.path = directory;
    spec.root.read_only = true;
    for kind in [
        NamespaceKind::Pid,
        NamespaceKind::Mount,
        NamespaceKind::Uts,
        NamespaceKind::Ipc,
        NamespaceKind::Network,
    ] {
        spec.namespaces
            .insert(Namespace { kind, join: None })
            .map_err(|twice| format!("{:?} is listed twice", twice.kind))?;
    }
    Ok(spec)
}

fn procfs() -> Mount {
    Mount {
        destination: "/proc".into(),
        source: MountSource::Filesystem(Filesystem {
            kind: "proc".into(),
            source: "proc".into(),
            ..Filesystem::default()
        }),
        set: AttrFlags::NOSUID.union(AttrFlags::NODEV).union(AttrFlags::NOEXEC),
        clear: AttrFlags::default(),
        set_recursive: AttrFlags::default(),
        clear_recursive: AttrFlags::default(),
        propagation: None,
        id_map: None,
        copy_up: false,
        no_follow: false,
        relabel: None,
        before: Vec::new(),
        after: Vec::new(),
    }
}
