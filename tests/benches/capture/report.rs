//! The numbers, for people and for programs.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use crate::overhead::Overhead;

/// What was measured, in order. The keys are the names in the JSON file, and others compare them: they stay.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    notes: Vec<String>,
    lost: u64,
}

struct Figure {
    key: String,
    value: f64,
    wanted: &'static str,
}

impl Report {
    /// A number, and the limit that it is held to; an empty one where there is none.
    pub(crate) fn add(&mut self, key: &str, value: f64, wanted: &'static str) {
        self.figures.push(Figure {
            key: key.to_owned(),
            value,
            wanted,
        });
    }

    /// The median of ratios, and how far they lie apart.
    pub(crate) fn add_overhead(&mut self, key: &str, overhead: &Overhead, wanted: &'static str) {
        self.add(key, overhead.median(), wanted);
        self.add(&format!("{key}_spread"), overhead.spread(), "");
        let (low, high) = overhead.range();
        self.note(format!(
            "{key}: {low:.3} to {high:.3} in {} pairs; {} entries shed before the collector",
            overhead.ratios.len(),
            overhead.shed
        ));
        self.lost += overhead.lost;
    }

    /// Something that belongs to the numbers.
    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Events that the rings had no room for.
    pub(crate) fn add_lost(&mut self, lost: u64) {
        self.lost += lost;
    }

    /// Each number with the limit that it is held to, where there is one.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:<30}{:>14}  wanted\n", "measure", "value");
        let lost = Figure {
            key: "lost".to_owned(),
            value: self.lost as f64,
            wanted: "0",
        };
        for Figure { key, value, wanted } in self.figures.iter().chain([&lost]) {
            let _ = writeln!(text, "{}", format!("{key:<30}{value:>14.3}  {wanted}").trim_end());
        }
        text + &self.notes.join("\n")
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut values: Map<String, Value> = self
            .figures
            .iter()
            .map(|figure| (figure.key.clone(), figure.value.into()))
            .collect();
        values.insert("lost".to_owned(), self.lost.into());
        let text = serde_json::to_string_pretty(&values)?;
        std::fs::write(path, text + "\n").with_context(|| format!("could not write {}", path.display()))
    }
}
