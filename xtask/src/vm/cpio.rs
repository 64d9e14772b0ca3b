//! A writer of the "newc" cpio format, which is what the kernel unpacks an initramfs from: the format is in
//! Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.

use std::io::{self, Write};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

/// An archive under construction.
pub(crate) struct Archive<W: Write> {
    to: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, inode: 0 }
    }

    /// Paths are without a leading slash; folders must come before what is in them.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.entry(path, FOLDER | mode, (0, 0), &[])
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | mode, (0, 0), content)
    }

    pub(crate) fn link(&mut self, path: &str, to: &str) -> io::Result<()> {
        self.entry(path, LINK | 0o777, (0, 0), to.as_bytes())
    }

    /// A character device.
    pub(crate) fn device(&mut self, path: &str, mode: u32, number: (u32, u32)) -> io::Result<()> {
        self.entry(path, DEVICE | mode, number, &[])
    }

    /// Writes the trailer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name_size = path.len() as u32 + 1;
        write!(self.to, "070701")?;
        let (uid, gid, links, time, check) = (0, 0, 1, 0, 0);
        for field in [
            self.inode, mode, uid, gid, links, time, size, 0, 0, device.0, device.1, name_size, check,
        ] {
            write!(self.to, "{field:08X}")?;
        }
        write!(self.to, "{path}\0")?;
        self.pad(110 + path.len() + 1)?;
        self.to.write_all(content)?;
        self.pad(content.len())
    }

    /// Names and contents begin at multiples of four bytes.
    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..length.wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_end_with_the_trailer() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("a", 0o755).expect("folder");
        archive.file("a/b", 0o644, b"hello").expect("file");
        let bytes = archive.finish().expect("trailer");
        assert_eq!(bytes.len() % 4, 0);
        let second = 112;
        assert_eq!(&bytes[second..second + 6], b"070701");
        assert_eq!(
            &bytes[second + 14..second + 22],
            b"000081A4",
            "regular file, 0644"
        );
        assert_eq!(&bytes[second + 54..second + 62], b"00000005", "size");
        assert_eq!(&bytes[second + 116..second + 121], b"hello");
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
