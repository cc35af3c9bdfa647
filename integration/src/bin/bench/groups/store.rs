//! The store itself: verifying all of it, listing what is in it.

use super::image::with;
use crate::{
    measure::{Candidate, Rounds, shell},
    stage::Stage,
    table::{self, Goal},
};

pub(super) fn check(rounds: &Rounds) -> Result<(), String> {
    let mut stage = Stage::new()?;
    let image = stage.large()?;
    let ours = stage.ours("store");
    shell(&with(&ours, &["pull", "-q", &image]).join(" "))?;
    let store = stage.text("store");
    // openssl uses the processor's instructions for it, as we do.
    let hash = format!(
        "find {store}/layers {store}/blobs -type f -print0 | xargs -0 cat | openssl dgst -sha256"
    );
    let rows = rounds.slow().measure(&[
        Candidate::new("read and hash", ["sh", "-c", &hash]),
        Candidate::new("crun-cargo", with(&ours, &["check", "--progress", "none"])),
    ])?;
    table::print(&rows, "read and hash");
    table::judge(&rows, &[Goal { of: "crun-cargo", against: "read and hash", at_most: 1.2 }]);
    Ok(())
}

pub(super) fn images(rounds: &Rounds) -> Result<(), String> {
    let stage = Stage::new()?;
    let ours = stage.ours("store");
    let (file, archive) = (stage.text("file"), stage.text("tar"));
    shell(&format!("echo x > {file} && tar -cf {archive} {file}"))?;
    let import = with(&ours, &["import", "-c", "\"ENV N=$n\"", &archive, "image$n:1"]).join(" ");
    shell(&format!("for n in $(seq 1000); do {import} || exit 1; done"))?;
    let rows = rounds.measure(&[Candidate::new("crun-cargo", with(&ours, &["images"]))])?;
    table::print(&rows, "crun-cargo");
    let ms = rows.first().map_or(f64::NAN, |row| row.median() * 1e3);
    println!("\ngoal: a thousand images in ≤ 20 ms: {ms:.1} ms");
    Ok(())
}
