//! What the process has open: paths, positions and flags, not contents.

use std::{collections::HashMap, io};

use rustix::fs::FileType;
use serde_json::json;

use super::{
    collect::Collection,
    process::{lines, lossy},
};
use crate::host::proc::{ProcDir, socket_inode};

/// Most descriptors that are looked at.
const DESCRIPTORS_MAX: usize = 65_536;

/// Which descriptors lead to which socket, by inode.
pub(super) type Sockets = HashMap<u64, Vec<u32>>;

/// Lists them as `descriptors.jsonl`.
pub(super) fn list(collection: &mut Collection) -> io::Result<Sockets> {
    collection.step("descriptors")?;
    let mut sockets = Sockets::new();
    let numbers = match collection.process.numbers("fd", DESCRIPTORS_MAX) {
        Ok(numbers) => numbers,
        Err(error) => {
            collection.lacks("descriptors.jsonl", &error)?;
            return Ok(sockets);
        }
    };
    let described = numbers.iter().filter_map(|number| {
        let path = collection.process.link(&format!("fd/{number}")).ok()?;
        if let Some(inode) = socket_inode(&path) {
            sockets.entry(inode).or_default().push(*number);
        }
        Some(describe(&collection.process, *number, &path))
    });
    let described = lines(described);
    let all = (numbers.len() >= DESCRIPTORS_MAX).then(|| format!("the first {DESCRIPTORS_MAX} descriptors"));
    collection.text("descriptors.jsonl", Ok((described, all)))?;
    Ok(sockets)
}

fn describe(process: &ProcDir, number: u32, path: &[u8]) -> serde_json::Value {
    let info = process
        .read(&format!("fdinfo/{number}"), 4_096)
        .unwrap_or_default();
    let flags = field(&info, "flags:").and_then(|text| u32::from_str_radix(text, 8).ok());
    let position = field(&info, "pos:").and_then(|text| text.parse::<u64>().ok());
    let about = process.about(&format!("fd/{number}")).ok();
    json!({
        "descriptor": number,
        "path": lossy(path),
        "access": flags.map(access),
        "flags": flags.map(|flags| format!("{flags:#o}")),
        "position": position,
        "kind": about.map(|about| kind(FileType::from_raw_mode(about.stx_mode.into()))),
        "size": about.map(|about| about.stx_size),
        "inode": about.map(|about| about.stx_ino),
        "device": about.map(|about| format!("{}:{}", about.stx_dev_major, about.stx_dev_minor)),
        "deleted": about.map(|about| about.stx_nlink == 0),
    })
}

fn field<'a>(info: &'a [u8], name: &str) -> Option<&'a str> {
    let line = info
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(name.as_bytes()))?;
    Some(std::str::from_utf8(line).ok()?.trim())
}

/// The lowest two bits of the flags of open(2).
fn access(flags: u32) -> &'static str {
    match flags & 3 {
        0 => "read",
        1 => "write",
        2 => "read and write",
        _ => "none",
    }
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "link",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        _ => "other",
    }
}
