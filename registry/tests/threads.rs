//! The client must not cost a thread to those who do not use it: a program with threads cannot make a container
//! in the cheap way. Alone in its file, because other tests have threads.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use registry::fake::Registry;
use support::*;

fn network_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
    };
    tasks.map(name).filter(|name| name.trim() == "registry").count()
}

#[test]
fn the_network_thread_lives_from_the_first_request_to_the_drop_of_the_client() {
    let registry = Registry::start().unwrap();
    add_image(&registry, "image", "1", &[noise(1, 100_000)]);
    let client = client();
    assert_eq!(network_threads(), 0);
    let image = resolve(&client, &registry).unwrap();
    assert_eq!(network_threads(), 1);
    let reader = client.blob(&image.source, &image.layers[0].descriptor, 0).unwrap();
    drop(client);
    assert_eq!(network_threads(), 1, "a blob is still being read");
    drop(reader);
    assert_eq!(network_threads(), 0);
}
