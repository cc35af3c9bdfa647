//! `pull -g`: from an image's layers to a root filesystem with a branch for each.

use std::path::{Path, PathBuf};

use sys::Root;

use super::{
    claim::Claim,
    commit::Commit,
    error::{Error, Result},
    files::{self, Current},
    image::{Image, Layer, branch_name},
    index,
    inode::{Content, Inode, OPAQUE, Time},
    manifest::{self, Line, What},
    notes::{LAYERS, Notes},
    oid::{Kind, ObjectId},
    pack::{Encoder, PackWriter},
    populate::{Part, Populated, Target, populate},
    refs,
    repository::{GITFILE, Repository},
    scan,
    stamp::Stamp,
    state::State,
    v1,
    view::View,
};

/// How a root filesystem is made.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where the repositories are: a directory of the store.
    pub(crate) repositories: PathBuf,
    /// This program, which the repository's hook calls.
    pub(crate) program: PathBuf,
    /// Files larger than this are in git only as a pointer; `None` keeps all of them in git.
    pub(crate) large: Option<u64>,
}

/// Makes `directory` the root filesystem of an image, without git. Removes what it made when it fails.
pub(crate) fn unpack(image: &Image, directory: &Path) -> Result<()> {
    let claim = Claim::new(directory)?;
    let mut parts = parts(image)?;
    let target = Target { directory, pack: None, large: u64::MAX };
    let populated = populate(&mut parts, &target)?;
    let (number, json) = top(image)?;
    if populated.view.find(b"/json").is_none() && number.is_some() {
        write_file(directory, "json", &json)?;
    }
    claim.finish()?;
    describe_root(directory, &populated.view).map(drop)
}

/// Makes `directory` the root filesystem of an image, with a branch for each layer. Returns the branches,
/// base first. Removes what it made when it fails.
pub(crate) fn create(image: &Image, directory: &Path, options: &Options) -> Result<Vec<String>> {
    let claim = Claim::new(directory)?;
    let repository = Unfinished::new(Repository::create(&options.repositories, &options.program)?);
    let made = &*repository;
    let pack = PackWriter::create(&made.objects())?;
    let mut parts = parts(image)?;
    let target = Target { directory, pack: Some(&pack), large: options.large.unwrap_or(u64::MAX) };
    let Populated { view: shown, mut stamps } = populate(&mut parts, &target)?;

    let (view, branches, tip) = write_history(made, image, parts, &pack)?;
    pack.finish()?;
    // Made from the same parts in the same order, so the stamps fit; and it has the trees besides.
    debug_assert_eq!(view.inodes.len(), shown.inodes.len());

    made.write_exclude(&view)?;
    write_ours(directory, made, image, &view)?;
    for (name, commit) in &branches {
        made.refs().set(&format!("refs/heads/{name}"), *commit)?;
    }
    if let Some((name, _)) = branches.last() {
        made.refs().set_head(name)?;
    }
    claim.finish()?;
    let root = describe_root(directory, &view)?;
    if let Some(stamp) = stamps.get_mut(view.root.inode) {
        *stamp = Some(root);
    }
    remember(made, &State { commit: tip, view, stamps }, now())?;
    repository.keep();
    Ok(branches.into_iter().map(|(name, _)| name).collect())
}

/// Writes git's index and our own memory of what is checked out. `taken` is when the stamps were.
pub(crate) fn remember(repository: &Repository, state: &State, taken: Time) -> Result<()> {
    refs::replace(&repository.index(), &index::encode(&state.view, &state.stamps)?)?;
    state.save(&repository.state(), taken)
}

pub(crate) fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Time::new(now.tv_sec, u64::try_from(now.tv_nsec).unwrap_or_default())
}

/// A repository that is removed again unless it was kept.
pub(crate) struct Unfinished {
    repository: Repository,
    is_kept: bool,
}

impl Unfinished {
    pub(crate) fn new(repository: Repository) -> Self {
        Self { repository, is_kept: false }
    }

    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl std::ops::Deref for Unfinished {
    type Target = Repository;

    fn deref(&self) -> &Repository {
        &self.repository
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = std::fs::remove_dir_all(&self.repository.directory)
        {
            log::warn!("cannot remove {}: {error}", self.repository.directory.display());
        }
    }
}

/// What the store has of each layer. A layer is one part or several.
pub(crate) fn parts(image: &Image) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for layer in &image.layers {
        parts.extend(parts_of(layer)?);
    }
    Ok(parts)
}

/// What the store has of the uppermost layer.
pub(crate) fn last_layer(image: &Image) -> Result<Vec<Part>> {
    image.layers.last().map_or_else(|| Ok(Vec::new()), parts_of)
}

fn parts_of(layer: &Layer) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (at, (directory, top)) in layer.directories.iter().enumerate() {
        let mut lines = scan::layer(directory, *top)?;
        if layer.hides_all && at == 0 {
            hide_all(&mut lines);
        }
        parts.push(Part { lines, directory: directory.clone() });
    }
    Ok(parts)
}

/// Writes what is not a regular file of a layer: links, and the manifest, whose name it returns.
pub(crate) fn write_layer_files(
    parts: &[Part],
    write: &mut dyn FnMut(Kind, &[u8]) -> Result<ObjectId>,
) -> Result<ObjectId> {
    let mut lines = Vec::new();
    for part in parts {
        for line in &part.lines {
            if let What::Own(Inode { content: Content::Link(target), .. }) = &line.what {
                write(Kind::Blob, target)?;
            }
        }
        lines = merge(lines, &part.lines);
    }
    write(Kind::Blob, &manifest::encode(&lines))
}

/// Marks the layer's root directory as hiding what is below.
fn hide_all(lines: &mut Vec<Line>) {
    let mark = (OPAQUE.to_vec(), b"y".to_vec());
    match lines.first_mut() {
        Some(Line { path, what: What::Own(inode) }) if path == b"/" => inode.xattrs.push(mark),
        _ => {
            let inode = Inode { xattrs: vec![mark], ..Inode::directory() };
            lines.insert(0, Line::own("/", inode));
        }
    }
}

/// Branches and their tips, base first.
pub(crate) type Branches = Vec<(String, ObjectId)>;

/// Writes trees, commits and notes of the whole history. Returns the view on top, each branch with its
/// tip, and the commit to check out.
pub(crate) fn write_history(
    repository: &Repository,
    image: &Image,
    parts: Vec<Part>,
    pack: &PackWriter,
) -> Result<(View, Branches, ObjectId)> {
    let mut encoder = Encoder::new();
    let mut write = |kind, content: &[u8]| pack.add(&mut encoder, kind, content);
    let mut view = View::empty();
    let mut notes = Notes::default();
    let mut branches = Branches::new();
    let mut parent = None;
    let steps = image.steps();
    let chain_ids = image.chain_ids();
    let mut parts = parts.into_iter();
    let last_layer = steps.iter().rposition(|step| step.layer.is_some());
    for (at, step) in steps.iter().enumerate() {
        let mut note = None;
        let layer = step.layer.and_then(|number| Some((number, image.layers.get(number)?)));
        if let Some((number, layer)) = layer {
            let parts: Vec<Part> = parts.by_ref().take(layer.directories.len()).collect();
            for part in &parts {
                view.apply(&part.lines)?;
            }
            note = Some(write_layer_files(&parts, &mut write)?);
            if let Some(chain_id) = chain_ids.get(number) {
                branches.push((branch_name(number, chain_id.digest()), ObjectId::EMPTY_TREE));
            }
        }
        let trailers = image.trailers(step.layer, at + 1 == steps.len());
        let commit = Commit {
            tree: view.write_trees(&mut write)?,
            parents: parent.into_iter().collect(),
            author: Some(step.author.clone()),
            message: step.message.clone(),
            trailers,
        };
        let commit = write(Kind::Commit, &commit.encode())?;
        if let Some(note) = note {
            notes.set(commit, note);
        }
        // Entries without files are commits on the branch of the layer before them.
        if let Some(branch) = branches.last_mut() {
            branch.1 = commit;
        }
        parent = Some(commit);
    }
    let tip = parent.ok_or_else(|| Error::damaged("the image", "it has no layers"))?;
    if last_layer.is_some()
        && let Some(step) = steps.last()
    {
        let tip = notes.write(None, &step.author, &mut write)?;
        repository.refs().set(LAYERS, tip)?;
    }
    Ok((view, branches, tip))
}

/// Completes what a layer says by what was added for the chain it stands in. The order of paths remains.
fn merge(mut lines: Vec<Line>, more: &[Line]) -> Vec<Line> {
    if lines.is_empty() {
        return more.to_vec();
    }
    let key =
        |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    for line in more {
        match lines.binary_search_by_key(&key(&line.path), |old| key(&old.path)) {
            Ok(at) => {
                if let Some(old) = lines.get_mut(at) {
                    old.clone_from(line);
                }
            }
            Err(at) => lines.insert(at, line.clone()),
        }
    }
    lines
}

/// The gitfile, and the two files krgo left beside it.
fn write_ours(directory: &Path, repository: &Repository, image: &Image, view: &View) -> Result<()> {
    write_file(directory, GITFILE, repository.gitfile().as_bytes())?;
    write_json(directory, image, view)
}

/// `json` and `layersize` describe the uppermost layer, unless the image has files of such names.
pub(crate) fn write_json(directory: &Path, image: &Image, view: &View) -> Result<()> {
    let (size, json) = top(image)?;
    if view.find(b"/json").is_some() || view.find(b"/layersize").is_some() {
        return Ok(());
    }
    let size = size.unwrap_or_default().to_string();
    write_file(directory, "json", &json)?;
    write_file(directory, "layersize", size.as_bytes())
}

/// Size and description of the uppermost layer.
fn top(image: &Image) -> Result<(Option<u64>, Vec<u8>)> {
    let chain_ids = image.chain_ids();
    let mut ids = chain_ids.iter().rev().map(|id| id.digest());
    let (id, parent) = (ids.next(), ids.next());
    let size = image.layers.last().map(|layer| layer.size);
    let json = v1::encode(&image.config, id.unwrap_or_default(), parent, size.unwrap_or_default())?;
    Ok((size, json))
}

/// Writes a file of ours, in place of one that may be there.
pub(crate) fn write_file(directory: &Path, name: &str, content: &[u8]) -> Result<()> {
    use std::{fs::File, io::Write};
    let path = directory.join(name);
    let root = Root::open(directory).map_err(Error::io("open", directory))?;
    let inode = super::inode::Inode { mode: 0o100_644, ..Default::default() };
    let write = || {
        let name = std::ffi::OsStr::new(name);
        match rustix::fs::unlinkat(&root, name, rustix::fs::AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => {}
            other => other?,
        }
        let file = File::from(files::create(&root, name)?);
        (&file).write_all(content)?;
        let mode = rustix::fs::Mode::from_raw_mode(inode.permissions());
        Ok(rustix::fs::fchmod(&file, mode)?)
    };
    write().map_err(Error::io("write", &path))
}

/// The root directory gets its metadata when nothing is put into it any more.
pub(crate) fn describe_root(directory: &Path, view: &View) -> Result<Stamp> {
    let root = Root::open(directory).map_err(Error::io("open", directory))?;
    let describe = || {
        files::describe(&root, view.inode(&view.root), &Current::new())?;
        Ok(Stamp::new(&rustix::fs::fstat(&root)?))
    };
    describe().map_err(Error::io("set the metadata of", directory))
}
