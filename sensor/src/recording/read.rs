//! From the bytes of a recording to events.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read},
    sync::Arc,
};

use super::{BLOCK_MAX, HEAD, Happened, Item, MAGIC, Recorded, RecordingError, VERSION};
use crate::host::{Event, Process};

/// Processes of a block; it has no more than it has bytes, and each is dear to keep.
const PROCESSES_MAX: usize = 1 << 18;

/// Reads a recording, one block after the other. After an error, or the end, there is nothing more.
pub struct Reader<R> {
    source: R,
    at: u64,
    items: VecDeque<Recorded>,
    over: bool,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// If it is no recording, or one of another version.
    pub fn new(mut source: R) -> Result<Self, RecordingError> {
        let mut head = [0; MAGIC.len() + 2];
        match source.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(RecordingError::Foreign),
            result => result?,
        }
        let (magic, version) = head.split_at(MAGIC.len());
        if *magic != MAGIC {
            return Err(RecordingError::Foreign);
        }
        let version = u16::from_le_bytes([version[0], version[1]]);
        if version != VERSION {
            return Err(RecordingError::Version(version));
        }
        Ok(Self {
            source,
            at: head.len() as u64,
            items: VecDeque::new(),
            over: false,
        })
    }

    /// Reads the next block into `items`.
    fn block(&mut self) -> Result<(), RecordingError> {
        let begin = self.at;
        let damaged = |why| RecordingError::Damaged { at: begin, why };
        let mut head = [0; HEAD];
        self.fill(&mut head)?;
        let word = |place: usize| {
            u32::from_le_bytes([head[place], head[place + 1], head[place + 2], head[place + 3]])
        };
        let (stored, plain, sum) = (word(0) as usize, word(4) as usize, word(8));
        if stored == 0 {
            self.over = true;
            return Ok(());
        }
        if stored > zstd::zstd_safe::compress_bound(BLOCK_MAX) || plain > BLOCK_MAX {
            return Err(damaged("it would be larger than a block may be"));
        }
        let mut bytes = vec![0; stored];
        self.fill(&mut bytes)?;
        if crc32fast::hash(&bytes) != sum {
            return Err(damaged("its checksum is wrong"));
        }
        let bytes =
            zstd::bulk::decompress(&bytes, plain).map_err(|_| damaged("it cannot be decompressed"))?;
        if bytes.len() != plain {
            return Err(damaged("it is not as long as it says"));
        }
        self.items = items(&bytes).map_err(damaged)?;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RecordingError> {
        match self.source.read_exact(bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(RecordingError::CutOff(self.at));
            }
            result => result?,
        }
        self.at += bytes.len() as u64;
        Ok(())
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Recorded, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.items.is_empty() && !self.over {
            if let Err(error) = self.block() {
                self.over = true;
                return Some(Err(error));
            }
        }
        self.items.pop_front().map(Ok)
    }
}

/// What is in a block.
fn items(mut bytes: &[u8]) -> Result<VecDeque<Recorded>, &'static str> {
    let mut processes: Vec<Arc<Process>> = Vec::new();
    let mut items = VecDeque::new();
    while !bytes.is_empty() {
        let (item, rest) = postcard::take_from_bytes(bytes).map_err(|_| "an item makes no sense")?;
        bytes = rest;
        let of = |number: u32| {
            let process = processes.get(number as usize).cloned();
            process.ok_or("it speaks of a process that it does not have")
        };
        items.push_back(match item {
            Item::About(about) => Recorded::About(about),
            Item::Process(process) => {
                if processes.len() == PROCESSES_MAX {
                    return Err("it has more processes than a block may have");
                }
                processes.push(process);
                continue;
            }
            Item::Running(number) => Recorded::Running(of(number)?),
            Item::Lost(count) => Recorded::Lost(count),
            Item::Event(happened) => {
                let process = happened.process.map(of).transpose()?;
                let parent = happened.parent.map(of).transpose()?;
                Recorded::Event(Arc::new(event(happened, process, parent)))
            }
        });
    }
    Ok(items)
}

fn event(happened: Happened, process: Option<Arc<Process>>, parent: Option<Arc<Process>>) -> Event {
    let Happened {
        time,
        wall,
        cpu,
        thread,
        body,
        ..
    } = happened;
    Event {
        time,
        wall,
        cpu,
        process,
        parent,
        thread,
        body,
    }
}
