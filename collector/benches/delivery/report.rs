//! Numbers, in a file that other benchmarks write too.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

pub(crate) struct Report {
    path: PathBuf,
    numbers: BTreeMap<String, serde_json::Value>,
}

impl Report {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let numbers = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            path: path.to_owned(),
            numbers,
        })
    }

    pub(crate) fn number(&mut self, name: &str, value: f64) {
        let value = (value * 100.0).round() / 100.0;
        println!("{name} {value}");
        self.numbers.insert(name.to_owned(), value.into());
    }

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        fs::write(&self.path, serde_json::to_vec_pretty(&self.numbers)?)?;
        Ok(())
    }
}
