//! `layers`: a picture of an image in the terminal.

use std::process::ExitCode;

use clap::Args;
use rootfs::{FileSize, LayerContents, Store, StoredImage};
use serde_json::json;

use crate::{
    cli::{Globals, Verb},
    images, output,
    progress::bytes,
    report::printable,
};

/// The longest bar.
const WIDTH: u64 = 30;

/// Show where an image's bytes are: its layers, what made them, their largest files, and what is wasted
#[derive(Args, Debug)]
pub(super) struct Layers {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// How many of the largest files to show for each layer
    #[arg(short = 'n', long, default_value_t = 3, value_name = "COUNT")]
    files: usize,

    /// Image, by name or id
    image: String,
}

impl Verb for Layers {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let store = Store::open(&globals.home.root)?;
        let image = images::find(&store, &self.image)?;
        let layers = store.contents(&image, self.files)?;
        let makers = makers(&image)?;
        let layers: Vec<(LayerContents, String)> = layers.into_iter().zip(makers).collect();
        if self.json {
            let rows: Vec<_> = layers.iter().map(|(layer, by)| document(layer, by)).collect();
            output::line(serde_json::to_string_pretty(&rows)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let total: u64 = layers.iter().map(|(layer, _)| layer.size).sum();
        let compressed: u64 = layers.iter().map(|(layer, _)| layer.compressed_size).sum();
        let wasted: u64 = layers.iter().map(|(layer, _)| layer.wasted).sum();
        output::line(format_args!(
            "{}: {} layers, {} in files, {} to transfer",
            printable(&self.image),
            layers.len(),
            bytes(total),
            bytes(compressed)
        ))?;
        let longest = layers.iter().map(|(layer, _)| layer.size).max().unwrap_or(0);
        for (number, (layer, by)) in (1..).zip(&layers) {
            print(number, layer, by, longest)?;
        }
        if wasted > 0 {
            output::line(format_args!("\nwasted: {}", bytes(wasted)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(
    number: u32,
    layer: &LayerContents,
    created_by: &str,
    longest: u64,
) -> std::io::Result<()> {
    output::line(format_args!(
        "\n{number:>3} {:<30} {:>7}  {}",
        bar(layer.size, longest),
        bytes(layer.size),
        shortened(created_by)
    ))?;
    for file in &layer.biggest {
        let path = file.path.to_string_lossy();
        output::line(format_args!("{:>42}  {}", bytes(file.size), printable(&path)))?;
    }
    if layer.wasted > 0 {
        let names: Vec<_> =
            layer.biggest_wasted.iter().map(|file| file.path.to_string_lossy()).collect();
        let names = names.join(", ");
        output::line(format_args!("{:>42}  wasted: {}", bytes(layer.wasted), printable(&names)))?;
    }
    Ok(())
}

/// In eighths of a character.
fn bar(size: u64, longest: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = u128::from(size) * u128::from(WIDTH) * 8 / u128::from(longest.max(1));
    let whole = usize::try_from(eighths / 8).unwrap_or(0);
    let rest = usize::try_from(eighths % 8).unwrap_or(0);
    format!("{}{}", "█".repeat(whole), EIGHTHS.get(rest).unwrap_or(&""))
}

fn shortened(text: &str) -> String {
    let text = text.replace("/bin/sh -c #(nop) ", "").replace(['\n', '\t'], " ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    let shown: String = text.chars().take(60).collect();
    let end = if text.chars().count() > 60 { "…" } else { "" };
    printable(&format!("{shown}{end}")).into_owned()
}

/// What made each layer, as the image's history tells.
fn makers(image: &StoredImage) -> anyhow::Result<Vec<String>> {
    let configuration = image.configuration()?;
    let steps = configuration.history().iter().flatten();
    let steps = steps.filter(|step| step.empty_layer() != Some(true));
    let known = steps.map(|step| step.created_by().clone().unwrap_or_default());
    Ok(known.chain(std::iter::repeat(String::new())).take(image.layers.len()).collect())
}

fn document(layer: &LayerContents, created_by: &str) -> serde_json::Value {
    let files = |list: &[FileSize]| {
        let row =
            |file: &FileSize| json!({ "path": file.path.to_string_lossy(), "size": file.size });
        list.iter().map(row).collect::<Vec<_>>()
    };
    json!({
        "diffId": layer.diff_id.to_string(),
        "createdBy": created_by,
        "size": layer.size,
        "compressedSize": layer.compressed_size,
        "entries": layer.entries,
        "biggest": files(&layer.biggest),
        "wasted": layer.wasted,
        "biggestWasted": files(&layer.biggest_wasted),
    })
}
