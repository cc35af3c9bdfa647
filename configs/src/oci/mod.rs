//! config.json ⇄ [`Spec`].

mod document;
mod hooks;
mod linux;
mod mounts;
mod process;
mod resources;
mod seccomp;
mod template;
pub mod vocabulary;
mod words;
mod write;

use std::path::{Path, PathBuf};

use crate::{Cgroup, CgroupDriver, Lowered, Problems, Resources, Spec, check, problems::Findings};
use document::Document;

pub use template::template;
pub(crate) use write::indented;
pub use write::write;

/// The version of the specification we follow.
pub const VERSION: &str = "1.3.0";

/// What a bundle's file does not say itself.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    /// The bundle's directory, absolute: relative paths begin here.
    pub directory: &'a Path,
    /// The container's id, which names a cgroup nobody named.
    pub id: &'a str,
    /// Who makes the cgroup.
    pub driver: CgroupDriver,
}

/// Lowers a config.json.
pub fn parse(text: &str, bundle: Bundle<'_>) -> Result<Lowered<Spec>, Problems> {
    let document: Document = read(text)?;
    let mut findings = Findings::default();
    let spec = lower(document, bundle, &mut findings);
    check::check(&spec, &mut findings);
    findings.finish(spec)
}

/// Lowers a `process` alone, as `exec --process` gets it.
pub fn parse_process(text: &str) -> Result<Lowered<crate::Process>, Problems> {
    let document = read(text)?;
    let mut findings = Findings::default();
    let process = process::lower(document, &mut findings);
    // The rules across fields are a Spec's.
    let spec = Spec { process: Some(process), ..Spec::default() };
    check::check(&spec, &mut findings);
    findings.finish(spec.process.unwrap_or_default())
}

/// Lowers `resources` alone, as `update --resources` gets them: what is absent stays as it is, so no
/// default device rules are added.
pub fn parse_resources(text: &str) -> Result<Lowered<Resources>, Problems> {
    let document = read(text)?;
    let mut findings = Findings::default();
    let resources = resources::lower(document, "", &mut findings);
    findings.finish(resources)
}

fn read<'t, D: serde::Deserialize<'t>>(text: &'t str) -> Result<D, Problems> {
    // serde_json bounds the depth, and refuses duplicate keys of ours (D-11).
    serde_json::from_str(text).map_err(|error| Problems::one("", error))
}

fn lower(document: Document, bundle: Bundle<'_>, findings: &mut Findings) -> Spec {
    let mut spec = Spec {
        hostname: filled(document.hostname),
        domainname: filled(document.domainname),
        annotations: document.annotations.unwrap_or_default(),
        ..Spec::default()
    };
    version(document.oci_version.as_deref(), findings);
    match document.root {
        Some(root) => {
            spec.root.path = beneath(bundle.directory, root.path.as_deref().unwrap_or_default());
            spec.root.read_only = root.readonly.unwrap_or_default();
            if root.path.is_none_or(|path| path.is_empty()) {
                findings.problem("root.path", "is missing");
            }
        }
        None => findings.problem("root", "is missing"),
    }
    spec.process = document.process.map(|process| process::lower(process, findings));
    spec.mounts = mounts::lower(document.mounts.unwrap_or_default(), bundle.directory, findings);
    let inside = spec.process.as_ref().map(|process| process.env.as_slice()).unwrap_or_default();
    spec.hooks = hooks::lower(document.hooks.unwrap_or_default(), inside, findings);
    linux::lower(document.linux.unwrap_or_default(), bundle, &mut spec, findings);
    spec
}

fn version(version: Option<&str>, findings: &mut Findings) {
    match version {
        Some(version) if version.starts_with("1.") => (),
        Some(version) if is_version(version) => {
            findings
                .warn("ociVersion", format_args!("{version:?} is read as if it were {VERSION}"));
        }
        Some(version) => {
            findings.problem("ociVersion", format_args!("{version:?} is no version"));
        }
        None => findings.problem("ociVersion", "is missing"),
    }
}

/// Three numbers, as semantic versions begin.
fn is_version(text: &str) -> bool {
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    numbers.split('.').filter(|number| number.parse::<u32>().is_ok()).count() == 3
}

/// Go writes an absent string as an empty one.
fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// A path of the bundle's author: relative ones begin at the bundle.
fn beneath(directory: &Path, path: &str) -> PathBuf {
    directory.join(path)
}

/// Where a cgroup is when the file does not say.
fn cgroup(path: Option<String>, bundle: Bundle<'_>, findings: &mut Findings) -> Cgroup {
    let path = match (filled(path), bundle.driver) {
        (Some(path), CgroupDriver::Systemd) => {
            if path.split(':').count() != 3 {
                let what = "with the systemd driver it is slice:prefix:name";
                findings.problem("linux.cgroupsPath", what);
            }
            path
        }
        (Some(path), CgroupDriver::Cgroupfs) => path,
        (None, CgroupDriver::Systemd) => format!("system.slice:crun-cargo:{}", bundle.id),
        (None, CgroupDriver::Cgroupfs) => format!("/{}", bundle.id),
    };
    Cgroup { path: path.into(), driver: bundle.driver, resources: Resources::default() }
}

#[cfg(test)]
mod tests;
