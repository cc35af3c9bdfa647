//! The rules of ARCHITECTURE.md that a machine can check.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The question to ask of a long file is in ARCHITECTURE.md; this is where asking ends.
const LONGEST: usize = 1000;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("integration/ is in the repository")
}

/// Our own Rust files, with their text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for place in ["src", "configs", "registry", "rootfs", "runtime", "integration"] {
        collect(&repository().join(place), "rs", &mut found);
    }
    assert!(found.len() > 50, "the sources are where this test looks");
    found
}

fn collect(directory: &Path, extension: &str, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).expect("a directory of the repository").flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            let text = fs::read_to_string(&path).expect("text");
            found.push((path.strip_prefix(repository()).expect("ours").to_owned(), text));
        }
    }
}

/// Lines that are code: neither comments nor in the test module at a file's end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line))
}

fn complain(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}\n  {}", broken.join("\n  "));
}

#[test]
fn crates_depend_on_each_other_as_drawn() {
    let drawn = BTreeMap::from([
        (".", BTreeSet::from(["configs", "registry", "rootfs", "runtime"])),
        ("configs", BTreeSet::new()),
        ("registry", BTreeSet::new()),
        ("rootfs", BTreeSet::from(["sys"])),
        ("runtime", BTreeSet::from(["configs", "sys"])),
        ("runtime/sys", BTreeSet::new()),
        ("integration", BTreeSet::new()),
    ]);
    let crates = ["configs", "registry", "rootfs", "runtime", "sys"];
    for (place, expected) in drawn {
        let manifest = fs::read_to_string(repository().join(place).join("Cargo.toml")).unwrap();
        let start = manifest.find("\n[dependencies]").expect("a table of dependencies");
        let table = &manifest[start + 1..];
        let table = &table[..table[1..].find("\n[").map_or(table.len(), |end| end + 1)];
        let names = table.lines().filter_map(|line| line.split([' ', '.', '=']).next());
        let actual: BTreeSet<_> = names.filter(|name| crates.contains(name)).collect();
        assert_eq!(actual, expected, "dependencies of {place}");
    }
}

#[test]
fn unsafe_code_is_in_sys_only() {
    let broken: Vec<_> = sources()
        .iter()
        .filter(|(path, _)| !path.starts_with("runtime/sys"))
        .flat_map(|(path, text)| {
            code(text)
                .filter(|(_, line)| {
                    let word = concat!("uns", "afe");
                    line.contains(&format!("{word} {{")) || line.contains(&format!("{word} fn"))
                })
                .map(|(number, _)| format!("{}:{number}", path.display()))
                .collect::<Vec<_>>()
        })
        .collect();
    complain(&broken, "only runtime/sys may be unsafe");
    for place in ["configs", "registry", "rootfs", "runtime", "."] {
        let manifest = fs::read_to_string(repository().join(place).join("Cargo.toml")).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{place}: the workspace's lints forbid unsafe code"
        );
    }
}

#[test]
fn command_lines_make_no_system_calls() {
    let words = ["nix::", "libc::", "rustix::", "sys::"];
    let broken: Vec<_> = sources()
        .iter()
        .filter(|(path, _)| path.starts_with("src/cli"))
        .flat_map(|(path, text)| {
            code(text)
                .filter(|(_, line)| {
                    words.iter().any(|word| {
                        line.find(word).is_some_and(|at| {
                            !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                        })
                    })
                })
                .map(|(number, line)| format!("{}:{number}: {}", path.display(), line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    complain(&broken, "nothing under src/cli mentions nix, libc, rustix or sys");
}

#[test]
fn every_file_says_what_it_is_for() {
    let broken: Vec<_> = sources()
        .iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path.display().to_string())
        .collect();
    complain(&broken, "a file opens with a `//!` line");
}

#[test]
fn no_file_is_endless() {
    let broken: Vec<_> = sources()
        .iter()
        .map(|(path, text)| (path, code(text).last().map_or(0, |(number, _)| number)))
        .filter(|(_, length)| *length > LONGEST)
        .map(|(path, length)| format!("{}: {length} lines", path.display()))
        .collect();
    complain(&broken, "a file is one idea");
}

#[test]
fn no_module_is_a_drawer() {
    let drawers = ["util", "utils", "helpers", "common", "misc", "manager", "handler"];
    let broken: Vec<_> = sources()
        .iter()
        .filter(|(path, _)| {
            path.iter()
                .filter_map(|part| part.to_str())
                .any(|part| drawers.contains(&part.trim_end_matches(".rs")))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    complain(&broken, "what has no better name has no home yet");
}

#[test]
fn every_exception_has_a_reason() {
    let broken: Vec<_> = sources()
        .iter()
        .flat_map(|(path, text)| {
            let lines: Vec<_> = text.lines().collect();
            let starts = lines.iter().enumerate().filter(|(_, line)| {
                let line = line.trim_start();
                line.starts_with("#[allow(") || line.starts_with("#![allow(")
            });
            starts
                .filter(|(number, _)| {
                    let attribute = lines[*number..(*number + 12).min(lines.len())].join("\n");
                    let end = attribute.find(")]").unwrap_or(attribute.len());
                    !attribute[..end].contains("reason")
                })
                .map(|(number, _)| format!("{}:{}", path.display(), number + 1))
                .collect::<Vec<_>>()
        })
        .collect();
    complain(&broken, "an allow needs a reason");
}

#[test]
fn to_do_notes_name_an_issue() {
    let note = concat!("TO", "DO");
    let broken: Vec<_> = sources()
        .iter()
        .flat_map(|(path, text)| {
            text.lines()
                .enumerate()
                .filter(|(_, line)| line.contains(note) && !line.contains('#'))
                .map(|(number, _)| format!("{}:{}", path.display(), number + 1))
                .collect::<Vec<_>>()
        })
        .collect();
    complain(&broken, "a note about work to do names its issue");
}

/// A fresh clone passes without anything outside of it.
#[test]
fn nothing_refers_to_the_place_it_was_made_in() {
    let outside = [concat!("../", "shared"), concat!("/wo", "rk/wt"), concat!("/wo", "rk/main")];
    let mut files = sources();
    for extension in ["toml", "md", "sh", "json", "yml"] {
        for place in ["src", "configs", "registry", "rootfs", "runtime", "integration", "docs"] {
            collect(&repository().join(place), extension, &mut files);
        }
    }
    for name in
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "Makefile", "Cargo.toml", ".ci/run"]
    {
        let text = fs::read_to_string(repository().join(name)).unwrap_or_default();
        files.push((name.into(), text));
    }
    let broken: Vec<_> = files
        .iter()
        .filter(|(_, text)| outside.iter().any(|place| text.contains(place)))
        .map(|(path, _)| path.display().to_string())
        .collect();
    complain(&broken, "the repository stands alone");
}

/// Every file the table "Where do I change …?" sends a reader to is there.
#[test]
fn the_table_of_places_is_true() {
    let text = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let mut broken = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        for word in line.split('`').skip(1).step_by(2) {
            let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let is_path = word.contains('/') && plain && !word.starts_with('/');
            if is_path && !repository().join(word).exists() {
                broken.push(word.to_owned());
            }
        }
    }
    complain(&broken, "ARCHITECTURE.md names places that are not there");
}
