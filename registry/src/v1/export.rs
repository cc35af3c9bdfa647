//! An image as the files that a registry of 2013 would answer with: any web server, mount point or ssh login
//! can offer them.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use oci_spec::image::ImageManifest;
use serde_json::{Map, Value, json};

use super::push::{Link, chain, newest, open, read_config};
use crate::{
    Error, Progress, Push, Raw, Reference, Result,
    push::{read_block, unreadable},
    source::Place,
};

/// Writes an image. Layers that are there already stay; tags are written last, so that whoever reads meanwhile
/// sees whole images only.
pub(crate) fn export(
    place: &Place,
    name: &Reference,
    manifest: &Raw<ImageManifest>,
    push: &Push<'_>,
) -> Result<()> {
    let Place::Directory(directory) = place else {
        let problem = "it can only be read: write a directory, and copy it there";
        return Err(Error::Unsupported { place: place.to_string(), problem });
    };
    let tree = Tree(directory.join("v1"));
    let what = name.familiar();
    let config = read_config(manifest, push, &what)?;
    let links = chain(manifest, &config, &what)?;
    let last = newest(&links, &what)?;
    tree.write("_ping", b"true")?;
    for (number, link) in links.iter().enumerate() {
        tree.write_layer(link, push)?;
        let ancestors = links.get(..=number).unwrap_or_default().iter().rev();
        let ancestry: Vec<&str> = ancestors.map(|link| link.id.as_str()).collect();
        tree.write(&format!("images/{}/json", link.id), &link.json)?;
        tree.write_json(&format!("images/{}/ancestry", link.id), &json!(ancestry))?;
    }
    let repository = format!("repositories/{}", name.repository());
    let tag = name.tag().unwrap_or("latest");
    let mut tags = tree.tags(&repository)?;
    tags.insert(tag.to_owned(), last.id.clone().into());
    let ids: Vec<Value> = tags.values().map(|id| json!({ "id": id })).collect();
    tree.write_json(&format!("{repository}/images"), &json!(ids))?;
    tree.write_json(&format!("{repository}/tags"), &Value::Object(tags))
}

/// The directory `v1`.
struct Tree(PathBuf);

impl Tree {
    /// The tags that are there already.
    fn tags(&self, repository: &str) -> Result<Map<String, Value>> {
        let path = self.0.join(repository).join("tags");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
            other => other.map_err(failed("read", &path))?,
        };
        crate::json::parse(&bytes, &path.display().to_string())
    }

    fn write_layer(&self, link: &Link, push: &Push<'_>) -> Result<()> {
        let path = self.0.join("images").join(&link.id).join("layer");
        let blob = &link.blob;
        if fs::metadata(&path).is_ok_and(|found| found.len() == blob.size()) {
            (push.progress)(blob, Progress::Exists);
            return Ok(());
        }
        let mut reader = open(push, blob)?;
        self.replace(&path, &mut |file| {
            let mut sent = 0;
            while let Some(block) = read_block(&mut *reader, blob.size() - sent, blob)? {
                file.write_all(&block).map_err(failed("write", &path))?;
                sent += u64::try_from(block.len()).unwrap_or_default();
                (push.progress)(blob, Progress::Sent(sent));
            }
            if sent == blob.size() {
                return Ok(());
            }
            Err(unreadable(io::ErrorKind::UnexpectedEof.into(), blob))
        })?;
        (push.progress)(blob, Progress::Done);
        Ok(())
    }

    fn write_json(&self, name: &str, value: &Value) -> Result<()> {
        self.write(name, value.to_string().as_bytes())
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.0.join(name);
        self.replace(&path, &mut |file| file.write_all(content).map_err(failed("write", &path)))
    }

    /// A file is there whole or not at all.
    fn replace(&self, path: &Path, fill: &mut dyn FnMut(&mut File) -> Result<()>) -> Result<()> {
        let parent = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(parent).map_err(failed("create", parent))?;
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}.partial", std::process::id()));
        let new = PathBuf::from(new);
        let mut file = File::create_new(&new).map_err(failed("create", &new))?;
        let filled =
            fill(&mut file).and_then(|()| fs::rename(&new, path).map_err(failed("write", path)));
        if filled.is_err() {
            // The error that brought us here is the one to report.
            let _ = fs::remove_file(&new);
        }
        filled
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { doing, path, source }
}
