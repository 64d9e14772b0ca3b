//! Operations, most of what happens on a busy host, without a message of their own: each text goes from where it is to the wire.

use prost::{bytes::BufMut, encode_length_delimiter, length_delimiter_len};

use crate::{
    export::convert::escape,
    host::{Operation, Repeated},
};

/// `Event.operation`.
const EVENT_OPERATION: u32 = 23;

/// Appends the field of an event that `operation` is. `scratch` is for the use of this function.
pub(super) fn put(operation: &Operation, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    fields(operation, scratch);
    bytes(EVENT_OPERATION, scratch, out);
}

/// The message `Operation`, as its `.proto` has it.
fn fields(operation: &Operation, out: &mut Vec<u8>) {
    text(1, operation.signal.name(), out);
    text(2, operation.call.name, out);
    number(3, zigzag(operation.result), out);
    texts(4, 5, &operation.path, out);
    texts(6, 7, &operation.target, out);
    if let Some(file) = operation.file {
        number(8, file.inode, out);
        number(9, file.device.into(), out);
        number(10, file.mode.into(), out);
    }
    for detail in operation.call.details {
        let value = operation.values[detail.value];
        let shown = detail.show.text(value);
        key(11, out);
        length(
            text_length(detail.name) + number_length(value) + text_length(&shown),
            out,
        );
        text(1, detail.name, out);
        number(2, value, out);
        text(3, &shown, out);
    }
    number(12, operation.truncated.into(), out);
    number(13, operation.unreadable.into(), out);
    if let Some(Repeated { count, first, last }) = operation.repeats {
        let all = [count, first.0, last.0];
        key(14, out);
        length(all.into_iter().map(number_length).sum(), out);
        for (field, value) in (1..).zip(all) {
            number(field, value, out);
        }
    }
    if !operation.previous.is_empty() {
        text(15, &escape(&operation.previous), out);
    }
    number(20, operation.attempt.into(), out);
    number(21, operation.unmounted.into(), out);
}

/// A text, and its bytes in the field `raw` where they are not all in the text.
fn texts(field: u32, raw: u32, value: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(value) {
        Ok(value) => text(field, value, out),
        Err(_) => {
            text(field, &escape(value), out);
            bytes(raw, value, out);
        }
    }
}

fn text(field: u32, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        bytes(field, value.as_bytes(), out);
    }
}

fn bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    key(field, out);
    length(value.len(), out);
    out.put_slice(value);
}

/// A field of type `uint`, or `bool`; zero is not written.
fn number(field: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        length((field << 3) as usize, out);
        length(value as usize, out);
    }
}

/// Key of a field with a length before it.
fn key(field: u32, out: &mut Vec<u8>) {
    length((field << 3 | 2) as usize, out);
}

/// A varint.
fn length(value: usize, out: &mut Vec<u8>) {
    // It cannot fail: the buffer grows.
    let _ = encode_length_delimiter(value, out);
}

/// Length of a text as a field with a number below 16.
fn text_length(value: &str) -> usize {
    match value.len() {
        0 => 0,
        length => 1 + length_delimiter_len(length) + length,
    }
}

fn number_length(value: u64) -> usize {
    match value {
        0 => 0,
        value => 1 + length_delimiter_len(value as usize),
    }
}

/// As `sint64` wants it: small where the number is, whatever its sign.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}
