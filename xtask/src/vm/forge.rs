//! Writes to a machine's memory behind its kernel's back, as an exploit of the kernel would, when a test in it asks for that.
//!
//! A line `vm: forge HEX` of what the machine says names bytes: eight ids as they lie in a `struct cred`, and what follows them
//! there. The machine's memory is memory of its emulator. Wherever the bytes are found in it, the ids are overwritten with
//! zeroes: root. Nothing but that process is touched.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

const IDS: usize = 32;
const CHUNK: usize = 4 << 20;
const PAGE: usize = 4096;

/// Serves the tests of one machine.
pub(crate) struct Forger {
    emulator: u32,
    log: PathBuf,
    served: usize,
}

impl Forger {
    /// For the machine of this emulator, which says what it says into `log`.
    pub(crate) fn new(emulator: u32, log: &Path) -> Self {
        Self {
            emulator,
            log: log.to_owned(),
            served: 0,
        }
    }

    /// Does what has been asked for since.
    pub(crate) fn serve(&mut self) -> Result<()> {
        let text = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        let Some(end) = text.rfind('\n').filter(|end| *end > self.served) else {
            return Ok(());
        };
        let lines = text.get(self.served..end).unwrap_or_default();
        for line in lines.lines() {
            if let Some(wanted) = line.strip_prefix("vm: forge ").and_then(bytes) {
                self.forge(&wanted)
                    .context("could not write to the machine's memory")?;
            }
        }
        self.served = end;
        Ok(())
    }

    fn forge(&self, wanted: &[u8]) -> Result<()> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.emulator))?;
        let memory = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{}/mem", self.emulator))?;
        let (start, end) = largest(&maps).context("the emulator has no memory")?;
        let mut chunk = vec![0; CHUNK + wanted.len()];
        let mut at = start;
        while at < end {
            // A `struct cred` may lie across two chunks.
            let length = chunk.len().min((end - at) as usize);
            memory.read_exact_at(&mut chunk[..length], at)?;
            for found in find(&chunk[..length], wanted) {
                memory.write_all_at(&[0; IDS], at + found as u64)?;
            }
            at += CHUNK as u64;
        }
        Ok(())
    }
}

/// What is allocated by the kernel is aligned to four bytes at least. Most of a machine's memory was never written to: such pages are
/// passed over at once.
fn find<'a>(memory: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let pages = memory
        .chunks(PAGE)
        .enumerate()
        .filter(|(_, page)| *page != &[0; PAGE][..page.len()]);
    pages.flat_map(move |(index, page)| {
        let words = page
            .chunks_exact(4)
            .enumerate()
            .filter(|(_, word)| *word == &wanted[..4]);
        words
            .map(move |(word, _)| index * PAGE + word * 4)
            .filter(|at| memory[*at..].starts_with(wanted))
    })
}

/// The largest mapping that can be written to: a line is `START-END rw-p …`.
fn largest(maps: &str) -> Option<(u64, u64)> {
    let ranges = maps
        .lines()
        .filter(|line| line.contains(" rw"))
        .filter_map(|line| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            Some((
                u64::from_str_radix(start, 16).ok()?,
                u64::from_str_radix(end, 16).ok()?,
            ))
        });
    ranges.max_by_key(|(start, end)| end - start)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let hex = hex.trim();
    let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes = (0..hex.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
    (bytes.len() > IDS).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_found() {
        let wanted: Vec<u8> = (1..=36).collect();
        let hex: String = wanted.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(bytes(&format!("{hex}\r")), Some(wanted.clone()));
        assert_eq!((bytes("0102"), bytes("xy")), (None, None));
        let memory = [&[0; 8][..], &wanted, &[1, 2, 3, 4], &wanted].concat();
        assert_eq!(find(&memory, &wanted).collect::<Vec<_>>(), [8, 48]);
        let maps = "1000-3000 rw-p 0 00:00 0\n4000-9000 r-xp 0 00:00 0 /x\na000-d000 rw-p 0 00:00 0\n";
        assert_eq!(largest(maps), Some((0xa000, 0xd000)));
    }
}
