//! Where secrets are.

use std::{borrow::Cow, ops::Range};

use super::MARK;

/// Ranges of a text that are to be hidden, in any order, overlapping or not.
#[derive(Debug, Default)]
pub(super) struct Spans(Vec<Range<usize>>);

impl Spans {
    pub(super) fn hide(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.0.push(range);
        }
    }

    /// In order, none touching another.
    pub(super) fn into_ranges(self) -> Vec<Range<usize>> {
        let mut ranges = self.0;
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, kept| {
            let touches = next.start <= kept.end;
            if touches {
                kept.end = kept.end.max(next.end);
            }
            touches
        });
        ranges
    }

    /// `text`, with the mark in the place of each.
    pub(super) fn apply(self, text: &[u8]) -> Cow<'_, [u8]> {
        if self.0.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut shown = Vec::with_capacity(text.len());
        let mut from = 0;
        for range in self.into_ranges() {
            shown.extend_from_slice(&text[from..range.start]);
            shown.extend_from_slice(MARK.as_bytes());
            from = range.end;
        }
        shown.extend_from_slice(&text[from..]);
        Cow::Owned(shown)
    }
}
