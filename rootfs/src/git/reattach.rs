//! A root filesystem whose repository is gone, with the store perhaps: made again around the files.

use std::{fs::File, io::Read, path::Path};

use super::{
    checkout,
    create::{self, Options, Unfinished, remember, write_file},
    error::{Error, Result},
    image::{Image, parse_branch},
    inode::Time,
    objects::Objects,
    pack::PackWriter,
    populate::{self, Target},
    repository::{GITFILE, Repository},
    scan,
};

/// Makes the branches of an image again for a directory that was its root filesystem. No file changes:
/// what differs from the branch is a change that was not committed.
pub(crate) fn reattach(image: &Image, directory: &Path, options: &Options) -> Result<Vec<String>> {
    let repository = Unfinished::new(Repository::create(&options.repositories, &options.program)?);
    let pack = PackWriter::create(&repository.objects())?;
    let mut parts = create::parts(image)?;
    let large = options.large.unwrap_or(u64::MAX);
    populate::pack(&mut parts, &Target { directory, pack: Some(&pack), large })?;
    let (_, branches, _) = create::write_history(&repository, image, parts, &pack)?;
    pack.finish()?;

    let shown = match shown_layer(directory) {
        None => branches.last(),
        Some(id) => {
            match branches.iter().find(|row| parse_branch(&row.0).is_some_and(|it| it.1 == id)) {
                None => return Err(Error::OtherImage { directory: directory.to_owned(), id }),
                found => found,
            }
        }
    };
    let refs = repository.refs();
    for (name, commit) in &branches {
        refs.set(&format!("refs/heads/{name}"), *commit)?;
    }
    if let Some((name, commit)) = shown {
        refs.set_head(name)?;
        let objects = Objects::open(&repository.objects())?;
        let state = checkout::unstamped(&repository, &objects, *commit)?;
        repository.write_exclude(&state.view)?;
        remember(&repository, &state, Time::default())?;
    }
    write_file(directory, GITFILE, repository.gitfile().as_bytes())?;
    log::warn!(
        "the repository of {} was gone: it was made again, and the files are as they were",
        directory.display()
    );
    repository.keep();
    Ok(branches.into_iter().map(|(name, _)| name).collect())
}

/// The layer that the file `json` names, if there is one.
fn shown_layer(directory: &Path) -> Option<String> {
    let path = directory.join("json");
    let opened = rustix::fs::openat(rustix::fs::CWD, path, scan::READ, rustix::fs::Mode::empty());
    let mut text = Vec::new();
    // The limit of a configuration (threat model, section 6).
    File::from(opened.ok()?).take(8 << 20).read_to_end(&mut text).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(json.get("id")?.as_str()?.to_owned())
}
