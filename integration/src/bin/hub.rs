//! A registry with a Debian image in it, for `make demo`: prints the image's name and serves until killed.

use std::{io::Write, path::Path, process::ExitCode};

use integration::{Guard, Registry, debian};

fn main() -> ExitCode {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: hub DIRECTORY");
        return ExitCode::from(2);
    };
    let image = match debian() {
        Ok(image) => image,
        Err(reason) => {
            eprintln!("hub: cannot make a Debian image: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let registry = Registry::start(Path::new(&directory), Guard::None);
    let name = registry.push("library/debian:latest", &image.build());
    println!("{name}");
    if std::io::stdout().flush().is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        std::thread::park();
    }
}
