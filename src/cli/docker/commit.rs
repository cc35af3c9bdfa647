//! `commit`, `export`, `import`, `unpack`, `repack`: containers and trees to images and back.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Read, Write},
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use registry::Reference;
use rootfs::Compression;
use runtime::Containers;
use serde_json::{Map, Value};

use super::signals;
use crate::{
    changes::{self, Change},
    cli::{Globals, Verb},
    images, launch, output, record,
    report::advise,
};

/// How a new image is described, shared by everything that makes one.
#[derive(Args, Clone, Debug)]
pub(super) struct NewImageArgs {
    /// What to say about it
    #[arg(short, long)]
    message: Option<String>,

    /// Change its configuration with an instruction of a Dockerfile, such as 'CMD ["sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<Change>,

    /// When it was made, in seconds since 1970 [env: SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<u64>,

    /// Which documents describe it
    #[arg(long, default_value = "oci", value_name = "FORMAT")]
    format: Format,

    /// How its layer is compressed: gzip, zstd or none, with :LEVEL
    #[arg(long, default_value = "gzip", value_name = "METHOD[:LEVEL]")]
    compression: CompressionFlag,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    /// The OCI image specification's
    Oci,
    /// Docker's schema 2
    Docker,
}

/// `gzip`, `zstd:19`, `none`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CompressionFlag(pub(super) Compression, pub(super) Option<i32>);

impl FromStr for CompressionFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (method, level) = match text.split_once(':') {
            Some((method, level)) => (method, Some(level)),
            None => (text, None),
        };
        let (method, levels) = match method {
            "gzip" => (Compression::Gzip, 0..=9),
            "zstd" => (Compression::Zstd, 1..=22),
            "none" | "uncompressed" => (Compression::None, 0..=0),
            _ => return Err(format!("{text:?} is none of gzip, zstd, none")),
        };
        let level = level.map(|level| {
            let number: Option<i32> = level.parse().ok().filter(|level| levels.contains(level));
            number.ok_or_else(|| {
                format!("{level:?} is no level: {} to {}", levels.start(), levels.end())
            })
        });
        Ok(Self(method, level.transpose()?))
    }
}

impl NewImageArgs {
    /// Calls `make` with what the arguments mean.
    pub(super) fn with<T>(
        &self,
        author: Option<String>,
        created_by: String,
        squash: bool,
        make: impl FnOnce(rootfs::NewImage<'_>) -> rootfs::Result<T>,
    ) -> anyhow::Result<T> {
        let seconds = changes::moment(self.timestamp)?;
        let mut configure = |config: &mut Map<String, Value>| {
            for change in &self.change {
                change.apply(config);
            }
        };
        let CompressionFlag(compression, level) = self.compression;
        Ok(make(rootfs::NewImage {
            created: changes::created(seconds),
            author,
            comment: self.message.clone(),
            created_by,
            platform: changes::platform(),
            format: match self.format {
                Format::Oci => rootfs::Format::Oci,
                Format::Docker => rootfs::Format::Docker,
            },
            compression: (compression, level),
            times: rootfs::Times {
                latest: seconds.and_then(|seconds| i64::try_from(seconds).ok()),
            },
            squash,
            configure: &mut configure,
        })?)
    }
}

/// Make an image of what a container changed
///
/// The same changes and the same --timestamp give the same image, byte for byte; files that are newer get
/// that time.
#[derive(Args, Debug)]
pub(super) struct Commit {
    /// Who made it
    #[arg(short, long)]
    author: Option<String>,

    /// Freeze the container meanwhile; --pause=false lets it go on
    #[arg(short, long, value_name = "BOOL", default_value_t = true, hide_default_value = true, hide_possible_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pause: bool,

    /// Put everything into one layer
    #[arg(short, long)]
    squash: bool,

    #[command(flatten)]
    new: NewImageArgs,

    /// Container, by name or id; the latest when none is named
    container: Option<String>,

    /// Name of the image
    name: Option<Reference>,
}

impl Verb for Commit {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let container = match &self.container {
            Some(container) => record::find(&globals.home, container)?,
            None => record::latest(&globals.home)?,
        };
        let snapshot = launch::snapshot(&store, &container)?;
        let containers = Containers::open(&globals.home.runroot)?;
        let running = signals::load(&containers, &container)?;
        let _frozen = match running {
            Some(running) if self.pause => Some(Frozen::freeze(running)?),
            _ => None,
        };
        let name = self.name.map(|name| name.to_string());
        let created_by = container.record.command.join(" ");
        let image = self.new.with(self.author, created_by, self.squash, |new| {
            store.commit(&snapshot, name.as_deref(), new)
        })?;
        output::line(&image.id)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A container that goes on when this is dropped, unless it was frozen before.
struct Frozen(Option<runtime::Container>);

impl Frozen {
    fn freeze(container: runtime::Container) -> anyhow::Result<Self> {
        if container.status()? == runtime::Status::Paused {
            return Ok(Self(None));
        }
        match container.pause() {
            Ok(()) => Ok(Self(Some(container))),
            Err(error) => Err(advise(
                format!("cannot freeze the container: {error}"),
                "--pause=false commits it while it goes on",
            )),
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(container) = self.0.take()
            && let Err(error) = container.resume()
        {
            log::warn!("the container stays frozen: {error}");
        }
    }
}

/// Write all files of a container, or of an image, as a tar archive
#[derive(Args, Debug)]
pub(super) struct Export {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Container or image, by name or id
    name: String,
}

impl Verb for Export {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let mut file: Box<dyn Write> = match &self.output {
            Some(path) => {
                let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
                Box::new(file.with_context(|| format!("cannot write {}", path.display()))?)
            }
            None if io::stdout().is_terminal() => {
                return Err(advise(
                    "an archive cannot go to a terminal",
                    "use -o FILE, or redirect the output",
                ));
            }
            None => Box::new(io::stdout().lock()),
        };
        match record::find(&globals.home, &self.name) {
            Ok(container) => store.export(&launch::snapshot(&store, &container)?, &mut file)?,
            Err(error) if record::is_missing(&error) => {
                let image = images::find(&store, &self.name)
                    .map_err(|other| if images::is_missing(&other) { error } else { other })?;
                store.export_image(&image, &mut file)?;
            }
            Err(error) => return Err(error),
        }
        file.flush().context("cannot write the archive")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Make an image of a tar archive
#[derive(Args, Debug)]
pub(super) struct Import {
    #[command(flatten)]
    new: NewImageArgs,

    /// The archive: a file, a URL, or - for standard input
    archive: String,

    /// Name of the image
    name: Option<Reference>,
}

impl Verb for Import {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let name = self.name.as_ref().map(Reference::to_string);
        let archive: Box<dyn Read + Send> = match self.archive.as_str() {
            "-" => Box::new(io::stdin()),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                images::Access::default().client()?.download(url)?
            }
            path => Box::new(File::open(path).with_context(|| format!("cannot read {path}"))?),
        };
        let created_by = format!("import {}", self.archive);
        let image = self
            .new
            .with(None, created_by, false, |new| store.import(archive, name.as_deref(), new))?;
        output::line(&image.id)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Copy all files of an image into a directory
#[derive(Args, Debug)]
pub(super) struct Unpack {
    /// Image, by name or id
    image: String,

    /// The directory; it is made, or must be empty
    directory: PathBuf,
}

impl Verb for Unpack {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let image = images::find(&store, &self.image)?;
        let directory = self.directory.display();
        fs::create_dir_all(&self.directory).with_context(|| format!("cannot make {directory}"))?;
        let mut entries =
            fs::read_dir(&self.directory).with_context(|| format!("cannot read {directory}"))?;
        if entries.next().is_some() {
            return Err(advise(format!("{directory} is not empty"), "choose another directory"));
        }
        store.unpack(&image, &self.directory)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Make an image of what was changed in a directory that `unpack` filled
#[derive(Args, Debug)]
pub(super) struct Repack {
    /// Who made it
    #[arg(short, long)]
    author: Option<String>,

    #[command(flatten)]
    new: NewImageArgs,

    /// Image that was unpacked, by name or id
    image: String,

    /// The directory
    directory: PathBuf,

    /// Name of the new image
    name: Option<Reference>,
}

impl Verb for Repack {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = globals.store()?;
        let image = images::find(&store, &self.image)?;
        let name = self.name.as_ref().map(Reference::to_string);
        let created_by = format!("repack {}", self.directory.display());
        let made = self.new.with(self.author, created_by, false, |new| {
            store.repack(&image, &self.directory, name.as_deref(), new)
        })?;
        output::line(&made.id)?;
        Ok(ExitCode::SUCCESS)
    }
}
