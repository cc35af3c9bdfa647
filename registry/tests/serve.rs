//! The server, seen by our own client and by clients that behave badly.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read, Seek, SeekFrom, Write},
    net::TcpStream,
    sync::Arc,
};

use oci_spec::image::Digest;
use registry::{Images, ServedBlob, Server, digest_of, fake::Registry};
use support::*;

/// What a fake registry holds, served by the real server.
struct Held {
    manifests: BTreeMap<String, (Vec<u8>, String)>,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Images for Held {
    fn repositories(&self) -> io::Result<Vec<String>> {
        Ok(vec!["a/image".to_owned(), "b".to_owned()])
    }

    fn tags(&self, repository: &str) -> io::Result<Option<Vec<String>>> {
        Ok((repository == "a/image").then(|| (0..2500).map(|it| format!("t{it:04}")).collect()))
    }

    fn manifest(&self, _: &str, reference: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        Ok(self.manifests.get(&format!("image/{reference}")).cloned())
    }

    fn blob(&self, _: &str, digest: &Digest) -> io::Result<Option<ServedBlob>> {
        let Some(bytes) = self.blobs.get(&digest.to_string()).cloned() else { return Ok(None) };
        let size = u64::try_from(bytes.len()).unwrap();
        let open = Box::new(move |offset| {
            let mut reader = Cursor::new(bytes);
            reader.seek(SeekFrom::Start(offset))?;
            let reader: Box<dyn Read + Send> = Box::new(reader);
            Ok(reader)
        });
        Ok(Some(ServedBlob::Stream { size, open }))
    }
}

fn server(layers: &[Vec<u8>]) -> Server {
    let registry = Registry::start().unwrap();
    add_image(&registry, "image", "1", layers);
    let state = registry.state();
    let held = Held {
        manifests: state.manifests.clone().into_iter().collect(),
        blobs: state.blobs.clone().into_iter().collect(),
    };
    Server::start("127.0.0.1:0".parse().unwrap(), Arc::new(held)).unwrap()
}

fn ask(connection: &mut TcpStream, request: &str) -> String {
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn our_client_pulls_from_our_server() {
    let layers = [noise(1, 1_000_000), noise(2, 0)];
    let server = server(&layers);
    let client = client();
    let source = source(&format!("{}/a/image:1", server.address()));
    let image = client.resolve(&source, &amd64()).unwrap();
    for (layer, bytes) in image.layers.iter().zip(&layers) {
        assert_eq!(&read(&client, &image, &layer.descriptor, 0).unwrap(), bytes);
    }
    let rest = read(&client, &image, &image.layers[0].descriptor, 999_990).unwrap();
    assert_eq!(rest, &layers[0][999_990..]);
    assert!(client.resolve(&"127.0.0.1:1/x".parse().unwrap(), &amd64()).is_err());
}

#[test]
fn long_lists_come_in_pages() {
    let server = server(&[noise(1, 10)]);
    let name = format!("{}/a/image", server.address()).parse().unwrap();
    assert_eq!(client().tags(&name).unwrap().len(), 2500);
    let found = client().search(&server.address().to_string(), "image", 10).unwrap();
    assert_eq!(found.len(), 1, "a registry without a search is asked for its catalog");
}

#[test]
fn one_connection_carries_many_requests() {
    let layer = noise(1, 100);
    let server = server(std::slice::from_ref(&layer));
    let mut connection = TcpStream::connect(server.address()).unwrap();
    let digest = digest_of(&layer);
    let request = format!(
        "HEAD /v2/a/image/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n\
         GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n\
         GET /v2/a/image/blobs/{digest} HTTP/1.1\r\nRange: bytes=90-\r\nConnection: close\r\n\r\n"
    );
    let answer = ask(&mut connection, &request);
    assert_eq!(answer.matches("HTTP/1.1 20").count(), 3, "{answer}");
    assert!(answer.contains("Content-Length: 100\r\n"));
    assert!(answer.contains("Content-Range: bytes 90-99/100\r\n"));
}

#[test]
fn odd_requests_get_an_answer_and_no_file() {
    let server = server(&[noise(1, 10)]);
    for (target, status) in [
        ("/", "404"),
        ("/v2", "200"),
        ("/v2/../../etc/passwd", "404"),
        ("/v2/../x/manifests/1", "404"),
        ("/v2/a/image/blobs/sha256:../../etc/passwd", "400"),
        ("/v2/a/image/manifests/2", "404"),
        ("/v2/none/tags/list", "404"),
        ("/v2/a/image/tags/list?n=1&last=%00", "200"),
    ] {
        let mut connection = TcpStream::connect(server.address()).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n");
        let answer = ask(&mut connection, &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {answer}");
    }
    let mut connection = TcpStream::connect(server.address()).unwrap();
    let answer = ask(
        &mut connection,
        "PUT /v2/a/manifests/1 HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    for garbage in ["\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9\r\n\r\n", &"x".repeat(100_000)] {
        let mut connection = TcpStream::connect(server.address()).unwrap();
        let _ = connection.write_all(garbage.as_bytes());
        let _ = connection.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = connection.read_to_string(&mut answer);
        assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    }
}
