//! The running kernel's type information, read just far enough.
//!
//! One pass notes where each type begins; the types that are asked for are then found by name and followed.
//! Nothing is kept: a [`Btf`] is dropped once the layout is known. The format is described in the kernel's
//! `Documentation/bpf/btf.rst`. Every length and offset in it is checked: a broken blob is an error, never a
//! panic.

use std::{collections::HashMap, fs::File, io, io::Read as _, ops::Deref, os::fd::AsFd as _, path::Path};

use rustix::mm::ProtFlags;

use super::mapping::Mapping;

/// Where the kernel offers its own BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const HEADER_LENGTH: usize = 24;
/// What a type of a kernel takes on average, a little less: to set aside room for the index once.
const TYPE_BYTES: usize = 20;
/// Anonymous structs and modifiers are followed at most so deep.
const DEPTH_MAX: usize = 16;

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Why type information could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel does not offer it, or not to us.
    #[error(
        "cannot read the kernel's type information at {path}: {source}; it needs a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    Read {
        /// Where it was looked for.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It contradicts itself.
    #[error("the kernel's type information is not valid BTF: {0}")]
    Malformed(&'static str),
}

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `struct` or `union`.
    Struct,
    /// `enum`.
    Enum,
    /// A function of the kernel.
    Func,
    /// `typedef`; a tracepoint's prototype is `btf_trace_NAME`.
    Typedef,
}

/// Type information with an index over it.
pub struct Btf {
    bytes: Bytes,
    strings: std::ops::Range<usize>,
    /// Where each type begins in `bytes`, by id; id 0 is `void`.
    types: Vec<u32>,
}

/// Where the blob is: shared with the kernel where it allows that (6.16), else read.
enum Bytes {
    Mapped(Mapping),
    Read(Vec<u8>),
}

impl Bytes {
    fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len() as usize;
        if path == Path::new(KERNEL_BTF)
            && let Ok(mapping) = Mapping::new(file.as_fd(), length, ProtFlags::READ, 0)
        {
            return Ok(Self::Mapped(mapping));
        }
        let mut bytes = Vec::with_capacity(length + 1);
        file.read_to_end(&mut bytes)?;
        Ok(Self::Read(bytes))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // SAFETY: the kernel's own type information, which never changes.
            Self::Mapped(mapping) => unsafe { mapping.bytes() },
            Self::Read(bytes) => bytes,
        }
    }
}

#[derive(Clone, Copy)]
struct Type {
    /// Where what follows the common part begins.
    body: usize,
    name: u32,
    kind: u32,
    count: usize,
    kind_flag: bool,
    /// Size, or the id of another type, by kind.
    word: u32,
}

impl Btf {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// If the kernel has none, or it is malformed.
    pub fn of_kernel() -> Result<Self, BtfError> {
        Self::read(Path::new(KERNEL_BTF))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or is malformed.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let bytes = Bytes::of_file(path).map_err(|source| BtfError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::index(bytes)
    }

    /// Indexes a blob in the host's byte order.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        Self::index(Bytes::Read(bytes))
    }

    fn index(bytes: Bytes) -> Result<Self, BtfError> {
        let header = bytes
            .get(..HEADER_LENGTH)
            .ok_or(BtfError::Malformed("no header"))?;
        let word = |at: usize| u32_at(header, at).map(|word| word as usize);
        if header[..2] != MAGIC.to_ne_bytes() {
            return Err(BtfError::Malformed("no magic number, or of another byte order"));
        }
        let base = word(4)?;
        let types = section(&bytes, base, word(8)?, word(12)?)?;
        let strings = section(&bytes, base, word(16)?, word(20)?)?;
        let mut index = Vec::with_capacity(types.len() / TYPE_BYTES);
        index.push(0);
        let mut btf = Self {
            bytes,
            strings,
            types: index,
        };
        let mut at = types.start;
        while at < types.end {
            btf.types.push(at as u32);
            let head = btf.head(at)?;
            at = head.body + body_length(head.kind, head.count)?;
        }
        if at != types.end {
            return Err(BtfError::Malformed("the last type is cut"));
        }
        Ok(btf)
    }

    /// Ids of the named types; what does not exist is not in the answer. One pass for all of them.
    #[must_use]
    pub fn find(&self, wanted: &[(Kind, &str)]) -> HashMap<(Kind, String), u32> {
        let wanted: HashMap<&[u8], Vec<Kind>> =
            wanted.iter().fold(HashMap::new(), |mut kinds, (kind, name)| {
                kinds.entry(name.as_bytes()).or_insert_with(Vec::new).push(*kind);
                kinds
            });
        let beginnings = Beginnings::of(wanted.keys().copied());
        let mut found = HashMap::new();
        for id in 1..self.types.len() as u32 {
            let Ok(head) = self.head_of(id) else { continue };
            let Some(kind) = public_kind(head.kind) else {
                continue;
            };
            if !beginnings.may_contain(self.rest_of_strings(head.name)) {
                continue;
            }
            let name = self.string(head.name);
            if wanted.get(name).is_some_and(|kinds| kinds.contains(&kind)) {
                let name = String::from_utf8_lossy(name).into_owned();
                found.entry((kind, name)).or_insert(id);
            }
        }
        found
    }

    /// Byte offset of a member, by path (`nsproxy.mnt_ns`), through anonymous structs and unions. `None` where there is no
    /// such member, or it is a bit field.
    #[must_use]
    pub fn offset(&self, id: u32, path: &str) -> Option<u32> {
        let mut id = id;
        let mut offset = 0;
        for name in path.split('.') {
            let (bits, member) = self.member(id, name.as_bytes(), 0)?;
            if bits % 8 != 0 {
                return None;
            }
            offset += bits / 8;
            id = member;
        }
        Some(offset)
    }

    /// Value of an enumerator.
    #[must_use]
    pub fn enumerator(&self, id: u32, name: &str) -> Option<u32> {
        let head = self.head_of(id).ok()?;
        if head.kind != KIND_ENUM {
            return None;
        }
        (0..head.count).map(|index| head.body + index * 8).find_map(|at| {
            let found = self.string(u32_at(&self.bytes, at).ok()?) == name.as_bytes();
            found.then(|| u32_at(&self.bytes, at + 4).ok()).flatten()
        })
    }

    /// How many arguments a function takes, or what the typedef of a tracepoint points to.
    #[must_use]
    pub fn arguments(&self, function: u32) -> Option<usize> {
        let mut head = self.head_of(function).ok()?;
        for kind in [KIND_FUNC, KIND_TYPEDEF, KIND_PTR] {
            if head.kind == kind {
                head = self.head_of(head.word).ok()?;
            }
        }
        (head.kind == KIND_FUNC_PROTO).then_some(head.count)
    }

    /// A blob that holds only `types`, under the ids they have here: what a loader needs that looks an id up
    /// by name, at a hundredth of the memory. Every other id is a nameless forward declaration.
    #[must_use]
    pub fn sparse(types: &HashMap<(Kind, String), u32>) -> Vec<u8> {
        let mut strings = vec![0];
        let mut by_id: Vec<(u32, u32, u32)> = types
            .iter()
            .filter_map(|((kind, name), id)| {
                let info = match kind {
                    Kind::Func => KIND_FUNC << 24,
                    Kind::Typedef => KIND_TYPEDEF << 24,
                    Kind::Struct | Kind::Enum => return None,
                };
                let at = strings.len() as u32;
                strings.extend_from_slice(name.as_bytes());
                strings.push(0);
                Some((*id, at, info))
            })
            .collect();
        by_id.sort_unstable();
        let last = by_id.last().map_or(0, |(id, ..)| *id);
        let length = last * 12;
        let mut blob = Vec::with_capacity(HEADER_LENGTH + length as usize + strings.len());
        blob.extend_from_slice(&MAGIC.to_ne_bytes());
        blob.extend_from_slice(&[1, 0]);
        for word in [HEADER_LENGTH as u32, 0, length, length, strings.len() as u32] {
            blob.extend_from_slice(&word.to_ne_bytes());
        }
        let mut wanted = by_id.into_iter().peekable();
        for id in 1..=last {
            let (name, info) = match wanted.next_if(|(at, ..)| *at == id) {
                Some((_, name, info)) => (name, info),
                None => (0, KIND_FWD << 24),
            };
            for word in [name, info, 0] {
                blob.extend_from_slice(&word.to_ne_bytes());
            }
        }
        blob.append(&mut strings);
        blob
    }

    /// Offset in bits and type of a member, looked for in anonymous members too.
    fn member(&self, id: u32, name: &[u8], depth: usize) -> Option<(u32, u32)> {
        if depth > DEPTH_MAX {
            return None;
        }
        let head = self.resolved(id)?;
        if head.kind != KIND_STRUCT && head.kind != KIND_UNION {
            return None;
        }
        for index in 0..head.count {
            let at = head.body + index * 12;
            let member_name = self.string(u32_at(&self.bytes, at).ok()?);
            let member_type = u32_at(&self.bytes, at + 4).ok()?;
            let raw = u32_at(&self.bytes, at + 8).ok()?;
            let (bits, is_bit_field) = if head.kind_flag {
                (raw & 0x00ff_ffff, raw >> 24 != 0)
            } else {
                (raw, false)
            };
            if member_name == name && !is_bit_field {
                return Some((bits, member_type));
            }
            if member_name.is_empty()
                && let Some((inner, found)) = self.member(member_type, name, depth + 1)
            {
                return Some((bits + inner, found));
            }
        }
        None
    }

    /// The type behind typedefs and modifiers.
    fn resolved(&self, id: u32) -> Option<Type> {
        let mut id = id;
        for _ in 0..DEPTH_MAX {
            let head = self.head_of(id).ok()?;
            match head.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => id = head.word,
                _ => return Some(head),
            }
        }
        None
    }

    fn head_of(&self, id: u32) -> Result<Type, BtfError> {
        match self.types.get(id as usize) {
            Some(at) if id != 0 => self.head(*at as usize),
            _ => Err(BtfError::Malformed("a type refers to one that is not there")),
        }
    }

    fn head(&self, at: usize) -> Result<Type, BtfError> {
        let info = u32_at(&self.bytes, at + 4)?;
        Ok(Type {
            body: at + 12,
            name: u32_at(&self.bytes, at)?,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            kind_flag: info >> 31 == 1,
            word: u32_at(&self.bytes, at + 8)?,
        })
    }

    fn string(&self, offset: u32) -> &[u8] {
        self.rest_of_strings(offset)
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default()
    }

    fn rest_of_strings(&self, offset: u32) -> &[u8] {
        self.bytes[self.strings.clone()]
            .get(offset as usize..)
            .unwrap_or_default()
    }
}

/// The first four bytes of some names: tells nearly every other name apart without looking at more of it.
struct Beginnings(Box<[bool; 1 << 16]>);

impl Beginnings {
    fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut beginnings = Self(Box::new([false; 1 << 16]));
        for name in names {
            beginnings.0[Self::slot(name)] = true;
        }
        beginnings
    }

    fn may_contain(&self, name: &[u8]) -> bool {
        self.0[Self::slot(name)]
    }

    /// Bytes from the end of the name on do not count: the name may stand anywhere among the strings.
    fn slot(name: &[u8]) -> usize {
        let mut word = 0_u32;
        for byte in name.iter().take(4).take_while(|byte| **byte != 0) {
            word = word << 8 | u32::from(*byte);
        }
        (word.wrapping_mul(0x9e37_79b1) >> 16) as usize
    }
}

fn public_kind(kind: u32) -> Option<Kind> {
    match kind {
        KIND_STRUCT | KIND_UNION => Some(Kind::Struct),
        KIND_ENUM => Some(Kind::Enum),
        KIND_FUNC => Some(Kind::Func),
        KIND_TYPEDEF => Some(Kind::Typedef),
        _ => None,
    }
}

/// Bytes that follow the common part of a type.
fn body_length(kind: u32, count: usize) -> Result<usize, BtfError> {
    Ok(match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => count * 12,
        KIND_ENUM | KIND_FUNC_PROTO => count * 8,
        0..=KIND_TYPE_TAG => 0,
        _ => {
            return Err(BtfError::Malformed(
                "a kind of type that is newer than this agent",
            ));
        }
    })
}

fn section(
    bytes: &[u8],
    base: usize,
    offset: usize,
    length: usize,
) -> Result<std::ops::Range<usize>, BtfError> {
    let start = base + offset;
    let end = start + length;
    if end > bytes.len() {
        return Err(BtfError::Malformed("a section reaches beyond the end"));
    }
    Ok(start..end)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map(u32::from_ne_bytes)
        .ok_or(BtfError::Malformed("a type is cut"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_running_kernel_is_understood() {
        let Ok(btf) = Btf::of_kernel() else { return };
        let names = [
            (Kind::Struct, "task_struct"),
            (Kind::Struct, "list_head"),
            (Kind::Typedef, "pid_t"),
        ];
        let ids = btf.find(&names);
        assert_eq!(ids.len(), names.len());
        let list_head = ids[&(Kind::Struct, "list_head".to_owned())];
        assert_eq!(btf.offset(list_head, "next"), Some(0));
        assert_eq!(btf.offset(list_head, "prev"), Some(8));
        assert_eq!(btf.offset(list_head, "nothing"), None);
        let task = ids[&(Kind::Struct, "task_struct".to_owned())];
        assert!(btf.offset(task, "tgid").is_some());
        let exec = btf.find(&[(Kind::Typedef, "btf_trace_sched_process_exec")]);
        assert_eq!(exec.values().map(|id| btf.arguments(*id)).next(), Some(Some(4)));
    }

    #[test]
    fn a_sparse_blob_keeps_ids_and_names() {
        let Ok(btf) = Btf::of_kernel() else { return };
        let wanted = [
            (Kind::Typedef, "btf_trace_sched_process_exec"),
            (Kind::Func, "inet_csk_accept"),
        ];
        let ids = btf.find(&wanted);
        let sparse = Btf::parse(Btf::sparse(&ids)).unwrap();
        assert_eq!(sparse.find(&wanted), ids);
    }

    proptest! {
        #[test]
        fn arbitrary_blobs_never_panic(mut bytes: Vec<u8>, sections: [u8; 4]) {
            let mut blob = MAGIC.to_ne_bytes().to_vec();
            blob.extend([1, 0]);
            for word in [24, u32::from(sections[0]), u32::from(sections[1]), u32::from(sections[2]), u32::from(sections[3])] {
                blob.extend(word.to_ne_bytes());
            }
            blob.append(&mut bytes);
            if let Ok(btf) = Btf::parse(blob) {
                let ids = btf.find(&[(Kind::Struct, "")]);
                for id in ids.values().chain([&0, &1, &9999]) {
                    let _ = (btf.offset(*id, "a.b"), btf.arguments(*id), btf.enumerator(*id, "x"));
                }
            }
        }
    }
}
