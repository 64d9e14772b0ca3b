//! Labelled data: gzip'd, tab-separated, with the header `split label trace symbols`. `split` is `train`, `calibrate`, `test` or
//! `unlabelled`; `label` is `normal` or the name of what is not; `symbols` are separated by spaces, in order.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use flate2::bufread::MultiGzDecoder;

/// What the name of a data file ends with.
pub(crate) const SUFFIX: &str = ".tsv.gz";

const HEADER: &str = "split\tlabel\ttrace\tsymbols";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    Train,
    Calibrate,
    Test,
    Unlabelled,
}

pub(crate) struct Trace {
    pub(crate) split: Split,
    pub(crate) normal: bool,
    pub(crate) name: String,
    /// Numbered in the order in which they first come in the file.
    pub(crate) symbols: Vec<u32>,
}

pub(crate) struct Dataset {
    pub(crate) traces: Vec<Trace>,
}

/// The name of the data set that a file holds.
pub(crate) fn name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(SUFFIX).unwrap_or(&name).to_owned()
}

impl Dataset {
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let place = || file.display().to_string();
        let reader = BufReader::new(File::open(file).with_context(place)?);
        let lines = BufReader::new(MultiGzDecoder::new(reader)).lines();
        let mut numbers = HashMap::new();
        let mut traces = Vec::new();
        for (index, line) in lines.enumerate() {
            let place = || format!("{}:{}", file.display(), index + 1);
            let line = line.with_context(|| format!("{}: not gzip'd text, or cut off", place()))?;
            if index == 0 {
                if line.trim_end() != HEADER {
                    bail!(
                        "{}: the header is not `split label trace symbols`, tab-separated",
                        place()
                    );
                }
            } else if !line.is_empty() {
                traces.push(parse(&line, &mut numbers).with_context(place)?);
            }
        }
        if traces.is_empty() {
            bail!("{}: no traces", file.display());
        }
        Ok(Self { traces })
    }

    pub(crate) fn of(&self, split: Split) -> impl Iterator<Item = &Trace> + Clone {
        self.traces.iter().filter(move |trace| trace.split == split)
    }

    /// By person, their labelled blocks in the order of time, if that is what this is: every trace of `test` is named after
    /// somebody of whom there is something in `train` (`NAME-NUMBER`), and there are several of them.
    pub(crate) fn people(&self) -> Option<BTreeMap<&str, Vec<&Trace>>> {
        let mut people: BTreeMap<&str, Vec<(u64, &Trace)>> = BTreeMap::new();
        let labelled = |trace: &&Trace| trace.split != Split::Unlabelled;
        for trace in self.traces.iter().filter(labelled) {
            let (person, number) = trace.name.rsplit_once('-')?;
            people
                .entry(person)
                .or_default()
                .push((number.parse().ok()?, trace));
        }
        let learned =
            |blocks: &Vec<(u64, &Trace)>| blocks.iter().any(|(_, block)| block.split == Split::Train);
        if people.len() < 2 || !people.values().all(learned) {
            return None;
        }
        let in_order = |mut blocks: Vec<(u64, _)>| {
            blocks.sort_by_key(|&(number, _)| number);
            blocks.into_iter().map(|(_, block)| block).collect()
        };
        Some(
            people
                .into_iter()
                .map(|(person, blocks)| (person, in_order(blocks)))
                .collect(),
        )
    }
}

fn parse(line: &str, numbers: &mut HashMap<String, u32>) -> Result<Trace> {
    let mut fields = line.split('\t');
    let mut field = |name: &str| fields.next().with_context(|| format!("no field `{name}`"));
    let split = match field("split")? {
        "train" => Split::Train,
        "calibrate" => Split::Calibrate,
        "test" => Split::Test,
        "unlabelled" => Split::Unlabelled,
        other => bail!("split `{other}` is none of train, calibrate, test, unlabelled"),
    };
    let normal = field("label")? == "normal";
    let name = field("trace")?.to_owned();
    let symbols: Vec<u32> = field("symbols")?
        .split_ascii_whitespace()
        .map(|symbol| {
            let next = numbers.len() as u32;
            *numbers.entry(symbol.to_owned()).or_insert(next)
        })
        .collect();
    if symbols.is_empty() {
        bail!("trace `{name}` has no symbols");
    }
    if fields.next().is_some() {
        bail!("more than four fields");
    }
    if !normal && matches!(split, Split::Train | Split::Calibrate) {
        bail!("trace `{name}` is to be learned but not labelled `normal`");
    }
    Ok(Trace {
        split,
        normal,
        name,
        symbols,
    })
}
