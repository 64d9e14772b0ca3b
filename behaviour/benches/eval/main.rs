//! How well the models tell attacks from what is normal, on labelled data: `cargo xtask eval` builds and runs this.
//!
//! Takes any folder of `*.tsv.gz` files in the format that [`data`] describes. What a file is, its content says: blocks of several
//! people in the order of time (masquerades), or traces of calls, of a service or of a whole host. The models learn
//! `train` and `calibrate`; thresholds are set by the scores of those, each left out in turn; `test` is only scored.
//! Everything random comes from a fixed seed.

mod alarms;
mod baselines;
mod data;
mod masquerades;
mod measures;
mod report;
mod traces;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use data::Dataset;
use report::Figures;

#[derive(Parser)]
struct Args {
    /// Folder of `*.tsv.gz` files.
    #[arg(long)]
    data: PathBuf,
    /// Where the figures go, as JSON.
    #[arg(long)]
    output: PathBuf,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let files = files(&args.data)?;
    let mut all = BTreeMap::new();
    report::head();
    for file in &files {
        match evaluate(file) {
            Ok(figures) => {
                let name = data::name(file);
                report::print(&name, &figures);
                all.insert(name, figures);
            }
            Err(error) => eprintln!("skipped {error:#}"),
        }
    }
    if all.is_empty() {
        bail!(
            "none of the {} files in {} could be evaluated",
            files.len(),
            args.data.display()
        );
    }
    let json = serde_json::to_string_pretty(&all)?;
    std::fs::write(&args.output, json + "\n")
        .with_context(|| format!("could not write {}", args.output.display()))?;
    println!("\nwritten to {}", args.output.display());
    Ok(())
}

fn evaluate(file: &Path) -> Result<Figures> {
    let dataset = Dataset::read(file)?;
    let figures = match dataset.people() {
        Some(people) => masquerades::evaluate(&dataset, &people),
        None => traces::evaluate(&dataset),
    };
    figures.with_context(|| file.display().to_string())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = || {
        format!(
            "could not list the data folder {}: is `--data` right?",
            folder.display()
        )
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(listing)? {
        let path = entry.with_context(listing)?.path();
        if path.to_string_lossy().ends_with(data::SUFFIX) {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("no file in {} ends in {}", folder.display(), data::SUFFIX);
    }
    files.sort();
    Ok(files)
}
