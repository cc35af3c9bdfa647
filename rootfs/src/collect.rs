//! Removing images, and everything that nothing refers to any more.
//!
//! A layer stays while the record of an image or of a container names it, or while somebody holds its lock.
//! Whoever writes a record holds the store's lock shared; whoever removes what records do not name holds it
//! exclusively, and only for as long as it takes to move things out of the way.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use oci_spec::image::Digest;

use crate::{
    error::{During, Error, Result},
    git,
    image::{ImageSummary, StoredImage},
    lock::{Lock, Mode},
    remove,
    store::Store,
};

/// What a temporary name of a process that nobody can ask must be older than to count as left over.
const LEFT_OVER: Duration = Duration::from_secs(24 * 60 * 60);

/// What removing names and images did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub names: Vec<String>,
    /// Images that are gone, by id.
    pub images: Vec<Digest>,
    /// Layers that are gone, by diff id in hexadecimal digits.
    pub layers: Vec<String>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
    /// Where root filesystems were whose branches stay, since they may only have been moved.
    pub lost: Vec<PathBuf>,
}

impl Store {
    /// Removes a name, and the image with it when that was its last; or an image by its id, with all its
    /// names. Layers that only it used go too.
    ///
    /// Without `force`, an image with a container is refused, and so is one with several names by its id.
    pub fn remove_image(&self, name_or_id: &str, force: bool) -> Result<Removed> {
        let alone = self.lock_store(Mode::Exclusive)?;
        let image = self.image(name_or_id)?;
        let names = self.names_of(&image)?;
        let mut removed = Removed::default();
        if names.iter().any(|name| name == name_or_id) && names.len() > 1 {
            self.untag(name_or_id)?;
            removed.names.push(name_or_id.to_owned());
            return Ok(removed);
        }
        if names.len() > 1 && !force {
            return Err(Error::SeveralNames {
                image: name_or_id.to_owned(),
                names: names.join(", "),
            });
        }
        self.drop_image(&image, name_or_id, names, force, &mut removed)?;
        self.collect(alone, &mut removed)?;
        Ok(removed)
    }

    /// Removes images nobody named, or with `all` those no container uses; and everything that nothing
    /// refers to, what interrupted pulls left included.
    pub fn prune(&self, all: bool) -> Result<Removed> {
        let alone = self.lock_store(Mode::Exclusive)?;
        // An image whose name cannot be read would look like one without.
        for file in self.names_in("references")? {
            self.read_reference(&file)?;
        }
        let mut removed = Removed { lost: git::uses::lost(self)?, ..Removed::default() };
        let mut seen = HashSet::new();
        for summary in self.images()? {
            if (all || summary.name.is_none()) && seen.insert(summary.record().to_owned()) {
                self.prune_image(&summary, &mut removed)?;
            }
        }
        self.collect(alone, &mut removed)?;
        self.remove_partials(&mut removed)?;
        Ok(removed)
    }

    /// Removes the branches of root filesystems that are not where they were, wherever they are now.
    pub fn remove_lost_rootfs(&self) -> Result<()> {
        let _alone = self.lock_store(Mode::Exclusive)?;
        git::uses::remove_lost(self)
    }

    fn prune_image(&self, summary: &ImageSummary, removed: &mut Removed) -> Result<()> {
        let image = match self.read_image(summary.record()) {
            Err(Error::NoImage(_)) => return Ok(()),
            other => other?,
        };
        let names = self.names_of(&image)?;
        match self.drop_image(&image, "", names, false, removed) {
            Err(Error::InUse { .. } | Error::HasRootfs { .. }) => Ok(()),
            other => other,
        }
    }

    fn drop_image(
        &self,
        image: &StoredImage,
        asked: &str,
        names: Vec<String>,
        force: bool,
        removed: &mut Removed,
    ) -> Result<()> {
        let record = image.record_name();
        let path = self.path("images", &record);
        let containers = self.snapshot_needs()?;
        let user = containers.into_iter().find(|needs| needs.image.as_deref() == Some(&record));
        if let (Some(needs), false) = (user, force) {
            let container = needs.container;
            return Err(Error::InUse { image: asked.to_owned(), container });
        }
        if let (Some(user), false) = (git::uses::user(self, &record)?, force) {
            return Err(Error::HasRootfs {
                image: asked.to_owned(),
                is_there: user.is_live(),
                directory: user.directory,
            });
        }
        for name in names {
            self.untag(&name)?;
            removed.names.push(name);
        }
        remove_file(&path)?;
        crate::store::sync_directory_of(&path).during("sync", path.display())?;
        removed.images.push(image.id.clone());
        Ok(())
    }

    /// Removes layers, patches and blobs that nothing needs.
    pub(crate) fn collect(&self, alone: Lock, removed: &mut Removed) -> Result<()> {
        let mut trash = Vec::new();
        let mut needed: HashSet<PathBuf> = HashSet::new();
        let mut blobs: HashSet<String> = HashSet::new();
        for record in self.names_in("images")? {
            let image = match self.read_image(&record) {
                // Nothing can be said about what a damaged record needs, so nothing is removed.
                Err(error @ Error::Damaged { .. }) => return Err(error),
                Err(_) => continue,
                Ok(image) => image,
            };
            needed.extend(image.needs().map(Path::to_owned));
            let layers = image.layers.iter();
            needed.extend(layers.map(|layer| Path::new("layers").join(layer.diff_id.digest())));
            let documents = [Some(&image.id), Some(&image.manifest), image.index.as_ref()];
            blobs.extend(documents.into_iter().flatten().map(|digest| digest.digest().to_owned()));
            blobs.extend(image.layers.iter().map(|layer| layer.blob.digest().digest().to_owned()));
        }
        for needs in self.snapshot_needs()? {
            needed.extend(needs.parts);
        }
        for layer in self.names_in("layers")? {
            if needed.contains(&Path::new("layers").join(&layer))
                || !self.remove_layer(&layer, removed, &mut trash)?
            {
                let forms = format!("layers/{layer}/blobs");
                blobs.extend(self.names_in(&forms)?);
            }
        }
        for chain in self.names_in("chains")? {
            let directory = Path::new("chains").join(&chain);
            if !needed.contains(&directory) {
                trash.extend(remove::set_aside(self, &self.root().join(directory))?);
            }
        }
        for blob in self.names_in("blobs/sha256")? {
            if !blobs.contains(&blob) {
                let path = self.path("blobs/sha256", &blob);
                removed.bytes += fs::metadata(&path).map_or(0, |metadata| metadata.len());
                remove_file(&path)?;
            }
        }
        drop(alone);
        for path in trash {
            remove::tree(&path).during("remove", path.display())?;
        }
        self.remove_left_overs()
    }

    /// Removes a layer unless somebody uses it; false if it stays.
    fn remove_layer(
        &self,
        layer: &str,
        removed: &mut Removed,
        trash: &mut Vec<PathBuf>,
    ) -> Result<bool> {
        let lock_path = self.path("locks", layer);
        let lock =
            Lock::attempt(&lock_path, Mode::Exclusive).during("lock", lock_path.display())?;
        let Some(_lock) = lock else { return Ok(false) };
        let path = self.path("layers", layer);
        if let Ok(record) = crate::layer::record::Record::read(&path) {
            removed.bytes += record.bytes;
        }
        trash.extend(remove::set_aside(self, &path)?);
        remove_file(&lock_path)?;
        removed.layers.push(layer.to_owned());
        Ok(true)
    }

    /// Removes what processes that are gone were making or removing.
    fn remove_left_overs(&self) -> Result<()> {
        for name in self.names_in("tmp")? {
            let path = self.path("tmp", &name);
            let layer = name.strip_prefix("layer-").filter(|layer| layer.len() == 64);
            if let Some(layer) = layer {
                let lock_path = self.path("locks", layer);
                let lock = Lock::attempt(&lock_path, Mode::Exclusive);
                if lock.during("lock", lock_path.display())?.is_some() {
                    remove::tree(&path).during("remove", path.display())?;
                    remove_file(&lock_path)?;
                }
            } else if name.starts_with("trash-") || is_old(&path) {
                remove::tree(&path).during("remove", path.display())?;
            }
        }
        Ok(())
    }

    fn remove_partials(&self, removed: &mut Removed) -> Result<()> {
        for name in self.names_in("partial")? {
            let path = self.path("partial", &name);
            let Ok(file) = fs::File::options().read(true).write(true).open(&path) else { continue };
            if Lock::of(&file, Mode::Exclusive, false).during("lock", path.display())? {
                removed.bytes += file.metadata().map_or(0, |metadata| metadata.len());
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Shared while something is recorded, exclusive while what is not recorded is removed.
    pub(crate) fn lock_store(&self, mode: Mode) -> Result<Lock> {
        self.make()?;
        let path = self.path("locks", "store");
        Lock::wait(&path, mode).during("lock", path.display())
    }
}

fn is_old(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    age.is_some_and(|age| age > LEFT_OVER)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.during("remove", path.display()),
    }
}
