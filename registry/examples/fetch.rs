//! Fetches an image's layers into nowhere: what the client itself costs, without unpacking.
//!
//! `fetch SOURCE [--creds USER:PASSWORD] [--insecure]`

#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::{io::Read, thread, time::Instant};

use registry::{Client, Options, Platform, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let source: Source = words.next().ok_or("which image?")?.parse()?;
    let mut options = Options::from_environment(&|name| std::env::var_os(name));
    while let Some(word) = words.next() {
        match word.as_str() {
            "--insecure" => options.tls_verify = false,
            "--creds" => options.credentials.given = Some(words.next().ok_or("whose?")?.parse()?),
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let started = Instant::now();
    let client = Client::new(options)?;
    let image = match client.resolve(&source, &Platform::default()) {
        Ok(image) => image,
        Err(error) => {
            let hint = error.hint().unwrap_or_default();
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            return Err(format!("{error}{}\nhint: {hint}", cause.unwrap_or_default()).into());
        }
    };
    println!("{} {} {} bytes", image.digest, image.manifest.media_type, image.size());
    thread::scope(|scope| {
        for layer in &image.layers {
            let (client, source) = (&client, &image.source);
            scope.spawn(move || {
                let mut buffer = vec![0; 128 << 10];
                let mut sum = 0;
                let mut reader = client.blob(source, &layer.descriptor, 0).expect("a blob");
                loop {
                    match reader.read(&mut buffer).expect("bytes") {
                        0 => break,
                        length => sum += length,
                    }
                }
                println!("{} {sum}", layer.descriptor.digest());
            });
        }
    });
    println!("{:?}", started.elapsed());
    Ok(())
}
