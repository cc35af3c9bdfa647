//! Finds rivals on this machine.

use std::{env, path::PathBuf};

/// The program of that name: from the variable of the same name in capitals (`CRUN=/opt/crun`), or PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let variable = name.to_uppercase().replace('-', "_");
    if let Some(path) = env::var_os(variable) {
        return Some(path.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The same as text, saying so when there is none.
pub(crate) fn named(name: &str) -> Option<String> {
    let found = find(name).and_then(|path| path.into_os_string().into_string().ok());
    if found.is_none() {
        println!("left out: {name}: not installed");
    }
    found
}
