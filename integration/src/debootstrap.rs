//! A Debian base image made from the machine's own package mirror.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Compression, Image, Layer};

/// The image, from a cache if it was made before; the reason why not otherwise.
pub fn debian() -> Result<Image, String> {
    let archive = cache().join("debian.tar");
    if !archive.is_file() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/debian-rootfs");
        let output = Command::new(script).arg(&archive).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
    }
    let tar = fs::read(&archive).map_err(|error| error.to_string())?;
    let layer = Layer { tar, compression: Compression::Gzip };
    Ok(Image::new(vec![layer]).set("Cmd", serde_json::json!(["bash"])))
}

/// Survives `cargo clean`, since making the image takes a minute.
fn cache() -> PathBuf {
    let place =
        std::env::var("CRUN_CARGO_CACHE").unwrap_or_else(|_| "/var/cache/crun-cargo".into());
    PathBuf::from(place)
}
