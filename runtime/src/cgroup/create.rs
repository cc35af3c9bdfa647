//! Making a container's cgroup directories.

use std::path::Path;

use rustix::{
    fs::{CWD, Mode, mkdirat},
    io::Errno,
};

use super::{
    Place,
    file::{read, read_line, try_read, try_write, write},
    place::Directory,
    remove,
};
use crate::{Error, Result};

pub(super) fn create(place: &Place) -> Result<()> {
    if place.legacy.is_empty() && place.unified.is_none() {
        return Err(Error::Unsupported(
            "no cgroup filesystem is mounted (use --cgroup-manager disabled to do without)".into(),
        ));
    }
    let mut made = Vec::new();
    place.directories().try_for_each(|directory| make(place, directory, &mut made)).inspect_err(
        |_| {
            for path in made.iter().rev() {
                // The error that brought us here is the one to report.
                if let Err(errno) = remove::rmdir(path) {
                    log::warn!("cannot remove the cgroup {}: {errno}", path.display());
                }
            }
        },
    )
}

/// Makes one directory; `made` is what there is to take away should something fail.
fn make<'a>(place: &Place, directory: &'a Directory, made: &mut Vec<&'a Path>) -> Result<()> {
    match make_directories(directory)? {
        Before::Alone => made.push(&directory.path),
        Before::HadParent => {
            made.push(&directory.path);
            refuse_frozen(directory)?;
        }
        Before::Existed => {
            refuse_inhabited(&directory.path)?;
            refuse_frozen(directory)?;
        }
    }
    if directory.has("cpuset") {
        inherit_cpuset(directory)?;
    }
    if place.is_unified() {
        delegate_controllers(directory)?;
    }
    Ok(())
}

/// What there was before a directory was made.
enum Before {
    /// Nothing but the root of the hierarchy.
    Alone,
    /// A parent that may be somebody's.
    HadParent,
    /// The directory itself.
    Existed,
}

/// Makes the directory, and its parents only when it turns out that one is missing.
fn make_directories(directory: &Directory) -> Result<Before> {
    let at_root = directory.path.parent() == Some(&directory.mount);
    match mkdir(&directory.path) {
        Ok(()) if at_root => return Ok(Before::Alone),
        Ok(()) => return Ok(Before::HadParent),
        Err(Errno::EXIST) => return Ok(Before::Existed),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed(&directory.path, errno)),
    }
    for parent in ancestors(directory) {
        match mkdir(parent) {
            Ok(()) if directory.has("cpuset") => {
                inherit(parent, &directory.mount)?;
                write(parent, "cgroup.clone_children", "1")?;
            }
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(parent, errno)),
        }
    }
    mkdir(&directory.path).map_err(|errno| failed(&directory.path, errno))?;
    Ok(Before::HadParent)
}

/// The directories between the mount point and the container's, outermost first.
fn ancestors(directory: &Directory) -> Vec<&Path> {
    let mut parents: Vec<&Path> = (directory.path.ancestors().skip(1))
        .take_while(|parent| *parent != directory.mount && !parent.as_os_str().is_empty())
        .collect();
    parents.reverse();
    parents
}

fn mkdir(path: &Path) -> Result<(), Errno> {
    mkdirat(CWD, path, Mode::from_raw_mode(0o755))
}

fn failed(path: &Path, errno: Errno) -> Error {
    Error::call(format!("make the cgroup {}", path.display()), errno)
}

/// Somebody else's cgroup would be limited, killed and removed along with the container.
fn refuse_inhabited(path: &Path) -> Result<()> {
    if read(path, "cgroup.procs")?.is_empty() {
        return Ok(());
    }
    let path = path.display();
    Err(Error::call(
        format!("the container's cgroup is not empty: {path} has processes already"),
        Errno::EXIST,
    ))
}

/// Whoever enters a frozen cgroup stands still, and cannot even be killed on version 1.
fn refuse_frozen(directory: &Directory) -> Result<()> {
    let frozen =
        |file, word: &str| try_read(&directory.path, file).is_ok_and(|state| state.contains(word));
    // The unified hierarchy has no name.
    let is_frozen = directory.has("freezer") && frozen("freezer.state", "FR")
        || directory.hierarchy.is_empty() && frozen("cgroup.events", "frozen 1");
    if !is_frozen {
        return Ok(());
    }
    let path = directory.path.display();
    Err(Error::Unsupported(format!("the container's cgroup unexpectedly frozen: {path}")))
}

/// A version 1 cpuset starts empty and nobody can enter it, cpuset(7), unless its parent says
/// `cgroup.clone_children`, which the parents we make do.
fn inherit_cpuset(directory: &Directory) -> Result<()> {
    if read_line(&directory.path, CPUS)?.is_empty() {
        inherit(&directory.path, &directory.mount)?;
    }
    Ok(())
}

const CPUS: &str = "cpuset.cpus";
const MEMS: &str = "cpuset.mems";

/// Copies processors and memory nodes from the parent, whose own may have to be copied first.
fn inherit(path: &Path, mount: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let mut cpus = read_line(parent, CPUS)?;
    if cpus.is_empty() && parent != mount {
        inherit(parent, mount)?;
        cpus = read_line(parent, CPUS)?;
    }
    write(path, CPUS, cpus)?;
    write(path, MEMS, read_line(parent, MEMS)?)
}

/// Version 2: a controller has to be handed down by every ancestor.
fn delegate_controllers(directory: &Directory) -> Result<()> {
    let available = read(&directory.path, "cgroup.controllers")?;
    if ["cpu", "memory", "pids"].iter().all(|name| has_word(&available, name)) {
        return Ok(());
    }
    let mut parents = ancestors(directory);
    parents.insert(0, &directory.mount);
    for parent in parents {
        let controllers = read(parent, "cgroup.controllers")?;
        hand_down(parent, &controllers);
    }
    Ok(())
}

/// Asks for all controllers at once, then for each: a kernel refuses `cpu` while there are realtime
/// processes, and everything below a cgroup that has processes. Whether one is missed is seen when
/// a limit needs it.
fn hand_down(parent: &Path, controllers: &str) {
    let enabled = try_read(parent, "cgroup.subtree_control").unwrap_or_default();
    let missing = || controllers.split_whitespace().filter(|name| !has_word(&enabled, name));
    let all: Vec<String> = missing().map(|name| format!("+{name}")).collect();
    if all.is_empty() || try_write(parent, "cgroup.subtree_control", &all.join(" ")).is_ok() {
        return;
    }
    for one in all {
        if let Err(errno) = try_write(parent, "cgroup.subtree_control", &one) {
            log::debug!("cgroup {}: {one}: {errno}", parent.display());
        }
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|each| each == word)
}
