//! Writing a bundle: parts, one after the other, into tar and Zstandard.
//!
//! The size of a part stands before it, so it is known, or promised, before the first byte; what does not come is made up for by zeroes, and
//! the manifest says so. The headers hold nothing but name and size: the tar is determined by the manifest.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};
use zstd::Encoder;

use super::{
    key::HostKey,
    manifest::{MANIFEST, MANIFEST_MAX, Manifest, PARTS_MAX, Part, SIGNATURE},
    seal::Seal,
};
use crate::hex::hex;

/// Bytes of a tar's block: headers are one, and contents are filled up to one.
pub(super) const BLOCK: usize = 512;

/// Fast, and a window of 2 MiB, which whoever verifies has to hold.
const LEVEL: i32 = 3;

/// The header of a part, of which nothing is left to choose.
///
/// # Errors
/// If the name does not fit.
pub(super) fn header(name: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o400);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

/// How many zeroes follow contents of this size.
pub(super) fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// A bundle that is being written.
pub(super) struct Writer<W: Write> {
    out: Encoder<'static, Hashing<W>>,
    parts: Vec<Part>,
    /// Bytes that parts may still have.
    left: u64,
}

impl<W: Write> Writer<W> {
    /// Into `out`, with parts of at most `limit` bytes together.
    pub(super) fn new(out: W, limit: u64) -> io::Result<Self> {
        let mut out = Encoder::new(Hashing::new(out), LEVEL)?;
        out.include_checksum(true)?;
        Ok(Self {
            out,
            parts: Vec::new(),
            left: limit,
        })
    }

    /// How many bytes the next part may have; none if there may be no more parts.
    pub(super) fn left(&self) -> u64 {
        if self.parts.len() < PARTS_MAX {
            self.left
        } else {
            0
        }
    }

    /// Writes a part that is there already, cut where it must be. `truncated` says what it lacks already.
    pub(super) fn whole(&mut self, name: &str, content: &[u8], truncated: Option<String>) -> io::Result<()> {
        let size = self.left().min(content.len() as u64) as usize;
        let truncated = if size < content.len() {
            Some(format!(
                "the first {size} of {} bytes: the limit of the bundle was reached",
                content.len()
            ))
        } else {
            truncated
        };
        let mut part = self.begin(name, size as u64)?;
        part.write(&content[..size])?;
        part.end(truncated)
    }

    /// Begins a part of `size` bytes, which the caller has seen to be left.
    pub(super) fn begin(&mut self, name: &str, size: u64) -> io::Result<Open<'_, W>> {
        self.out.write_all(header(name, size)?.as_bytes())?;
        self.left = self.left.saturating_sub(size);
        Ok(Open {
            writer: self,
            name: name.to_owned(),
            size,
            missing: size,
            digest: Sha256::new(),
        })
    }

    /// Writes manifest, signature and seal. Returns where it went, its SHA-256 and its size.
    pub(super) fn finish(mut self, manifest: &mut Manifest, key: &HostKey) -> io::Result<(W, String, u64)> {
        manifest.parts = std::mem::take(&mut self.parts);
        manifest.total = manifest.parts.iter().map(|part| part.size).sum();
        let text = serde_json::to_vec_pretty(manifest)?;
        if text.len() as u64 > MANIFEST_MAX {
            return Err(io::Error::other("the manifest is too long; ask for less memory"));
        }
        for (name, content) in [(MANIFEST, &text[..]), (SIGNATURE, &key.sign(&text))] {
            self.out
                .write_all(header(name, content.len() as u64)?.as_bytes())?;
            self.out.write_all(content)?;
            self.out.write_all(&[0; BLOCK][..padding(content.len() as u64)])?;
        }
        self.out.write_all(&[0; 2 * BLOCK])?;
        let mut hashing = self.out.finish()?;
        let sealed: [u8; 32] = hashing.digest.clone().finalize().into();
        hashing.write_all(&Seal::new(key, &sealed).to_bytes())?;
        let digest = hex(&hashing.digest.finalize());
        Ok((hashing.out, digest, hashing.size))
    }
}

/// A part that is being written.
pub(super) struct Open<'a, W: Write> {
    writer: &'a mut Writer<W>,
    name: String,
    size: u64,
    missing: u64,
    digest: Sha256,
}

impl<W: Write> Open<'_, W> {
    /// Writes more of it; what is beyond its size is left out.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fits = self.missing.min(bytes.len() as u64) as usize;
        self.missing -= fits as u64;
        self.digest.update(&bytes[..fits]);
        self.writer.out.write_all(&bytes[..fits])
    }

    /// How much is still to come.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    /// Ends it. `truncated` says what it lacks, apart from what did not come.
    pub(super) fn end(mut self, truncated: Option<String>) -> io::Result<()> {
        let missing = self.missing;
        let zeroes = [0; BLOCK];
        while self.missing > 0 {
            self.write(&zeroes)?;
        }
        self.writer.out.write_all(&zeroes[..padding(self.size)])?;
        let short = (missing > 0)
            .then(|| format!("zeroes stand for the last {missing} bytes, which could not be read"));
        self.writer.parts.push(Part {
            name: self.name,
            size: self.size,
            sha256: hex(&self.digest.finalize()),
            truncated: short.or(truncated),
        });
        Ok(())
    }
}

/// Knows the digest of all that was written through it.
struct Hashing<W> {
    out: W,
    digest: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            digest: Sha256::new(),
            size: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
