//! `push`, `save`, `load`, `copy`: images to and from other places.

use std::{
    fs::{self, File},
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use configs::flags::Bytes;
use registry::{Platform, Reference, Source};
use rootfs::{Store, StoredImage};

use super::{
    access::{AccessArgs, ProgressArgs},
    commit::CompressionFlag,
};
use crate::{
    cli::{Globals, Verb, krgo},
    images::{self, Policy, Wanted},
    output,
    progress::Progress,
    report::advise,
    transfer::{self, Display},
};

/// Push an image to a registry, or into files
///
/// What the registry has already is not sent again. Besides registries, images can be written to
/// oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR and v1-static:DIR:NAME.
#[derive(Args, Debug)]
pub(super) struct Push {
    /// Push every tag of the repository that is here
    #[arg(short, long)]
    all_tags: bool,

    /// Compress the layers so: gzip, zstd or none, with :LEVEL; other bytes have another digest
    ///
    /// Layers that are compressed by this method stay as they are, unless a level is given.
    #[arg(long, value_name = "METHOD[:LEVEL]")]
    compression: Option<CompressionFlag>,

    /// Send no more than this in one request, for registries and proxies with a limit
    #[arg(long, value_name = "BYTES")]
    chunk: Option<Bytes>,

    /// Write the digest of what was pushed to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,

    /// Print nothing but the digest
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    progress: ProgressArgs,

    #[command(flatten)]
    access: AccessArgs,

    #[command(flatten)]
    layered: krgo::PushArgs,

    /// Image, by name or id
    image: String,

    /// Write a directory of this form: v1-static, what a registry of 2013 answers, for any web server to
    /// offer
    #[arg(long, value_name = "FORM", value_parser = ["v1-static"], requires = "destination")]
    to: Option<String>,

    /// Where to push it, when not to the place its name says
    #[arg(value_name = "DESTINATION", conflicts_with = "all_tags")]
    destination: Option<String>,
}

impl Verb for Push {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let progress = Progress::new(self.progress.progress, self.quiet);
        let mut access = self.access.clone().access();
        access.creds = access.creds.or_else(|| self.layered.creds());
        if self.layered.is_krgo() {
            return krgo::tell_push(&store, &self.image.parse()?, &access, &self.layered);
        }
        self.layered.name_image(&store, &self.image)?;
        let names =
            if self.all_tags { all_tags(&store, &self.image)? } else { vec![self.image.clone()] };
        let sending = transfer::Sending {
            compression: self.compression.map(|CompressionFlag(method, level)| (method, level)),
            chunk: self.chunk.map(|bytes| bytes.0),
        };
        let mut digest = None;
        for name in &names {
            let image = images::find(&store, name)?;
            let to = self.place(name)?;
            progress.say(&format!("{to}"));
            let pushed = transfer::push(&store, &image, &to, &access, sending, &progress)?;
            output::line(&pushed)?;
            digest = Some(pushed);
        }
        if let (Some(path), Some(digest)) = (&self.digestfile, digest) {
            fs::write(path, digest.to_string())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Push {
    /// Where an image goes that has this name here.
    fn place(&self, name: &str) -> anyhow::Result<Source> {
        match (&self.destination, &self.to) {
            (Some(directory), Some(form)) => Ok(format!("{form}:{directory}:{name}").parse()?),
            (Some(destination), None) => Ok(destination.parse()?),
            (None, _) => Ok(Source::Registry(name.parse()?)),
        }
    }
}

/// The names here that differ only in their tag.
fn all_tags(store: &Store, typed: &str) -> anyhow::Result<Vec<String>> {
    let wanted = typed.parse::<Reference>()?.name();
    let names = store.images()?.into_iter().filter_map(|image| image.name);
    let is_wanted =
        |name: &String| name.parse::<Reference>().is_ok_and(|reference| reference.name() == wanted);
    let names: Vec<String> = names.filter(is_wanted).collect();
    if names.is_empty() {
        return Err(advise(
            format!("no tag of {wanted} is here"),
            "`crun-cargo images` lists what is here",
        ));
    }
    Ok(names)
}

/// Write images into an archive
#[derive(Args, Debug)]
pub(super) struct Save {
    /// Write to this file, or directory, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What to write
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    format: Format,

    /// Print nothing
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    progress: ProgressArgs,

    /// Images, by name or id
    #[arg(required = true)]
    image: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    /// What docker writes and loads
    DockerArchive,
    /// An OCI image layout in a tar file
    OciArchive,
    /// An OCI image layout in a directory
    OciDir,
    /// Manifest and blobs as plain files
    Dir,
}

impl Verb for Save {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let mut chosen: Vec<(StoredImage, Vec<String>)> = Vec::new();
        for typed in &self.image {
            let image = images::find(&store, typed)?;
            // An image that was named by its id stays without a name.
            let name = typed.parse::<Reference>().ok().map(|reference| reference.to_string());
            let name = name.filter(|name| store.image(name).is_ok());
            match chosen.iter_mut().find(|(known, _)| known.manifest == image.manifest) {
                Some((_, names)) => names.extend(name),
                None => chosen.push((image, name.into_iter().collect())),
            }
        }
        let progress = Progress::new(self.progress.progress, self.quiet);
        let access = images::Access::default();
        if let Some(path) = self.output {
            transfer::save(&store, &chosen, &self.format.to(path), &access, &progress)?;
            return Ok(ExitCode::SUCCESS);
        }
        if io::stdout().is_terminal() || matches!(self.format, Format::OciDir | Format::Dir) {
            return Err(advise(
                "an archive cannot go to a terminal, nor a directory to standard output",
                "use -o FILE, or redirect the output",
            ));
        }
        // An archive appears under its name when it is complete, so it needs one for a while.
        let directory =
            tempfile::tempdir_in(&globals.home.root).context("cannot make a directory")?;
        let path = directory.path().join("archive");
        transfer::save(&store, &chosen, &self.format.to(path.clone()), &access, &progress)?;
        let mut file = File::open(&path).context("cannot read the archive again")?;
        io::copy(&mut file, &mut io::stdout().lock())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Format {
    fn to(self, path: PathBuf) -> Source {
        match self {
            Self::DockerArchive => Source::DockerArchive { file: path, name: None },
            Self::OciArchive => Source::OciArchive { file: path, tag: None },
            Self::OciDir => Source::OciLayout { directory: path, tag: None },
            Self::Dir => Source::Directory(path),
        }
    }
}

/// Load images from an archive that docker, podman or crun-cargo saved
///
/// The archive may be compressed with gzip or zstd. A directory with an OCI image layout can be loaded, too.
#[derive(Args, Debug)]
pub(super) struct Load {
    /// Read this file instead of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Print only the names
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    progress: ProgressArgs,
}

impl Verb for Load {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        crate::home::make_private_directory(&globals.home.root)
            .with_context(|| format!("cannot make {}", globals.home.root.display()))?;
        let root = &globals.home.root;
        let (path, _spooled) = match self.input {
            // What a layout holds is loaded as well.
            Some(path) if path.is_dir() => (path, None),
            Some(path) => {
                let doing = || format!("cannot read {}", path.display());
                let file = File::open(&path).with_context(doing)?;
                let spooled = transfer::spooled_if_compressed(file, root).with_context(doing)?;
                (spooled.as_ref().map_or(path, |file| file.path().to_owned()), spooled)
            }
            None if io::stdin().is_terminal() => {
                return Err(advise(
                    "there is no archive to read",
                    "use -i FILE, or redirect the input",
                ));
            }
            None => {
                let file = transfer::spool(io::stdin(), root)?;
                (file.path().to_owned(), Some(file))
            }
        };
        let access = images::Access::default();
        let progress = Progress::new(self.progress.progress, self.quiet);
        for source in access.client()?.images_in(&path)? {
            let name = source.to_string();
            let wanted = Wanted { source, platform: None, policy: Policy::Always, access: &access };
            let image = images::ensure(&store, &name, &wanted, &progress)?;
            let name = images::name_of(&wanted.source);
            output::line(format_args!("Loaded image: {} {}", images::familiar(&name), image.id))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Copy an image from one place to another, without unpacking it
#[derive(Args, Debug)]
pub(super) struct Copy {
    /// Copy only this variant of an image that has several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Log in to the source with these credentials
    #[arg(long, value_name = "USER[:PASSWORD]")]
    src_creds: Option<String>,

    /// Log in to the destination with these credentials
    #[arg(long, value_name = "USER[:PASSWORD]")]
    dest_creds: Option<String>,

    /// Print nothing but the digest
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    progress: ProgressArgs,

    #[command(flatten)]
    access: AccessArgs,

    /// Where from
    source: Source,

    /// Where to
    destination: Source,
}

impl Verb for Copy {
    fn run(self, _: &Globals) -> anyhow::Result<ExitCode> {
        let access = self.access.access();
        let with = |creds: Option<String>| images::Access {
            creds: creds.or_else(|| access.creds.clone()),
            ..access.clone()
        };
        let progress = Progress::new(self.progress.progress, self.quiet);
        let display = Display::new(&progress);
        let options = registry::Copy {
            platform: self.platform,
            progress: &|blob, sent| display.show(blob, sent),
            ..registry::Copy::default()
        };
        let from = with(self.src_creds).client()?;
        let to = with(self.dest_creds).client()?;
        let doing = || format!("cannot copy {} to {}", self.source, self.destination);
        let digest = registry::copy((&from, &self.source), (&to, &self.destination), &options)
            .with_context(doing)?;
        output::line(digest)?;
        Ok(ExitCode::SUCCESS)
    }
}
