//! The same faults in front of a real `docker-registry`: what our fake believes must be what others do.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use registry::{
    Copy, copy,
    fake::{Kind, Proxy, Registry},
};
use support::*;

/// A registry process of our own, in a directory that goes away with it.
struct Real {
    process: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl Real {
    /// `None`, and a word about it, where the program is not installed.
    #[allow(clippy::disallowed_methods, reason = "a test starts its peer")]
    #[allow(clippy::print_stderr, reason = "a skip must be visible")]
    fn start(name: &str) -> Option<Self> {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let directory =
            std::env::temp_dir().join(format!("registry-real-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let settings = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            directory.display()
        );
        let file = directory.join("config.yml");
        fs::write(&file, settings).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(process) = command.spawn() else {
            eprintln!("skipped: docker-registry is not installed");
            return None;
        };
        for _ in 0..100 {
            if TcpStream::connect(address).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        Some(Self { process, address, directory })
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn pushes_and_pulls_survive_a_bad_line_to_a_real_registry() {
    let Some(real) = Real::start("faults") else { return };
    let origin = Registry::start().unwrap();
    let layers = [noise(1, 2_000_000), noise(2, 100), noise(3, 0)];
    let digest = add_image(&origin, "image", "1", &layers);
    let proxy = Proxy::start(real.address).unwrap();
    proxy.fault("PATCH", "/uploads/", 2, Kind::HangUp(700_000));
    proxy.fault("POST", "/uploads/", 1, Kind::Status(503, Some(("Retry-After", "1".into()))));
    proxy.fault("PUT", "/manifests/", 1, Kind::Cut(0));
    let client = client();
    let from = source(&format!("{}/image:1", origin.name()));
    let to = source(&format!("{}/copy:1", proxy.name()));
    let copied = copy((&client, &from), (&client, &to), &Copy::default()).unwrap();
    assert_eq!(copied.to_string(), digest, "the digest survives");

    proxy.fault("GET", "/manifests/", 1, Kind::Status(500, None));
    let image = client.resolve(&to, &amd64()).unwrap();
    proxy.fault("GET", "/blobs/", 1, Kind::Cut(600_000));
    proxy.fault("GET", "/blobs/", 1, Kind::Stall(400_000, Duration::from_secs(2)));
    proxy.fault("GET", "/blobs/", 1, Kind::Cut(1));
    for (layer, bytes) in image.layers.iter().zip(&layers) {
        assert_eq!(&read(&client, &image, &layer.descriptor, 0).unwrap(), bytes);
    }
    let ranges: Vec<_> = proxy.seen().into_iter().filter_map(|it| it.range).collect();
    assert_eq!(ranges, ["bytes=600000-", "bytes=1000000-", "bytes=1000001-"]);
}

#[test]
fn a_real_registry_takes_a_blob_in_pieces_and_mounts_it() {
    let Some(real) = Real::start("pieces") else { return };
    let origin = Registry::start().unwrap();
    add_image(&origin, "image", "1", &[noise(1, 100_000)]);
    let client = client();
    let from = source(&format!("{}/image:1", origin.name()));
    let image = client.resolve(&from, &amd64()).unwrap();
    let blobs = |blob: &oci_spec::image::Descriptor, offset: u64| {
        client.blob(&from, blob, offset).map_err(registry::Cause::from)
    };
    let push = registry::Push { chunk: Some(30_000), ..registry::Push::new(&blobs) };
    let first = source(&format!("{}/first:1", real.address));
    client.push(&first, &image.manifest, &push).unwrap();

    let proxy = Proxy::start(real.address).unwrap();
    let there = source(&format!("{}/first:1", proxy.name()));
    let second = source(&format!("{}/second:1", proxy.name()));
    copy((&client, &there), (&client, &second), &Copy::default()).unwrap();
    assert!(proxy.seen().iter().all(|it| it.method != "PATCH"), "mounted, not sent");
    let name = format!("{}/second", real.address).parse().unwrap();
    assert_eq!(client.tags(&name).unwrap(), ["1"]);
    let found = client.search(&real.address.to_string(), "sec", 5).unwrap();
    assert_eq!(found[0].name, "second");
}
