//! `commit -r DIR -m TEXT`: what changed becomes a layer, an image, and a branch.
//!
//! The layer is made first, in the store. Git is then told of it as it is told of layers that were
//! pulled, so nothing can be in the one and not in the other.

use std::path::{Path, PathBuf};

use oci_spec::image::Digest;
use serde_json::{Map, Value, json};
use sys::Root;

use super::{
    changes::{Changes, changes},
    checkout::current,
    commit::Commit,
    create::{describe_root, last_layer, now, remember, write_json, write_layer_files},
    date,
    error::{Error, Result},
    escape::escape,
    history::{self, Ancestor},
    image::{Image, branch_name},
    manifest::What,
    notes::{LAYERS, Notes},
    objects::Objects,
    oid::Kind,
    pack::{Encoder, PackWriter},
    populate::{self, Target},
    repository::Repository,
    state::State,
    uses,
};
use crate::{
    Compression, Store, StoredImage, StoredLayer,
    commit::{Format, NewImage, manifest},
    layer::record::Record,
    overlay::Namespace,
    pack::{Packer, Times},
};

/// What a commit is to say.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// What the history shows.
    pub text: &'a str,
    /// Who did it.
    pub author: Option<&'a str>,
    /// When, in seconds since 1970.
    pub seconds: i64,
    /// Nothing in the layer is newer than this many seconds after 1970: what makes it reproducible.
    pub latest: Option<i64>,
    /// Paths inside that are left out.
    pub exclude: &'a [PathBuf],
    /// Files larger than this are in git as a pointer.
    pub large: Option<u64>,
}

/// What a commit made.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The new branch, which is checked out.
    pub branch: String,
    /// The id in its name.
    pub id: String,
    /// The id of the layer below.
    pub parent: Option<String>,
    /// Of the layer's tar, in bytes.
    pub size: u64,
    /// Of the layer's tar.
    pub diff_id: Digest,
    /// The image that ends with this layer.
    pub image: StoredImage,
}

pub(crate) fn commit(
    store: &Store,
    directory: &Path,
    repositories: &Path,
    message: &Message<'_>,
) -> Result<Committed> {
    let repository = uses::enter(directory, repositories)?.repository;
    let _lock = repository.lock()?;
    let objects = Objects::open(&repository.objects())?;
    let state = current(&repository, &objects)?;
    let exclude: Vec<_> = message.exclude.iter().map(|path| inside(path)).collect();
    let taken = now();
    let large = message.large.unwrap_or(u64::MAX);
    let changes = changes(directory, &state, &exclude, large)?;
    if changes.paths.is_empty() {
        return Err(Error::NoChanges);
    }
    let head = repository.refs().head_commit()?.unwrap_or(state.commit);
    let ancestors = history::line(&objects, &repository.refs(), head)?;
    let base = Base::find(store, &repository, &objects, &ancestors)?;
    let layer = store_layer(store, directory, &changes, message)?;
    let image = describe(store, base, layer, message)?;
    uses::add(&repository, directory, &image)?;
    let branch = Branch { store, directory, repository: &repository, image: &image, large };
    branch.add(state, &changes, &ancestors, taken)
}

/// The image that ends with the commit that is checked out.
pub(crate) fn image_of_head(store: &Store, repository: &Repository) -> Result<StoredImage> {
    let objects = Objects::open(&repository.objects())?;
    let refs = repository.refs();
    let head = refs.head_commit()?;
    let head = head.ok_or_else(|| Error::NotARepository(repository.directory.clone()))?;
    let ancestors = history::line(&objects, &refs, head)?;
    let last = ancestors.last().and_then(|last| last.commit.trailer("Manifest-Digest"));
    if let Some(manifest) = last {
        return Ok(store.image(manifest)?);
    }
    // The lower part of an image is an image as well.
    let Base { config, layers } = Base::find(store, repository, &objects, &ancestors)?;
    let bad =
        |error: serde_json::Error| Error::damaged("the image's configuration", error.to_string());
    let mut config: Map<String, Value> = serde_json::from_str(&config).map_err(bad)?;
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    config.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diff_ids}));
    let config = serde_json::to_vec(&config).map_err(bad)?;
    let (manifest, media_type) = manifest(&config, &layers, Format::Docker)?;
    Ok(store.add_image(None, &manifest, media_type, &config, None)?)
}

/// A path as people type it, as our walks have it.
fn inside(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let mut full = Vec::new();
    for part in path.components() {
        if let std::path::Component::Normal(part) = part {
            full.push(b'/');
            full.extend_from_slice(part.as_bytes());
        }
    }
    full
}

/// The image below the new layer: a whole one, or the lower part of one.
struct Base {
    config: String,
    layers: Vec<StoredLayer>,
}

impl Base {
    /// Finds an image whose layers begin with those of a commit.
    fn find(
        store: &Store,
        repository: &Repository,
        objects: &Objects,
        ancestors: &[Ancestor],
    ) -> Result<Self> {
        let diff_ids: Vec<&str> =
            ancestors.iter().filter_map(|ancestor| ancestor.commit.trailer("Diff-Id")).collect();
        let named = |line: &[Ancestor]| -> Vec<String> {
            let names = line.iter().rev().filter_map(|one| one.commit.trailer("Manifest-Digest"));
            names.map(str::to_owned).collect()
        };
        let mut candidates = named(ancestors);
        for (_, tip) in repository.refs().branches()? {
            candidates.extend(named(&history::line(objects, &repository.refs(), tip)?));
        }
        for name in candidates {
            let image = match store.image(&name) {
                Err(crate::Error::NoImage(_)) => continue,
                other => other?,
            };
            let begins = image.layers.len() >= diff_ids.len()
                && image
                    .layers
                    .iter()
                    .zip(&diff_ids)
                    .all(|(layer, id)| layer.diff_id.as_ref() == *id);
            if begins {
                return Self::cut(&image, diff_ids.len());
            }
        }
        let head = ancestors.last().map(|ancestor| ancestor.id);
        Err(head.map_or(Error::NoChanges, Error::NoImage))
    }

    /// The first `count` layers of an image, and the history up to there.
    fn cut(image: &StoredImage, count: usize) -> Result<Self> {
        let layers = image.layers.iter().take(count).cloned().collect();
        if count == image.layers.len() {
            return Ok(Self { config: image.config.clone(), layers });
        }
        let bad = |error: serde_json::Error| {
            Error::damaged("the image's configuration", error.to_string())
        };
        let mut config: Map<String, Value> = serde_json::from_str(&image.config).map_err(bad)?;
        if let Some(Value::Array(history)) = config.get_mut("history") {
            let mut left = count;
            history.retain(|entry| {
                let brings = entry.get("empty_layer").and_then(Value::as_bool) != Some(true);
                let kept = left > 0;
                left = left.saturating_sub(usize::from(brings));
                kept
            });
        }
        Ok(Self { config: serde_json::to_string(&config).map_err(bad)?, layers })
    }
}

/// Packs what changed as a layer of the store.
fn store_layer(
    store: &Store,
    directory: &Path,
    changes: &Changes,
    message: &Message<'_>,
) -> Result<StoredLayer> {
    let root = Root::open(directory).map_err(Error::io("open", directory))?;
    let namespace = Namespace::probe_store(store.root())?;
    let times = Times { latest: message.latest };
    let gone = |what: &What| matches!(what, What::Own(inode) if inode.is_whiteout());
    let paths = changes
        .lines
        .iter()
        .map(|line| (line.path.strip_prefix(b"/").unwrap_or(&line.path), gone(&line.what)));
    let write = |mut output: &mut dyn std::io::Write| {
        Packer::new(&mut output, namespace, times).paths(&root, paths)
    };
    Ok(store.create_layer(Compression::Gzip, None, write)?)
}

fn describe(
    store: &Store,
    base: Base,
    layer: StoredLayer,
    message: &Message<'_>,
) -> Result<StoredImage> {
    let new = NewImage {
        created: date::format(u64::try_from(message.seconds).unwrap_or(0)),
        author: message.author.map(str::to_owned),
        comment: Some(message.text.to_owned()).filter(|text| !text.is_empty()),
        created_by: message.text.to_owned(),
        platform: (String::new(), String::new()),
        format: Format::Docker,
        compression: (Compression::Gzip, None),
        times: Times { latest: message.latest },
        squash: false,
        configure: &mut |_| {},
    };
    Ok(store.describe_image(None, Some(&base.config), base.layers, layer, new)?)
}

/// A branch being added for the uppermost layer of an image.
struct Branch<'a> {
    store: &'a Store,
    directory: &'a Path,
    repository: &'a Repository,
    image: &'a StoredImage,
    large: u64,
}

impl Branch<'_> {
    fn add(
        &self,
        state: State,
        changes: &Changes,
        ancestors: &[Ancestor],
        taken: super::inode::Time,
    ) -> Result<Committed> {
        let image = Image::stored(self.store, self.image)?;
        let pack = PackWriter::create(&self.repository.objects())?;
        let mut parts = last_layer(&image)?;
        let target = Target { directory: self.directory, pack: Some(&pack), large: self.large };
        populate::pack(&mut parts, &target)?;

        let State { mut view, mut stamps, .. } = state;
        for part in &parts {
            let known: Vec<_> = part
                .lines
                .iter()
                .map(|line| {
                    let path = line.path.strip_suffix(b"/").unwrap_or(&line.path);
                    let before = || {
                        let node = view.find(path)?;
                        stamps.get(node.inode).copied().flatten()
                    };
                    changes.stamps.get(path).copied().or_else(before)
                })
                .collect();
            let became = view.apply(&part.lines)?;
            stamps.resize(view.inodes.len(), None);
            for (number, stamp) in became.into_iter().zip(known) {
                if let Some(slot) = number.and_then(|number| stamps.get_mut(number)) {
                    *slot = stamp;
                }
            }
        }
        for (path, stamp) in &changes.stamps {
            if let Some(slot) = view.find(path).and_then(|node| stamps.get_mut(node.inode)) {
                *slot = Some(*stamp);
            }
        }

        let mut encoder = Encoder::new();
        let mut write = |kind, content: &[u8]| pack.add(&mut encoder, kind, content);
        let note = write_layer_files(&parts, &mut write)?;
        let chain_ids = image.chain_ids();
        let step = image.steps().pop().ok_or(Error::NoChanges)?;
        let layer = image.layers.last().ok_or(Error::NoChanges)?;
        let mut ids = chain_ids.iter().rev().map(|id| id.digest().to_owned());
        let (id, parent) = (ids.next().unwrap_or_default(), ids.next());
        let commit = Commit {
            tree: view.write_trees(&mut write)?,
            parents: ancestors.last().map(|ancestor| ancestor.id).into_iter().collect(),
            author: Some(step.author.clone()),
            message: step.message.clone(),
            trailers: image.trailers(Some(image.layers.len() - 1), true),
        };
        let commit = write(Kind::Commit, &commit.encode())?;
        let refs = self.repository.refs();
        let notes_tip = refs.get(LAYERS)?;
        let mut notes = match notes_tip {
            Some(tip) => Notes::read(&Objects::open(&self.repository.objects())?, tip)?,
            None => Notes::default(),
        };
        notes.set(commit, note);
        let notes_tip = notes.write(notes_tip, &step.author, &mut write)?;
        pack.finish()?;

        let branch = branch_name(image.layers.len() - 1, &id);
        refs.set(&format!("refs/heads/{branch}"), commit)?;
        refs.set(LAYERS, notes_tip)?;
        refs.set_head(&branch)?;
        let odd = |path: &[u8]| path.split(|byte| *byte == b'/').any(|part| *escape(part) != *part);
        if changes.lines.iter().any(|line| odd(&line.path)) {
            self.repository.write_exclude(&view)?;
        }
        write_json(self.directory, &image, &view)?;
        let root = describe_root(self.directory, &view)?;
        if let Some(slot) = stamps.get_mut(view.root.inode) {
            *slot = Some(root);
        }
        remember(self.repository, &State { commit, view, stamps }, taken)?;

        let record = Record::read(&self.store.layer_path(&layer.diff_id)?)?;
        Ok(Committed {
            branch,
            id,
            parent,
            size: record.tar_size,
            diff_id: layer.diff_id.clone(),
            image: self.image.clone(),
        })
    }
}
