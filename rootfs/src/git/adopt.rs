//! Images out of repositories that krgo 1.4 and 1.5 made.
//!
//! Such a repository has a branch for each layer, with the whole tree up to there, and in it the file
//! `json`, which describes the layer. What git did not store then is lost: owners, most modes, attributes,
//! devices, empty directories. Where another image still knows better, it is asked.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Mode as FileMode, OFlags};
use serde_json::{Map, Value};
use sys::Root;

use super::{
    changes::key,
    commit::Commit,
    create::parts,
    date,
    error::{Error, Result},
    files::{self, Current},
    image::{Image, parse_branch},
    inode::{Content, Inode, Time},
    objects::Objects,
    oid::{Kind, ObjectId},
    populate::{relative, split},
    refs::Refs,
    repository::GITFILE,
    scan::LOOK,
    tree::{self, Mode},
    view::{MAX_DEPTH, View, components},
};
use crate::{
    Compression, Store, StoredImage,
    commit::{Format, NewImage},
    overlay::Namespace,
    pack::{Packer, Times},
    remove,
    store::private_directory,
};

/// What became of an old repository.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The image made of it.
    pub image: StoredImage,
    /// Files whose true metadata another image knew.
    pub repaired: usize,
    /// Nested repositories, of which git stored only the name.
    pub nested: usize,
}

/// Paths of a branch: what git has of each.
type Tree = BTreeMap<Vec<u8>, (Mode, ObjectId)>;

/// Makes an image of the old repository in `directory`. `truth` is an image that has the same files with
/// their metadata.
pub(crate) fn adopt(
    store: &Store,
    directory: &Path,
    truth: Option<&StoredImage>,
) -> Result<Adopted> {
    let repository = directory.join(GITFILE);
    if !repository.join("objects").is_dir() {
        return Err(Error::NotARepository(directory.to_owned()));
    }
    let objects = Objects::open(&repository.join("objects"))?;
    let mut branches: Vec<(usize, ObjectId)> = Refs::new(&repository)
        .branches()?
        .into_iter()
        .filter_map(|(name, tip)| Some((parse_branch(&name)?.0, tip)))
        .collect();
    // By number, not by text, which put the eleventh layer before the third.
    branches.sort();
    if branches.is_empty() || branches.iter().enumerate().any(|(at, (number, _))| at != *number) {
        return Err(Error::damaged(
            "the old repository",
            "its branches are not layer_0, layer_1 …",
        ));
    }
    let truth = truth.map(|image| Truth::of(store, image)).transpose()?;
    let temporary = store.temporary("adopt");
    private_directory(&temporary).map_err(Error::io("create", &temporary))?;
    let old = Old { store, objects, truth, temporary: temporary.clone() };
    let adopted = old.adopt(&branches);
    if let Err(error) = remove::tree(&temporary) {
        log::warn!("cannot remove {}: {error}", temporary.display());
    }
    adopted
}

/// An image that knows what git did not store.
struct Truth(View);

impl Truth {
    fn of(store: &Store, image: &StoredImage) -> Result<Self> {
        let mut view = View::empty();
        for part in parts(&Image::stored(store, image)?)? {
            view.apply(&part.lines)?;
        }
        Ok(Self(view))
    }

    fn find(&self, path: &[u8], kind: FileType) -> Option<&Inode> {
        let inode = self.0.inode(self.0.find(path)?);
        (inode.kind() == kind).then_some(inode)
    }
}

struct Old<'a> {
    store: &'a Store,
    objects: Objects,
    truth: Option<Truth>,
    temporary: PathBuf,
}

impl Old<'_> {
    fn adopt(&self, branches: &[(usize, ObjectId)]) -> Result<Adopted> {
        let (mut below, mut image) = (Tree::new(), None);
        let (mut repaired, mut nested) = (0, 0);
        for (number, tip) in branches {
            let content = self.objects.read_as(*tip, Kind::Commit)?;
            let commit = Commit::decode(*tip, &content)?;
            let mut tree = Tree::new();
            self.read_tree(commit.tree, &mut Vec::new(), &mut tree, 0)?;
            nested = tree.values().filter(|(mode, _)| *mode == Mode::Commit).count();
            let json = self.json(&tree)?;
            tree.remove(&b"/json"[..]);
            tree.remove(&b"/layersize"[..]);
            let layer = Layer {
                old: self,
                directory: self.temporary.join(number.to_string()),
                mtime: Time::new(committed(&content), 0),
            };
            repaired += layer.fill(&below, &tree, *number == 0)?;
            image = Some(layer.store(&below, &tree, image.as_ref(), &commit, &json)?);
            below = tree;
        }
        let image =
            image.ok_or_else(|| Error::damaged("the old repository", "it has no layers"))?;
        Ok(Adopted { image, repaired, nested })
    }

    fn read_tree(
        &self,
        id: ObjectId,
        path: &mut Vec<u8>,
        found: &mut Tree,
        depth: usize,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::damaged(format!("tree {id}"), "directories are nested too deeply"));
        }
        for entry in tree::decode(id, &self.objects.read_as(id, Kind::Tree)?)? {
            // What no git accepts must not become a path.
            if matches!(entry.name.as_slice(), b"." | b"..") || entry.name.len() > 255 {
                return Err(Error::damaged(format!("tree {id}"), "a name that is no name"));
            }
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            match entry.mode {
                Mode::Directory => self.read_tree(entry.id, path, found, depth + 1)?,
                mode => drop(found.insert(path.clone(), (mode, entry.id))),
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// How the layer describes itself; nothing where it does not.
    fn json(&self, tree: &Tree) -> Result<Map<String, Value>> {
        let Some((_, id)) = tree.get(&b"/json"[..]) else { return Ok(Map::new()) };
        let text = self.objects.read_as(*id, Kind::Blob)?;
        serde_json::from_slice(&text)
            .map_err(|error| Error::damaged("the file json", error.to_string()))
    }
}

/// The committer's time, in seconds since 1970.
fn committed(commit: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(commit);
    let line = text.lines().find_map(|line| line.strip_prefix("committer "));
    let time = line.and_then(|line| line.rsplit_once("> ")?.1.split(' ').next()?.parse().ok());
    time.unwrap_or_default()
}

/// A layer being made in a directory of its own.
struct Layer<'a> {
    old: &'a Old<'a>,
    directory: PathBuf,
    mtime: Time,
}

impl Layer<'_> {
    /// Writes what the branch has and the one below has not. Returns for how many files the truth was known.
    fn fill(&self, below: &Tree, tree: &Tree, is_base: bool) -> Result<usize> {
        private_directory(&self.directory).map_err(Error::io("create", &self.directory))?;
        let root = Root::open(&self.directory).map_err(Error::io("open", &self.directory))?;
        let mut directories = BTreeMap::from([(Vec::new(), Vec::new())]);
        let mut repaired = 0;
        for (path, (mode, id)) in tree {
            if below.get(path) == Some(&(*mode, *id)) || *mode == Mode::Commit {
                continue;
            }
            self.directories(&root, path, &mut directories)?;
            let mut inode = self.inode(*mode, *id)?;
            repaired += usize::from(self.repair(path, &mut inode));
            self.write(&root, path, &inode)?;
        }
        if is_base {
            repaired += self.make_lost(&root, tree, &mut directories)?;
        }
        for path in directories.values().rev() {
            let mut inode = Inode { mtime: self.mtime, ..Inode::directory() };
            self.repair(path, &mut inode);
            let fail = || Error::io("set the metadata of", &self.directory.join(relative(path)));
            let opened = root.open_plain(relative(path), OFlags::RDONLY | OFlags::DIRECTORY);
            files::describe(opened.map_err(fail())?, &inode, &Current::new()).map_err(fail())?;
        }
        Ok(repaired)
    }

    /// Makes the directories that lead to a path.
    fn directories(
        &self,
        root: &Root,
        path: &[u8],
        made: &mut BTreeMap<Vec<Vec<u8>>, Vec<u8>>,
    ) -> Result<()> {
        let mut directory = Vec::new();
        for name in components(split(path).0) {
            directory.push(b'/');
            directory.extend_from_slice(name);
            if made.insert(key(&directory), directory.clone()).is_none() {
                let (parent, name) = split(&directory);
                let fail = || Error::io("create", &self.directory.join(relative(&directory)));
                let parent = root.open_plain(relative(parent), LOOK | OFlags::DIRECTORY);
                let mode = FileMode::from_raw_mode(0o700);
                rustix::fs::mkdirat(parent.map_err(fail())?, OsStr::from_bytes(name), mode)
                    .map_err(|error| fail()(error.into()))?;
            }
        }
        Ok(())
    }

    fn inode(&self, mode: Mode, id: ObjectId) -> Result<Inode> {
        let mtime = self.mtime;
        Ok(match mode {
            Mode::Symlink => {
                let target = self.old.objects.read_as(id, Kind::Blob)?;
                let mode = FileType::Symlink.as_raw_mode() | 0o777;
                Inode { mode, mtime, content: Content::Link(target), ..Inode::default() }
            }
            _ => {
                let bits = if mode == Mode::Executable { 0o755 } else { 0o644 };
                let mode = FileType::RegularFile.as_raw_mode() | bits;
                Inode { mode, mtime, content: Content::Blob(id), ..Inode::default() }
            }
        })
    }

    fn repair(&self, path: &[u8], inode: &mut Inode) -> bool {
        let truth = self.old.truth.as_ref();
        let Some(known) = truth.and_then(|truth| truth.find(path, inode.kind())) else {
            return false;
        };
        let content = std::mem::take(&mut inode.content);
        *inode = Inode { content, ..known.clone() };
        true
    }

    fn write(&self, root: &Root, path: &[u8], inode: &Inode) -> Result<()> {
        let (parent, name) = split(path);
        let fail = || Error::io("write", &self.directory.join(relative(path)));
        let parent = root.open_plain(relative(parent), LOOK | OFlags::DIRECTORY).map_err(fail())?;
        let name = OsStr::from_bytes(name);
        let Content::Blob(id) = inode.content else {
            return files::make(&parent, name, inode).map(drop).map_err(fail());
        };
        let content = self.old.objects.read_as(id, Kind::Blob)?;
        let write = || {
            let mut file = File::from(files::create(&parent, name)?);
            file.write_all(&content)?;
            files::describe(&file, inode, &Current::new())
        };
        write().map_err(fail())
    }

    /// What git had no place for: devices, pipes, and directories without files.
    fn make_lost(
        &self,
        root: &Root,
        tree: &Tree,
        made: &mut BTreeMap<Vec<Vec<u8>>, Vec<u8>>,
    ) -> Result<usize> {
        let Some(Truth(view)) = &self.old.truth else { return Ok(0) };
        let mut lost = Vec::new();
        view.walk(&mut |path, node| {
            let inode = view.inode(node);
            let known = inode.is_regular() || inode.kind() == FileType::Symlink;
            // In the place of a file, or below one, is nothing to restore.
            let hidden = (1..=path.len())
                .any(|end| path.get(..end).is_some_and(|above| tree.contains_key(above)));
            if !path.is_empty() && !known && !hidden {
                lost.push((path.to_vec(), inode));
            }
            Ok(())
        })?;
        let mut count = 0;
        for (path, inode) in lost {
            self.directories(root, &path, made)?;
            if inode.is_directory() {
                count += usize::from(!made.contains_key(&key(&path)));
                self.directories(root, &[&path[..], b"/x"].concat(), made)?;
            } else {
                self.write(root, &path, inode)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Packs the layer and puts it on top of the image so far.
    fn store(
        &self,
        below: &Tree,
        tree: &Tree,
        image: Option<&StoredImage>,
        commit: &Commit,
        json: &Map<String, Value>,
    ) -> Result<StoredImage> {
        let mut paths: BTreeMap<Vec<Vec<u8>>, (Vec<u8>, bool)> = BTreeMap::new();
        collect(&self.directory, &mut Vec::new(), &mut paths)?;
        for path in below.keys().filter(|path| !tree.contains_key(*path)) {
            // A directory that became a file hides what was in it; and one that is gone altogether goes
            // as a whole, since git has no empty ones.
            let gone = topmost_gone(path, tree);
            let is_hidden = components(gone).count() > 1 && tree.contains_key(split(gone).0);
            if !is_hidden {
                paths.entry(key(gone)).or_insert((gone.to_vec(), true));
            }
        }
        let root = Root::open(&self.directory).map_err(Error::io("open", &self.directory))?;
        let namespace = Namespace::probe_store(self.old.store.root())?;
        let listed =
            paths.values().map(|(path, gone)| (path.strip_prefix(b"/").unwrap_or(path), *gone));
        let layer = self.old.store.create_layer(Compression::Gzip, None, |mut output| {
            Packer::new(&mut output, namespace, Times::default()).paths(&root, listed)
        })?;
        let text =
            |key: &str| json.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let created = text("created")
            .map(str::to_owned)
            .unwrap_or_else(|| date::format(u64::try_from(self.mtime.seconds).unwrap_or_default()));
        let config = json.get("config").and_then(Value::as_object).cloned();
        let new = NewImage {
            created,
            author: text("author").map(str::to_owned),
            comment: text("comment").map(str::to_owned),
            created_by: command(json).unwrap_or_else(|| commit.message.clone()),
            platform: (
                text("os").unwrap_or("linux").to_owned(),
                text("architecture").unwrap_or("amd64").to_owned(),
            ),
            format: Format::Docker,
            compression: (Compression::Gzip, None),
            times: Times::default(),
            squash: false,
            configure: &mut |run| {
                if let Some(config) = &config {
                    run.clone_from(config);
                    // The old description says null where today's says nothing.
                    run.retain(|_, value| !value.is_null());
                }
            },
        };
        let layers = image.map(|image| image.layers.clone()).unwrap_or_default();
        let base = image.map(|image| image.config.as_str());
        Ok(self.old.store.describe_image(None, base, layers, layer, new)?)
    }
}

/// The command that made the layer.
fn command(json: &Map<String, Value>) -> Option<String> {
    let words = json.get("container_config")?.get("Cmd")?.as_array()?;
    let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The highest directory on the way to a path of which nothing is left; else the path.
fn topmost_gone<'p>(path: &'p [u8], tree: &Tree) -> &'p [u8] {
    let mut gone = path;
    loop {
        let above = split(gone).0;
        let inside = [above, b"/"].concat();
        let left =
            tree.range(inside.clone()..).next().is_some_and(|row| row.0.starts_with(&inside));
        if above.is_empty() || left || tree.contains_key(above) {
            return gone;
        }
        gone = above;
    }
}

/// All paths in a directory of ours.
fn collect(
    directory: &Path,
    path: &mut Vec<u8>,
    found: &mut BTreeMap<Vec<Vec<u8>>, (Vec<u8>, bool)>,
) -> Result<()> {
    let here = directory.join(relative(path));
    found.insert(key(path), (path.clone(), false));
    for entry in std::fs::read_dir(&here).map_err(Error::io("list", &here))? {
        let entry = entry.map_err(Error::io("list", &here))?;
        let length = path.len();
        path.push(b'/');
        path.extend_from_slice(entry.file_name().as_bytes());
        let kind = entry.file_type().map_err(Error::io("examine", &here))?;
        if kind.is_dir() {
            collect(directory, path, found)?;
        } else {
            found.insert(key(path), (path.clone(), false));
        }
        path.truncate(length);
    }
    Ok(())
}
