//! Whether a bundle is what was written.
//!
//! A bundle may come from anybody. It is read once, from its beginning to its end, in pieces; what is kept of it is a digest and a name for each
//! part, and the manifest. Bounds: [`PARTS_MAX`] parts, [`MANIFEST_MAX`] bytes of manifest, a window of 8 MiB, [`CONTENT_MAX`] bytes of
//! content, [`FINDINGS_MAX`] findings.

use std::{
    collections::{HashMap, HashSet},
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    LIMITS,
    bundle::{BLOCK, header, padding},
    key::PublicKey,
    manifest::{MANIFEST, MANIFEST_MAX, Manifest, PARTS_MAX, SIGNATURE, VERSION},
    seal::{self, Seal},
};
use crate::hex::hex;

/// Content that is looked at: what a bundle can have, and its headers.
const CONTENT_MAX: u64 = *LIMITS.end() + (64 << 20);

/// Logarithm of the largest window; Sensor writes with 2 MiB.
const WINDOW_LOG_MAX: u32 = 23;

/// Findings that are told.
const FINDINGS_MAX: usize = 1_000;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "finding")]
pub enum Finding {
    /// The file does not end with a seal.
    #[error(
        "there is no seal at the end: the file was cut off, something was added to it, or it is no bundle"
    )]
    Unsealed,
    /// The seal is of something else.
    #[error("the file is not what was sealed: at least one byte was changed")]
    SealBroken,
    /// The key is another one.
    #[error("{what} is signed with the key {key}, not with the one that was named")]
    OtherKey {
        /// The seal or the manifest.
        what: &'static str,
        /// Whose key it is signed with, as it says itself.
        key: String,
    },
    /// It cannot be read any further.
    #[error("damaged behind {part}: {why}; nothing after that could be looked at")]
    Damaged {
        /// The last part that was read.
        part: String,
        /// What is wrong.
        why: String,
    },
    /// There is no manifest.
    #[error(
        "there is no manifest: the bundle was cut off or taken apart, and nobody can say what belongs into it"
    )]
    NoManifest,
    /// The manifest cannot be read.
    #[error("the manifest cannot be read: {why}")]
    ManifestDamaged {
        /// Why.
        why: String,
    },
    /// The manifest is not the one that was signed.
    #[error("the manifest is not what was signed; what follows from it may be wrong")]
    ManifestAltered,
    /// A part has other content.
    #[error("{part} was altered")]
    Altered {
        /// Which.
        part: String,
    },
    /// A part is shorter.
    #[error("{part} was truncated: it has {size} of {expected} bytes")]
    Truncated {
        /// Which.
        part: String,
        /// How long it is.
        size: u64,
        /// How long it was.
        expected: u64,
    },
    /// A part's header has something in it that Sensor does not write.
    #[error("the header of {part} was altered")]
    HeaderAltered {
        /// Which.
        part: String,
    },
    /// A part is not there.
    #[error("{part} is missing")]
    Missing {
        /// Which.
        part: String,
    },
    /// A part does not belong there.
    #[error("{part} was added")]
    Added {
        /// Which.
        part: String,
    },
    /// A part is at another place.
    #[error("{part} is not at its place")]
    Reordered {
        /// Which.
        part: String,
    },
}

/// What a bundle is, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is not as it was written; nothing if it is intact.
    pub findings: Vec<Finding>,
    /// What it says of itself, if it could be read. To be believed only if nothing was found.
    pub manifest: Option<Manifest>,
    /// The key that it is signed with, as it says itself.
    pub key: Option<PublicKey>,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Bytes of the file.
    pub size: u64,
}

/// Looks at a bundle. With `key` it must be signed with that, else with whichever it names: then it is whole, but anybody may have made it.
///
/// # Errors
/// If the file cannot be read. What is wrong with its content is in the report.
pub fn verify<R: Read + Seek>(mut file: R, key: Option<&PublicKey>) -> io::Result<Report> {
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let body = size.saturating_sub(seal::SIZE as u64);
    let mut hashing = Hashing {
        from: file,
        left: body,
        digest: Sha256::new(),
    };
    let mut found = Found::default();
    found.read_frame(&mut hashing);
    // What was not decompressed belongs to the file all the same.
    io::copy(&mut hashing, &mut io::sink())?;
    let (mut file, mut digest) = (hashing.from, hashing.digest);
    let sealed: [u8; 32] = digest.clone().finalize().into();
    let mut end = Vec::new();
    file.by_ref().take(seal::SIZE as u64).read_to_end(&mut end)?;
    digest.update(&end);

    let seal = end.as_slice().try_into().ok().and_then(Seal::parse);
    let mut findings = Vec::new();
    check_seal(seal, &sealed, key, &mut findings);
    let key = key.copied().or_else(|| seal.map(|seal| seal.key));
    let manifest = found.check(key.as_ref(), &mut findings);
    findings.truncate(FINDINGS_MAX);
    Ok(Report {
        findings,
        manifest,
        key: seal.map(|seal| seal.key),
        sha256: hex(&digest.finalize()),
        size,
    })
}

fn check_seal(seal: Option<Seal>, sealed: &[u8; 32], key: Option<&PublicKey>, findings: &mut Vec<Finding>) {
    let Some(seal) = seal else {
        findings.push(Finding::Unsealed);
        return;
    };
    if let Some(key) = key.filter(|key| **key != seal.key) {
        tracing::debug!("{key} was named");
        findings.push(Finding::OtherKey {
            what: "the file",
            key: seal.key.to_string(),
        });
    }
    if !seal.holds(&seal.key, sealed) {
        findings.push(Finding::SealBroken);
    }
}

/// A part that was found.
#[derive(Debug)]
struct Seen {
    name: String,
    size: u64,
    sha256: String,
    /// Its header is as Sensor writes it.
    plain: bool,
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    parts: Vec<Seen>,
    manifest: Option<Vec<u8>>,
    signature: Option<Vec<u8>>,
    /// Why reading came to an end before the end.
    damaged: Option<String>,
}

impl Found {
    fn read_frame(&mut self, from: &mut impl Read) {
        let content = zstd::Decoder::new(from).and_then(|mut decoder| {
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Ok(BufReader::with_capacity(128 << 10, decoder.take(CONTENT_MAX)))
        });
        let read = content.and_then(|mut content| self.read_parts(&mut content));
        self.damaged = read.err().map(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "it ends in the midst, or is larger than a bundle can be".to_owned()
            }
            _ => error.to_string(),
        });
    }

    fn read_parts(&mut self, content: &mut impl Read) -> io::Result<()> {
        let mut block = [0; BLOCK];
        loop {
            content.read_exact(&mut block)?;
            if block == [0; BLOCK] {
                break;
            }
            if self.parts.len() >= PARTS_MAX + 2 {
                return Err(io::Error::other("there are more parts than a bundle has"));
            }
            self.read_part(&block, content)?;
        }
        content.read_exact(&mut block)?;
        // Reading to the end checks what Zstandard says of the whole.
        let more = io::copy(content, &mut io::sink())?;
        if block != [0; BLOCK] || more > 0 {
            return Err(io::Error::other("something follows where the tar ends"));
        }
        Ok(())
    }

    fn read_part(&mut self, block: &[u8; BLOCK], content: &mut impl Read) -> io::Result<()> {
        let read = tar::Header::from_byte_slice(block);
        let size = read.entry_size()?;
        let name = String::from_utf8_lossy(&read.path_bytes()).into_owned();
        let same = header(&name, size).is_ok_and(|header| header.as_bytes() == block);
        if !same && read.cksum()? != checksum(block) {
            return Err(io::Error::other("a header is damaged"));
        }
        let mut digest = Sha256::new();
        let mut kept = Vec::new();
        let mut left = size;
        let mut chunk = vec![0; 64 << 10];
        let keep = [MANIFEST, SIGNATURE].contains(&&*name);
        if keep && size > MANIFEST_MAX {
            return Err(io::Error::other("the manifest is too long"));
        }
        while left > 0 {
            let length = left.min(chunk.len() as u64) as usize;
            content.read_exact(&mut chunk[..length])?;
            digest.update(&chunk[..length]);
            if keep {
                kept.extend_from_slice(&chunk[..length]);
            }
            left -= length as u64;
        }
        let mut fill = [0; BLOCK];
        let fill = &mut fill[..padding(size)];
        content.read_exact(fill)?;
        let plain = same && fill.iter().all(|byte| *byte == 0);
        match &*name {
            MANIFEST if self.manifest.is_none() => self.manifest = Some(kept),
            SIGNATURE if self.signature.is_none() => self.signature = Some(kept),
            _ => {}
        }
        self.parts.push(Seen {
            name,
            size,
            sha256: hex(&digest.finalize()),
            plain,
        });
        Ok(())
    }

    /// Compares what was found with what the manifest says of it.
    fn check(self, key: Option<&PublicKey>, findings: &mut Vec<Finding>) -> Option<Manifest> {
        if let Some(why) = &self.damaged {
            findings.push(Finding::Damaged {
                part: self
                    .parts
                    .last()
                    .map_or("the beginning", |part| &part.name)
                    .to_owned(),
                why: why.clone(),
            });
        }
        let Some(text) = &self.manifest else {
            findings.push(Finding::NoManifest);
            return None;
        };
        let signature = self.signature.as_deref().and_then(|bytes| bytes.try_into().ok());
        if !key
            .zip(signature)
            .is_some_and(|(key, signature)| key.signed(text, signature))
        {
            findings.push(Finding::ManifestAltered);
        }
        let manifest: Manifest = match serde_json::from_slice(text) {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(Finding::ManifestDamaged {
                    why: error.to_string(),
                });
                return None;
            }
        };
        if manifest.version != VERSION {
            findings.push(Finding::ManifestDamaged {
                why: format!(
                    "it is of version {}, this Sensor reads {VERSION}",
                    manifest.version
                ),
            });
        }
        if let Some(key) = key.filter(|key| key.to_string() != manifest.key) {
            tracing::debug!("{key} was expected");
            findings.push(Finding::OtherKey {
                what: "the manifest",
                key: manifest.key.clone(),
            });
        }
        self.compare(&manifest, findings);
        Some(manifest)
    }

    fn compare(&self, manifest: &Manifest, findings: &mut Vec<Finding>) {
        let mut seen: HashMap<&str, &Seen> = HashMap::new();
        let mut order: Vec<&str> = Vec::new();
        let mut expected: Vec<&str> = manifest.parts.iter().map(|part| &*part.name).collect();
        expected.extend([MANIFEST, SIGNATURE]);
        let known: HashSet<&str> = expected.iter().copied().collect();
        for part in &self.parts {
            if !known.contains(&*part.name) || seen.contains_key(&*part.name) {
                findings.push(Finding::Added {
                    part: part.name.clone(),
                });
                continue;
            }
            if !part.plain {
                findings.push(Finding::HeaderAltered {
                    part: part.name.clone(),
                });
            }
            seen.insert(&part.name, part);
            order.push(&part.name);
        }
        for part in &manifest.parts {
            let name = part.name.clone();
            match seen.get(&*part.name) {
                None => findings.push(Finding::Missing { part: name }),
                Some(seen) if seen.size < part.size => findings.push(Finding::Truncated {
                    part: name,
                    size: seen.size,
                    expected: part.size,
                }),
                Some(seen) if seen.size != part.size || seen.sha256 != part.sha256 => {
                    findings.push(Finding::Altered { part: name });
                }
                Some(_) => {}
            }
        }
        let there = expected.into_iter().filter(|name| seen.contains_key(name));
        for (is, ought) in order.into_iter().zip(there) {
            if is != ought {
                findings.push(Finding::Reordered { part: is.to_owned() });
            }
        }
    }
}

/// The sum of a header's bytes, with blanks for the sum itself.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let bytes = block.iter().enumerate();
    bytes
        .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }))
        .sum()
}

/// Knows the digest of the `left` bytes that are read through it.
struct Hashing<R> {
    from: R,
    left: u64,
    digest: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.left.min(bytes.len() as u64) as usize;
        let read = self.from.read(&mut bytes[..length])?;
        self.digest.update(&bytes[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}
