//! Memory of the process, raw: what somebody asked for, and no more than they allowed.
//!
//! It is read by `/proc/PID/mem` below the descriptor of the process's directory, so that it is of no other process even if the id is reused; the call
//! that does the same by process id could not promise that. A page that cannot be read becomes zeroes. What matters most comes first, because
//! a process may have more than is allowed.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::json;

use super::{
    collect::Collection,
    patient::{CHUNK, Chunks, PATIENCE},
    process::{lines, read},
};

/// Bytes of the table of mappings that are read.
const MAPS_MAX: u64 = 16 << 20;

/// Smallest unit that is readable or not.
const PAGE: usize = 4_096;

/// Most regions that are taken.
const REGIONS_MAX: usize = 4_096;

/// Which memory. In the order in which it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Region {
    /// What can be executed and is of no file that has a name: code that was unpacked or injected.
    AnonymousExecutable,
    /// The stack of the first thread, with arguments and environment.
    Stack,
    /// The heap.
    Heap,
    /// All that can be written to.
    Writable,
}

impl Region {
    /// Its name, as the command line and the manifest have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AnonymousExecutable => "anonymous-executable",
            Self::Stack => "stack",
            Self::Heap => "heap",
            Self::Writable => "writable",
        }
    }
}

/// A line of `/proc/PID/maps`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    from: u64,
    to: u64,
    permissions: String,
    inode: u64,
    name: String,
}

impl Mapping {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = String::from_utf8_lossy(line);
        let mut fields = line.splitn(6, ' ');
        let (from, to) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?.to_owned();
        let inode = fields.nth(2)?.trim().parse().ok()?;
        let mapping = Self {
            from: u64::from_str_radix(from, 16).ok()?,
            to: u64::from_str_radix(to, 16).ok()?,
            permissions,
            inode,
            name: fields.next().unwrap_or_default().trim().to_owned(),
        };
        (mapping.from < mapping.to).then_some(mapping)
    }

    fn allows(&self, permission: char) -> bool {
        self.permissions.contains(permission)
    }

    /// What it is, if it is one of those that can be asked for. Devices are left alone: reading them may do something.
    fn region(&self) -> Option<Region> {
        let device = self.name.starts_with("/dev/") && !self.name.starts_with("/dev/shm/");
        let of_kernel = self.name.starts_with("[v");
        let nameless = self.inode == 0 || self.name.ends_with(" (deleted)");
        if (device && !self.name.starts_with("/dev/zero")) || of_kernel {
            return None;
        }
        match &*self.name {
            _ if self.allows('x') && nameless => Some(Region::AnonymousExecutable),
            "[stack]" => Some(Region::Stack),
            "[heap]" => Some(Region::Heap),
            _ if self.allows('w') => Some(Region::Writable),
            _ => None,
        }
    }
}

/// Takes what was asked for as `memory/FROM-TO`, and lists it as `memory.jsonl`.
pub(super) fn take(collection: &mut Collection) -> io::Result<()> {
    let wanted = collection.options.memory.clone();
    if wanted.is_empty() {
        return Ok(());
    }
    collection.step("memory")?;
    let opened = read(&collection.process, "maps", MAPS_MAX)
        .and_then(|maps| Ok((maps, Arc::new(collection.process.open_file("mem")?))));
    let ((maps, truncated), memory) = match opened {
        Ok(opened) => opened,
        Err(error) => return collection.lacks("memory.jsonl", &error),
    };
    let mut regions: Vec<(Region, Mapping)> = maps
        .split(|byte| *byte == b'\n')
        .filter_map(Mapping::parse)
        .filter_map(|mapping| Some((mapping.region()?, mapping)))
        // All that can be written to includes stack and heap, and code that can.
        .filter(|(region, mapping)| {
            wanted.contains(region) || (wanted.contains(&Region::Writable) && mapping.allows('w'))
        })
        .collect();
    regions.sort_by_key(|(region, mapping)| (*region, mapping.from));
    let mut left = collection.options.memory_limit;
    let mut listed = Vec::new();
    for (index, (region, mapping)) in regions.iter().enumerate() {
        let size = mapping.to - mapping.from;
        let allowed = if index < REGIONS_MAX {
            left.min(collection.out.left())
        } else {
            0
        };
        let taken = size.min(allowed);
        let mut unreadable = 0;
        if taken > 0 {
            left -= taken;
            unreadable = take_region(collection, &memory, mapping, taken)?;
        }
        listed.push(json!({
            "from": format!("{:#x}", mapping.from),
            "to": format!("{:#x}", mapping.to),
            "permissions": mapping.permissions,
            "name": mapping.name,
            "region": region.name(),
            "bytes": size,
            "taken": taken,
            "unreadable": unreadable,
        }));
    }
    collection.text("memory.jsonl", Ok((lines(listed.into_iter()), truncated)))
}

/// Returns how many bytes could not be read.
fn take_region(
    collection: &mut Collection,
    memory: &Arc<File>,
    mapping: &Mapping,
    size: u64,
) -> io::Result<u64> {
    let name = format!("memory/{:016x}-{:016x}", mapping.from, mapping.to);
    collection.step(&name)?;
    let unreadable = Arc::new(AtomicU64::new(0));
    let chunks = (!collection.is_stalled()).then(|| {
        let (memory, unreadable) = (Arc::clone(memory), Arc::clone(&unreadable));
        let (mut at, end) = (mapping.from, mapping.from + size);
        Chunks::of(PATIENCE, move || {
            let length = (end - at).min(CHUNK as u64) as usize;
            let mut chunk = vec![0; length];
            if length == 0 || !read_pages(&memory, at, &mut chunk, &unreadable) {
                return Ok(None);
            }
            at += length as u64;
            Ok(Some(chunk))
        })
    });
    let whole = mapping.to - mapping.from;
    let cut = (size < whole)
        .then(|| format!("the first {size} of {whole} bytes: the limit of memory or bundle was reached"));
    collection.stream(&name, size, chunks.transpose()?, cut)?;
    Ok(unreadable.load(Ordering::Relaxed))
}

/// Fills `chunk` from address `at`; what cannot be read stays zero and is counted. Whether the process is still there.
fn read_pages(memory: &File, at: u64, chunk: &mut [u8], unreadable: &AtomicU64) -> bool {
    if memory.read_exact_at(chunk, at).is_ok() {
        return true;
    }
    chunk.fill(0);
    let mut there = false;
    for (index, page) in chunk.chunks_mut(PAGE).enumerate() {
        match memory.read_at(page, at + (index * PAGE) as u64) {
            // No memory at all any more.
            Ok(0) => {}
            Ok(_) => there = true,
            Err(_) => {
                there = true;
                unreadable.fetch_add(page.len() as u64, Ordering::Relaxed);
            }
        }
    }
    there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_told_apart() {
        let cases = [
            (
                "7ffd0000-7ffd2000 rw-p 00000000 00:00 0                          [stack]",
                Some(Region::Stack),
            ),
            ("55d0-55e0 rw-p 00000000 00:00 0     [heap]", Some(Region::Heap)),
            (
                "1000-2000 rwxp 00000000 00:00 0 ",
                Some(Region::AnonymousExecutable),
            ),
            (
                "1000-2000 r-xp 00000000 00:01 77   /memfd:x (deleted)",
                Some(Region::AnonymousExecutable),
            ),
            ("1000-2000 r-xp 00000000 08:01 77   /usr/bin/cat", None),
            (
                "1000-2000 rw-p 00000000 08:01 77   /usr/bin/cat",
                Some(Region::Writable),
            ),
            ("1000-2000 rw-p 00000000 00:00 0", Some(Region::Writable)),
            ("1000-2000 rw-s 00000000 00:06 9    /dev/mem", None),
            ("1000-2000 r-xp 00000000 00:00 0    [vdso]", None),
            ("1000-2000 r--p 00000000 00:00 0", None),
        ];
        for (line, region) in cases {
            let mapping = Mapping::parse(line.as_bytes()).unwrap();
            assert_eq!(mapping.region(), region, "{line}");
        }
    }

    #[test]
    fn broken_lines_are_no_mappings() {
        for line in [
            "",
            "1000",
            "2000-1000 rw-p 0 00:00 0",
            "x-y rw-p 0 00:00 0",
            "1000-2000 rw-p 0 00:00 x",
        ] {
            assert_eq!(Mapping::parse(line.as_bytes()), None, "{line}");
        }
    }
}
