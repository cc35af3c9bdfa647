//! Images built in memory, in every format a registry may serve.

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use serde_json::{Value, json};

use crate::{sha256, tar};

/// How a layer is compressed on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As docker does.
    Gzip,
    /// The first half in one gzip member, the second in another.
    TwoGzipMembers,
    /// Facebook's.
    Zstd,
    /// The plain tar.
    None,
}

/// Whose media types the documents use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Docker's schema 2.
    Docker,
    /// The Open Container Initiative's.
    Oci,
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The uncompressed archive.
    pub tar: Vec<u8>,
    /// How it travels.
    pub compression: Compression,
}

impl Layer {
    /// A gzip layer of these entries.
    pub fn of(entries: &[tar::Entry]) -> Self {
        Self { tar: tar::archive(entries), compression: Compression::Gzip }
    }

    fn compressed(&self) -> Vec<u8> {
        match self.compression {
            Compression::None => self.tar.clone(),
            Compression::Gzip => gzip(&self.tar),
            Compression::TwoGzipMembers => {
                let (first, second) = self.tar.split_at(self.tar.len() / 2);
                [gzip(first), gzip(second)].concat()
            }
            Compression::Zstd => zstd::encode_all(&*self.tar, 1).expect("memory to memory"),
        }
    }

    fn media_type(&self, flavour: Flavour) -> &'static str {
        match (flavour, self.compression) {
            (Flavour::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Flavour::Docker, Compression::Zstd) => {
                "application/vnd.docker.image.rootfs.diff.tar.zstd"
            }
            (Flavour::Docker, _) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Flavour::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Flavour::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Flavour::Oci, _) => "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }
}

/// gzip at the fastest level.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

/// An image to be.
#[derive(Clone, Debug)]
pub struct Image {
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// The `config` object of the image configuration: `Cmd`, `Env`, `User` and so on.
    pub config: Value,
    /// Media types.
    pub flavour: Flavour,
    /// `amd64` and so on.
    pub architecture: String,
    /// `v7` and so on.
    pub variant: Option<String>,
}

/// An image's documents and blobs, by digest.
#[derive(Clone, Debug)]
pub struct Built {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Its media type.
    pub media_type: String,
    /// The configuration and the layers.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// The configuration's digest, which is docker's image id.
    pub config: String,
    /// The layers' digests, lowest first.
    pub layers: Vec<String>,
    /// What an index says of it.
    pub platform: Value,
}

impl Image {
    /// An image of these layers for this machine, docker's format, running `sh` unless told otherwise.
    pub fn new(layers: Vec<Layer>) -> Self {
        Self {
            layers,
            config: json!({
                "Cmd": ["sh"],
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            }),
            flavour: Flavour::Docker,
            architecture: machine().to_owned(),
            variant: None,
        }
    }

    /// Other media types.
    pub fn flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = flavour;
        self
    }

    /// Every layer compressed this way.
    pub fn compression(mut self, compression: Compression) -> Self {
        for layer in &mut self.layers {
            layer.compression = compression;
        }
        self
    }

    /// Sets one key of `config`.
    pub fn set(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Makes the documents.
    pub fn build(&self) -> Built {
        let mut blobs = BTreeMap::new();
        let mut layers = Vec::new();
        for layer in &self.layers {
            let bytes = layer.compressed();
            let digest = sha256(&bytes);
            layers.push(json!({
                "mediaType": layer.media_type(self.flavour),
                "size": bytes.len(),
                "digest": digest,
            }));
            blobs.insert(digest, bytes);
        }
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| sha256(&layer.tar)).collect();
        let mut platform = json!({"architecture": self.architecture, "os": "linux"});
        if let Some(variant) = &self.variant {
            platform["variant"] = json!(variant);
        }
        let mut config = json!({
            "created": "2014-05-13T16:53:20Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": diff_ids.iter().map(|_| json!({
                "created": "2014-05-13T16:53:20Z", "created_by": "made for a test"
            })).collect::<Vec<_>>(),
        });
        for (key, value) in platform.as_object().expect("an object") {
            config[key] = value.clone();
        }
        let config = config.to_string().into_bytes();
        let (manifest_type, config_type) = match self.flavour {
            Flavour::Docker => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
            ),
            Flavour::Oci => (
                "application/vnd.oci.image.manifest.v1+json",
                "application/vnd.oci.image.config.v1+json",
            ),
        };
        let config_digest = sha256(&config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": {"mediaType": config_type, "size": config.len(), "digest": config_digest},
            "layers": layers,
        });
        let names = layers.iter().map(|layer| layer["digest"].as_str().unwrap_or("").to_owned());
        let layers = names.collect();
        blobs.insert(config_digest.clone(), config);
        Built {
            manifest: serde_json::to_vec_pretty(&manifest).expect("a document of ours"),
            media_type: manifest_type.to_owned(),
            blobs,
            config: config_digest,
            layers,
            platform,
        }
    }
}

impl Built {
    /// The manifest's digest.
    pub fn digest(&self) -> String {
        sha256(&self.manifest)
    }

    fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "size": self.manifest.len(),
            "digest": self.digest(),
            "platform": self.platform,
        })
    }

    /// Writes an OCI image layout with one tag, or adds a tag to one.
    pub fn write_layout(&self, directory: &Path, tag: &str) {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("a directory of ours");
        let manifest = (self.digest(), self.manifest.clone());
        for (digest, bytes) in self.blobs.iter().chain([(&manifest.0, &manifest.1)]) {
            let name = digest.strip_prefix("sha256:").expect("our own digest");
            fs::write(blobs.join(name), bytes).expect("a file of ours");
        }
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#)
            .expect("a file of ours");
        let index = directory.join("index.json");
        let mut document: Value = fs::read(&index)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_else(|| json!({"schemaVersion": 2, "manifests": []}));
        let mut descriptor = self.descriptor();
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        document["manifests"].as_array_mut().expect("made above").push(descriptor);
        fs::write(index, document.to_string()).expect("a file of ours");
    }

    /// Writes what `docker save` writes: plain layer tars beside a `manifest.json`.
    pub fn docker_archive(&self, image: &Image, name: &str) -> Vec<u8> {
        let config = self.config.trim_start_matches("sha256:").to_owned() + ".json";
        let mut entries = vec![tar::Entry::file(&config, self.blobs[&self.config].clone())];
        let mut layers = Vec::new();
        for layer in &image.layers {
            let id = sha256(&layer.tar).trim_start_matches("sha256:").to_owned();
            layers.push(format!("{id}/layer.tar"));
            entries.push(tar::Entry::directory(&id));
            entries.push(tar::Entry::file(format!("{id}/layer.tar"), layer.tar.clone()));
        }
        let manifest = json!([{"Config": config, "RepoTags": [name], "Layers": layers}]);
        entries.push(tar::Entry::file("manifest.json", manifest.to_string()));
        tar::archive(&entries)
    }
}

/// A multi-platform document naming these images.
pub fn index(images: &[&Built], flavour: Flavour) -> (Vec<u8>, &'static str) {
    let media_type = match flavour {
        Flavour::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        Flavour::Oci => "application/vnd.oci.image.index.v1+json",
    };
    let manifests: Vec<_> = images.iter().map(|image| image.descriptor()).collect();
    let document = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    (serde_json::to_vec_pretty(&document).expect("a document of ours"), media_type)
}

/// Go's name for this machine's architecture.
pub fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
