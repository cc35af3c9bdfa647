//! Copies an image: `copy FROM TO [PLATFORM]`.

#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::time::Instant;

use registry::{Client, Copy, Options, copy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let from = words.next().ok_or("from where?")?.parse()?;
    let to = words.next().ok_or("to where?")?.parse()?;
    let platform = words.next().map(|text| text.parse()).transpose()?;
    let client = Client::new(Options::from_environment(&|name| std::env::var_os(name)))?;
    let started = Instant::now();
    let options = Copy { platform, ..Copy::default() };
    match copy((&client, &from), (&client, &to), &options) {
        Ok(digest) => println!("{digest} {:?}", started.elapsed()),
        Err(error) => return Err(format!("{error}: {error:?}").into()),
    }
    Ok(())
}
