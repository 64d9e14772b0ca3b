//! What the images of a process tree retain.

use std::{collections::HashMap, sync::Arc};

use lru::LruCache;

use super::Image;

/// What an image costs beside its texts: itself, its counts, and its entry here.
const OVERHEAD: usize = size_of::<Image>() + 2 * size_of::<usize>() + 64;

#[derive(Debug)]
struct Use {
    image: Arc<Image>,
    processes: u32,
}

/// The images that processes of the tree run, each counted once however many share it, oldest first.
#[derive(Debug)]
pub(super) struct Images {
    /// By address, which is unique while the image is held here.
    uses: LruCache<usize, Use>,
    bytes: usize,
}

impl Default for Images {
    fn default() -> Self {
        Self {
            uses: LruCache::unbounded(),
            bytes: 0,
        }
    }
}

impl Images {
    /// Bytes that are retained.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// One process more runs `image`.
    pub(super) fn add(&mut self, image: &Arc<Image>) {
        let key = Arc::as_ptr(image).addr();
        // Peeking keeps the order that of the execs.
        if let Some(known) = self.uses.peek_mut(&key) {
            known.processes += 1;
        } else {
            self.bytes += retained(image);
            self.uses.push(
                key,
                Use {
                    image: Arc::clone(image),
                    processes: 1,
                },
            );
        }
    }

    /// One process fewer runs `image`.
    pub(super) fn remove(&mut self, image: &Arc<Image>) {
        let key = Arc::as_ptr(image).addr();
        let Some(known) = self.uses.peek_mut(&key) else {
            return;
        };
        known.processes -= 1;
        if known.processes == 0 {
            self.bytes -= retained(image);
            self.uses.pop(&key);
        }
    }

    /// The oldest images with arguments, each with its stand-in without them, as many as it takes to retain
    /// `target` bytes once the stand-ins have taken over.
    pub(super) fn strip_oldest(&self, target: usize) -> HashMap<usize, Arc<Image>> {
        let mut excess = self.bytes.saturating_sub(target);
        let mut stripped = HashMap::new();
        for (key, Use { image, .. }) in self.uses.iter().rev() {
            if excess == 0 {
                break;
            }
            if image.args.is_empty() {
                continue;
            }
            excess = excess.saturating_sub(image.args.len());
            let without = Image {
                args: Box::default(),
                ..Image::clone(image)
            };
            stripped.insert(*key, Arc::new(without));
        }
        stripped
    }
}

fn retained(image: &Image) -> usize {
    OVERHEAD + image.executable.len() + image.args.len() + image.cwd.len()
}
