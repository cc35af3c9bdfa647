//! container.json, every generation → [`Spec`]; and back.
//!
//! The generations differ in substance, not only in spelling. In the nested ones (2014) the process is in
//! the file and the system's mounts are implied; in the flat one (2015) the process comes from the
//! command line and mounts are explicit.

mod cgroup;
mod devices;
mod document;
mod fields;
mod flat;
mod generation;
mod json;
mod mounts;
mod nested;
mod network;
mod process;
mod seccomp;
mod template;
mod write;

use std::path::{Path, PathBuf};

use crate::{
    Lowered, NamespaceKind, Problems, Spec, check, defaults, oci::indented, problems::Findings,
};
use fields::Fields;
use generation::Generation;
use json::Json;

pub use document::Document;
pub use template::{CreateFlags, Level, NamespaceFlag, VethFlags, template};
pub use write::write;

/// What a container.json does not say itself.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// The caller's directory: the root of a file that names none.
    pub directory: PathBuf,
    /// A cgroup's name for a file that names none, unique to this container. (The old program used
    /// process 1's own cgroup then, and forbade the whole machine its devices.)
    pub unique_name: String,
    /// The root, whatever the file says: an image's.
    pub root: Option<PathBuf>,
    /// The caller's user and group, which a user namespace without maps maps to root.
    pub caller: (u32, u32),
    /// Whether systemd makes the cgroup.
    pub systemd: bool,
    /// Take the file as it is: no mounts and devices for what an old sample left out.
    pub strict: bool,
    /// What the command line says about the process.
    pub process: ProcessFlags,
}

/// `exec`'s flags about the process.
#[derive(Clone, Debug, Default)]
pub struct ProcessFlags {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `USER[:GROUP]`
    pub user: Option<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// `NAME=value`, added; later wins.
    pub env: Vec<String>,
    /// Allocate a terminal.
    pub tty: bool,
}

/// Lowers a container.json. An OCI document by that name works as well.
pub fn parse(text: &str, invocation: &Invocation) -> Result<Lowered<Spec>, Problems> {
    let document: Json = serde_json::from_str(text).map_err(|error| Problems::one("", error))?;
    let mut findings = Findings::default();
    let generation = Generation::of(&document, &mut findings);
    if generation == Generation::Oci {
        return oci(text, invocation);
    }
    let mut fields = Fields::of(document, "", &mut findings);
    let mut spec = match generation {
        Generation::Flat => flat::lower(&mut fields, invocation, &mut findings),
        _ => nested::lower(&mut fields, invocation, &mut findings),
    };
    fields.finish(&mut findings);
    if let Some(root) = &invocation.root {
        spec.root.path.clone_from(root);
    }
    defaults::leave_hosts_dev_alone(&mut spec);
    defaults::leave_out_unmapped_tty_group(&mut spec);
    if spec.namespaces.get(NamespaceKind::Mount).is_none() {
        without_mounts(&mut spec);
    }
    check::check(&spec, &mut findings);
    findings.finish(spec)
}

/// Another process for a container that runs: its first one, with what the command line says (D-29).
pub fn another_process(
    first: crate::Process,
    flags: &ProcessFlags,
) -> Result<crate::Process, Problems> {
    let mut findings = Findings::default();
    let mut process = crate::Process { args: flags.args.clone(), terminal: false, ..first };
    process::apply(&mut process, flags, &mut findings);
    findings.finish(process).map(|lowered| lowered.value)
}

/// Without a mount namespace of its own, the container sees the caller's tree as it is.
fn without_mounts(spec: &mut Spec) {
    spec.mounts.clear();
    spec.devices.clear();
    spec.dev_links = false;
    spec.masked_paths.clear();
    spec.read_only_paths.clear();
}

/// Whether a document is OCI's; one that is no JSON is nobody's.
pub fn is_oci(text: &str) -> bool {
    let document = serde_json::from_str(text);
    document.is_ok_and(|it| Generation::of(&it, &mut Findings::default()) == Generation::Oci)
}

/// `ociVersion` wins over everything; the command line still says what runs.
fn oci(text: &str, invocation: &Invocation) -> Result<Lowered<Spec>, Problems> {
    let driver = cgroup::driver(invocation);
    let bundle = crate::oci::Bundle {
        directory: &invocation.directory,
        id: &invocation.unique_name,
        driver,
    };
    let mut lowered = crate::oci::parse(text, bundle)?;
    let flags = &invocation.process;
    let process = lowered.value.process.get_or_insert_default();
    if !flags.args.is_empty() {
        process.args.clone_from(&flags.args);
    }
    let mut findings = Findings::default();
    process::apply(process, flags, &mut findings);
    if let Some(root) = &invocation.root {
        lowered.value.root.path.clone_from(root);
    }
    findings.finish(()).map(|_| lowered)
}

/// The loaded file as the first version's `config` printed it: encoded anew, without what is zero.
pub fn print(text: &str) -> Result<String, Problems> {
    let document: Json = serde_json::from_str(text).map_err(|error| Problems::one("", error))?;
    indented(&without_zeroes(document)).map_err(|error| Problems::one("", error))
}

fn without_zeroes(value: Json) -> Json {
    match value {
        Json::Object(entries) => Json::Object(
            entries
                .into_iter()
                .map(|(key, value)| (key, without_zeroes(value)))
                .filter(|(_, value)| !value.is_zero())
                .collect(),
        ),
        Json::List(items) => Json::List(items.into_iter().map(without_zeroes).collect()),
        other => other,
    }
}

/// A path of the file: relative ones begin at the caller's directory.
fn beneath(directory: &Path, path: &str) -> PathBuf {
    directory.join(path)
}

#[cfg(test)]
mod tests;
