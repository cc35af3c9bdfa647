//! [`Spec`] → config.json.

mod linux;
mod process;

use std::path::Path;

use super::{VERSION, document, document::Document};
use crate::{
    Hook, IdMap, Lowered, Mount, MountSource, Problems, Spec, options, problems::Findings,
};

/// The document that lowers into this Spec, indented with tabs as runc's `spec` prints it. What the
/// format cannot say is a warning each.
pub fn write(spec: &Spec) -> Result<Lowered<String>, Problems> {
    let mut findings = Findings::default();
    unsayable(spec, &mut findings);
    let document = raise(spec, &mut findings);
    let text = indented(&document).map_err(|error| Problems::one("", error))?;
    findings.finish(text)
}

/// Tabs, as Go's tools write.
pub(crate) fn indented(document: &impl serde::Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    document.serialize(&mut serializer)?;
    // The serializer writes UTF-8 and nothing else.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unsayable(spec: &Spec, findings: &mut Findings) {
    let mut unless = |fine: bool, place: &str, what: &str| {
        if !fine {
            findings.warn(place, format_args!("config.json cannot say this: {what}"));
        }
    };
    unless(spec.interfaces.is_empty(), "networks", "give the network to a hook or an engine");
    unless(spec.routes.is_empty(), "routes", "give the network to a hook or an engine");
    unless(spec.root.overlay.is_none(), "root", "mount the layers first");
    unless(spec.parent_death_signal == 0, "parent_death_signal", "nobody else sets it");
    unless(!spec.no_pivot, "no_pivot_root", "pass --no-pivot to create or run");
    let commands = |mount: &Mount| !mount.before.is_empty() || !mount.after.is_empty();
    unless(!spec.mounts.iter().any(commands), "mounts", "commands before and after a mount");
}

fn raise(spec: &Spec, findings: &mut Findings) -> Document {
    Document {
        oci_version: Some(VERSION.to_owned()),
        process: spec.process.as_ref().map(|process| process::raise(process, findings)),
        root: Some(document::Root {
            path: Some(text(&spec.root.path)),
            readonly: spec.root.read_only.then_some(true),
        }),
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        mounts: filled(spec.mounts.iter().map(mount).collect()),
        hooks: hooks(&spec.hooks),
        annotations: (!spec.annotations.is_empty()).then(|| spec.annotations.clone()),
        linux: Some(linux::raise(spec)),
    }
}

/// A list that is there only when it has something in it.
fn filled<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn mount(mount: &Mount) -> document::Mount {
    let (kind, source, mut words) = match &mount.source {
        MountSource::Bind { path, recursive } => {
            let word = if *recursive { "rbind" } else { "bind" };
            ("bind".to_owned(), text(path), vec![word.to_owned()])
        }
        MountSource::Filesystem(filesystem) => {
            (filesystem.kind.clone(), filesystem.source.clone(), Vec::new())
        }
        MountSource::Cgroup => ("cgroup".to_owned(), "cgroup".to_owned(), Vec::new()),
        MountSource::Remount => {
            ("none".to_owned(), String::new(), vec!["remount".to_owned(), "bind".to_owned()])
        }
    };
    words.extend(options::attribute_words(mount.set, mount.clear, false));
    words.extend(options::attribute_words(mount.set_recursive, mount.clear_recursive, true));
    if let Some((kind, recursive)) = mount.propagation {
        words.push(options::propagation_word(kind, recursive));
    }
    if let MountSource::Filesystem(filesystem) = &mount.source {
        words.extend(options::superblock_words(filesystem.flags).map(str::to_owned));
        words.extend(filesystem.parameters.iter().map(|(key, value)| match value {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        }));
    }
    let id_map = mount.id_map.as_ref();
    for (said, word) in [
        (mount.copy_up, "tmpcopyup"),
        (mount.no_follow, "dest-nofollow"),
        (id_map.is_some_and(|map| map.recursive), "ridmap"),
        (id_map.is_some_and(|map| !map.recursive), "idmap"),
    ] {
        if said {
            words.push(word.to_owned());
        }
    }
    document::Mount {
        destination: Some(text(&mount.destination)),
        r#type: Some(kind),
        source: Some(source).filter(|source| !source.is_empty()),
        options: filled(words),
        uid_mappings: id_map.and_then(|map| filled(id_maps(&map.uids))),
        gid_mappings: id_map.and_then(|map| filled(id_maps(&map.gids))),
    }
}

fn id_maps(maps: &[IdMap]) -> Vec<document::IdMapping> {
    let write = |map: &IdMap| document::IdMapping {
        container_id: Some(map.container),
        host_id: Some(map.host),
        size: Some(map.size),
    };
    maps.iter().map(write).collect()
}

fn hooks(hooks: &crate::Hooks) -> Option<document::Hooks> {
    let list = |hooks: &[Hook]| filled(hooks.iter().map(hook).collect());
    (*hooks != crate::Hooks::default()).then(|| document::Hooks {
        prestart: list(&hooks.prestart),
        create_runtime: list(&hooks.create_runtime),
        create_container: list(&hooks.create_container),
        start_container: list(&hooks.start_container),
        poststart: list(&hooks.poststart),
        poststop: list(&hooks.poststop),
    })
}

fn hook(hook: &Hook) -> document::Hook {
    document::Hook {
        path: Some(text(&hook.path)),
        args: filled(hook.args.clone()),
        env: hook.env.clone(),
        timeout: hook.timeout.and_then(|timeout| i64::try_from(timeout.as_secs()).ok()),
    }
}
