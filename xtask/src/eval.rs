//! `cargo xtask eval`: how well the models do on labelled data. The evaluation itself is a benchmark of the models' crate.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::cargo;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of labelled data: every `*.tsv.gz` in it, gzip'd and tab-separated with the header
    /// `split label trace symbols`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    // Cargo runs the benchmark elsewhere.
    let data =
        std::path::absolute(&args.data).with_context(|| format!("{} is not a path", args.data.display()))?;
    if !data.is_dir() {
        bail!(
            "{} is not a folder: `--data` names the one with the `*.tsv.gz` files",
            data.display()
        );
    }
    let folder = cargo::target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let mut eval = cargo::cargo(None);
    eval.args([
        "bench",
        "-p",
        "sensor-behaviour",
        "--bench",
        "eval",
        "--",
        "--data",
    ]);
    eval.arg(data).arg("--output").arg(folder.join("eval.json"));
    cargo::run(&mut eval)
}
