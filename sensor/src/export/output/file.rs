//! Lines in a file of mode 0600. When it is long enough it becomes `PATH.1`, that `PATH.2`, and so on; the last one is removed.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    fs::{self, File, OpenOptions},
    io::AsyncWriteExt as _,
};

use super::{Line, Sent, SinkError};

pub(super) struct FileSink {
    path: PathBuf,
    max_bytes: u64,
    max_files: u32,
    /// Opened at the first line, and again after an error.
    open: Option<(File, u64)>,
}

impl FileSink {
    pub(super) fn new(path: &Path, max_bytes: u64, max_files: u32) -> Self {
        Self {
            path: path.to_owned(),
            max_bytes,
            max_files,
            open: None,
        }
    }

    pub(super) async fn send(&mut self, lines: &[Line]) -> Result<Sent, SinkError> {
        let length = |line: &Line| line.text.len() as u64 + 1;
        let (_, mut size) = self.opened().await?;
        if size > 0 && size + length(&lines[0]) > self.max_bytes {
            self.rotate().await?;
            size = 0;
        }
        let mut text = Vec::new();
        let mut taken = 0;
        for line in lines {
            // One line at least: a file holds any.
            if taken > 0 && size + text.len() as u64 + length(line) > self.max_bytes {
                break;
            }
            text.extend_from_slice(line.text.as_bytes());
            text.push(b'\n');
            taken += 1;
        }
        self.write(&text).await?;
        Ok(Sent { taken, refused: 0 })
    }

    /// All of it or nothing: what a full disk took of a line is taken back.
    async fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let (file, size) = self.opened().await?;
        let written = async {
            file.write_all(text).await?;
            file.flush().await
        };
        if let Err(error) = written.await {
            let _ = file.set_len(size).await;
            self.open = None;
            return Err(error);
        }
        if let Some((_, size)) = &mut self.open {
            *size += text.len() as u64;
        }
        Ok(())
    }

    async fn opened(&mut self) -> io::Result<(&mut File, u64)> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                if let Some(folder) = self.path.parent() {
                    fs::DirBuilder::new()
                        .recursive(true)
                        .mode(0o700)
                        .create(folder)
                        .await?;
                }
                let mut options = OpenOptions::new();
                let file = options
                    .create(true)
                    .append(true)
                    .mode(0o600)
                    .open(&self.path)
                    .await?;
                let size = file.metadata().await?.len();
                (file, size)
            }
        };
        let (file, size) = self.open.insert(open);
        Ok((file, *size))
    }

    async fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            if number > 0 {
                name.push(format!(".{number}"));
            }
            PathBuf::from(name)
        };
        for number in (0..self.max_files).rev() {
            let from = numbered(number);
            let moved = if number + 1 >= self.max_files {
                fs::remove_file(&from).await
            } else {
                fs::rename(&from, numbered(number + 1)).await
            };
            match moved {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }
}
