//! From events to the bytes of a recording.

use std::{collections::HashMap, sync::Arc};

use super::{About, BLOCK_MAX, END, Happened, Item, MAGIC, VERSION};
use crate::host::{Event, Process};

/// A block is closed at so many bytes, well below what a reader takes.
const BLOCK: usize = 256 << 10;

/// Longest item: paths and arguments of a process are bounded where they are captured. What is longer is counted as lost.
const ITEM_MAX: usize = BLOCK_MAX - BLOCK;

/// Level of compression: 3 is the library's own choice.
const LEVEL: i32 = 3;

/// Turns events into bytes, which whoever holds it takes out now and then.
pub struct Writer {
    out: Vec<u8>,
    block: Vec<u8>,
    /// By address; the process is held, so that the address stays its own.
    numbers: HashMap<usize, (u32, Arc<Process>)>,
    lost: u64,
}

impl Writer {
    /// Begins a recording.
    #[must_use]
    pub fn new(about: About) -> Self {
        let mut writer = Self {
            out: [&MAGIC[..], &VERSION.to_le_bytes()].concat(),
            block: Vec::new(),
            numbers: HashMap::new(),
            lost: 0,
        };
        writer.put(&Item::About(about));
        writer
    }

    /// A process that runs now.
    pub fn running(&mut self, process: &Arc<Process>) {
        if let Some(number) = self.number(process) {
            self.put(&Item::Running(number));
        }
        self.close_if_full();
    }

    /// Something happened.
    pub fn event(&mut self, event: &Event) {
        let process = event.process.as_ref().and_then(|process| self.number(process));
        let parent = event.parent.as_ref().and_then(|parent| self.number(parent));
        self.put(&Item::Event(Happened {
            time: event.time,
            wall: event.wall,
            cpu: event.cpu,
            process,
            parent,
            thread: event.thread,
            body: event.body.clone(),
        }));
        self.close_if_full();
    }

    /// Events were lost.
    pub fn lost(&mut self, count: u64) {
        self.put(&Item::Lost(count));
    }

    /// The bytes so far; nothing of a block that is not full, unless `flush`.
    pub fn take(&mut self, flush: bool) -> Vec<u8> {
        if flush {
            self.close();
        }
        std::mem::take(&mut self.out)
    }

    /// Ends the recording; the last bytes.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.close();
        self.out.extend(END);
        self.out
    }

    /// The number of a process in this block; it is written down where it has none.
    fn number(&mut self, process: &Arc<Process>) -> Option<u32> {
        let address = Arc::as_ptr(process).addr();
        if let Some((number, _)) = self.numbers.get(&address) {
            return Some(*number);
        }
        let number = self.numbers.len() as u32;
        if !self.put(&Item::Process(Arc::clone(process))) {
            return None;
        }
        self.numbers.insert(address, (number, Arc::clone(process)));
        Some(number)
    }

    /// Whether it could be written down.
    fn put(&mut self, item: &Item) -> bool {
        let written = postcard::to_stdvec(item).ok();
        match written.filter(|bytes| bytes.len() <= ITEM_MAX) {
            Some(bytes) => {
                self.block.extend(bytes);
                true
            }
            None => {
                self.lost += 1;
                false
            }
        }
    }

    fn close_if_full(&mut self) {
        if self.block.len() >= BLOCK {
            self.close();
        }
    }

    fn close(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            self.put(&Item::Lost(lost));
        }
        self.numbers.clear();
        let block = std::mem::take(&mut self.block);
        if block.is_empty() {
            return;
        }
        // Into memory, which does not fail; an empty block would end the recording, so what cannot be compressed is lost and said to be.
        let Ok(stored) = zstd::bulk::compress(&block, LEVEL) else {
            self.lost += 1;
            return;
        };
        self.out.extend((stored.len() as u32).to_le_bytes());
        self.out.extend((block.len() as u32).to_le_bytes());
        self.out.extend(crc32fast::hash(&stored).to_le_bytes());
        self.out.extend(stored);
    }
}
