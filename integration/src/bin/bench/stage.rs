//! What the measurements need: a registry with images, the floor program, directories, rivals' commands.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use integration::{Compression, Daemon, Guard, Image, Layer, Registry, debian, images, program};

use crate::{measure::shell, peers};

/// Everything in one temporary directory, removed at the end.
pub(crate) struct Stage {
    directory: tempfile::TempDir,
    registry: Option<Registry>,
}

impl Stage {
    /// A directory on a real filesystem: an overlay's upper layer and a fair pull need one.
    pub(crate) fn new() -> Result<Self, String> {
        let directory = tempfile::Builder::new()
            .prefix("crun-cargo-bench-")
            .tempdir_in("/var/tmp")
            .map_err(|error| format!("/var/tmp: {error}"))?;
        Ok(Self { directory, registry: None })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The floor program, compiled from floor.c beside this crate.
    pub(crate) fn floor(&self) -> Result<String, String> {
        let floor = self.text("floor");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/floor.c");
        shell(&format!("${{CC:-cc}} -O2 -static -o {floor} {}", source.display()))?;
        Ok(floor)
    }

    /// Pushes an image into this stage's registry and gives its name there.
    pub(crate) fn serve(&mut self, name: &str, image: &Image) -> Result<String, String> {
        if self.registry.is_none() {
            if peers::find("docker-registry").is_none() {
                return Err("docker-registry is not installed".into());
            }
            self.registry = Some(Registry::start(&self.path("registry"), Guard::None));
        }
        let registry = self.registry.as_ref().expect("started above");
        Ok(registry.push(name, &image.build()))
    }

    /// Address and repository of a name that `serve` gave.
    pub(crate) fn busybox(&mut self) -> Result<String, String> {
        self.serve("busybox:latest", &Image::new(vec![Layer::of(&images::busybox_entries())]))
    }

    pub(crate) fn debian(&mut self) -> Result<String, String> {
        self.serve("debian:latest", &debian()?)
    }

    /// Debian and six more layers of this machine's own files, about a gigabyte in all.
    pub(crate) fn large(&mut self) -> Result<String, String> {
        let mut image = debian()?;
        for (number, layer) in machine_layers(self.directory.path())?.into_iter().enumerate() {
            let tar = fs::read(&layer).map_err(|error| format!("layer {number}: {error}"))?;
            let _ = fs::remove_file(&layer);
            image.layers.push(Layer { tar, compression: Compression::Gzip });
        }
        self.serve("large:latest", &image)
    }

    /// The blobs of an image that `serve` named, the configuration included.
    pub(crate) fn digests(&self, image: &str) -> Result<Vec<String>, String> {
        let registry = self.registry.as_ref().ok_or("nothing is served")?;
        let (_, name) = image.split_once('/').ok_or("the image has no registry")?;
        let (repository, tag) = name.rsplit_once(':').ok_or("the image has no tag")?;
        let path = format!("/v2/{repository}/manifests/{tag}");
        let accept = ("Accept", "application/vnd.docker.distribution.manifest.v2+json");
        let answer = registry.ask("GET", &path, &[accept], &[], repository);
        let manifest: serde_json::Value =
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        let blobs =
            manifest["layers"].as_array().into_iter().flatten().chain([&manifest["config"]]);
        Ok(blobs.filter_map(|blob| blob["digest"].as_str()).map(str::to_owned).collect())
    }

    /// A shell line for before a store is filled anew, `wipe` having emptied it. ext4 does not use an inode again
    /// that was deleted in the last minutes, and while their table is in memory it looks at each of them; so
    /// the caches go, and what is served comes back.
    pub(crate) fn anew(&self, wipe: &str) -> String {
        let served = self.text("registry/data");
        format!(
            "{wipe}; sync; echo 3 > /proc/sys/vm/drop_caches; \
             find {served} -type f -exec cat {{}} + > /dev/null; {} version > /dev/null",
            program().display()
        )
    }

    /// This program with directories of its own below the stage.
    pub(crate) fn ours(&self, store: &str) -> Vec<String> {
        vec![
            program().display().to_string(),
            "--root".into(),
            self.text(store),
            "--runroot".into(),
            self.text(&format!("{store}-run")),
        ]
    }

    /// podman with directories of its own. A raised limit on files needs CAP_SYS_RESOURCE, which a
    /// sandboxed machine lacks, so `run` gets limits it may set.
    pub(crate) fn podman(&self) -> Option<Vec<String>> {
        let program = peers::named("podman")?;
        let home = self.text("podman");
        let words = [
            "--root",
            &format!("{home}/root"),
            "--runroot",
            &format!("{home}/run"),
            "--tmpdir",
            &format!("{home}/tmp"),
            "--storage-driver",
            "overlay",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
        ]
        .map(str::to_owned);
        Some([vec![program], words.to_vec()].concat())
    }

    pub(crate) fn containerd(&self) -> Option<(Daemon, Vec<String>)> {
        let ctr = peers::named("ctr")?;
        let daemon = started("containerd", Daemon::containerd(self.directory.path()))?;
        let address = daemon.socket.display().to_string();
        Some((daemon, vec![ctr, "-a".into(), address, "-n".into(), "bench".into()]))
    }

    pub(crate) fn docker(&self) -> Option<(Daemon, Vec<String>)> {
        let docker = peers::named("docker")?;
        let daemon = started("dockerd", Daemon::dockerd(self.directory.path(), &[]))?;
        let host = format!("unix://{}", daemon.socket.display());
        Some((daemon, vec![docker, "-H".into(), host]))
    }
}

fn started(name: &str, daemon: Result<Daemon, String>) -> Option<Daemon> {
    daemon.map_err(|reason| println!("left out: {name}: {reason}")).ok()
}

/// Limits that any root may set.
pub(crate) const PODMAN_LIMITS: [&str; 4] =
    ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

/// Six archives of this machine's programs and documents, together at most a gigabyte.
fn machine_layers(directory: &Path) -> Result<Vec<PathBuf>, String> {
    const EACH: u64 = 150 << 20;
    let mut layers = Vec::new();
    let listing = Command::new("find")
        .args(["/usr", "-xdev", "-type", "f", "-size", "-20M", "-printf", "%s %P\\0"])
        .output()
        .map_err(|error| format!("find: {error}"))?;
    let mut files = listing.stdout.split(|byte| *byte == 0).filter_map(|line| {
        let text = str::from_utf8(line).ok()?;
        let (size, path) = text.split_once(' ')?;
        Some((size.parse::<u64>().ok()?, path))
    });
    for number in 0..6 {
        let (mut total, mut list) = (0, String::new());
        for (size, path) in files.by_ref() {
            total += size;
            list += path;
            list.push('\0');
            if total > EACH {
                break;
            }
        }
        let (names, archive) =
            (directory.join("names"), directory.join(format!("layer-{number}.tar")));
        fs::write(&names, list).map_err(|error| error.to_string())?;
        shell(&format!(
            "tar -C /usr --no-recursion --sort=none --transform 's,^,usr/,S' -cf {} --null -T {}",
            archive.display(),
            names.display()
        ))?;
        layers.push(archive);
    }
    Ok(layers)
}
