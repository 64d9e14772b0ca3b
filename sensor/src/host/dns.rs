//! Messages of the domain name system, as far as they tell who asks whom for what, and what the answer was.
//!
//! They come from the network: whatever they hold, reading them ends, and what cannot be read is said to be malformed. What
//! was read up to there is kept.

use std::net::IpAddr;

use domain::{
    base::{Message, ParsedName, iana::Rtype, message::RecordSection},
    rdata::{A, Aaaa, Cname},
};
use serde::{Deserialize, Serialize};

/// Answers that are kept of one message.
const ANSWERS: usize = 32;

/// A question or an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsMessage {
    /// It says that it is an answer.
    pub answer: bool,
    /// Number that joins question and answer.
    pub id: u16,
    /// What is asked for: a name without its last dot, what is not printable in it as `\DDD`; `.` for the root.
    pub name: Box<str>,
    /// Which kind of record is asked for: `A`, `AAAA`, `TXT`, `TYPE65280`.
    pub kind: Box<str>,
    /// What the server says: `NOERROR`, `NXDOMAIN`; empty for a question.
    pub code: Box<str>,
    /// Addresses and canonical names that it answers with, at most 32.
    pub answers: Vec<DnsAnswer>,
    /// The server has cut it, or not all of it was copied.
    pub truncated: bool,
    /// It, or a part of it, is not as it should be. What else is here was read before that.
    pub malformed: bool,
}

/// An answer of the kinds that lead to an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsAnswer {
    /// `A` or `AAAA`.
    Address(IpAddr),
    /// `CNAME`.
    Name(Box<str>),
}

impl std::fmt::Display for DnsAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Reads the `bytes` of a message that has `total`.
#[must_use]
pub fn read(bytes: &[u8], total: usize) -> DnsMessage {
    let mut read = DnsMessage {
        truncated: total > bytes.len(),
        ..DnsMessage::default()
    };
    let Ok(message) = Message::from_slice(bytes) else {
        read.malformed = true;
        return read;
    };
    let header = message.header();
    read.id = header.id();
    read.answer = header.qr();
    read.truncated |= header.tc();
    if read.answer {
        read.code = header.rcode().to_string().into();
    }
    match message.question().next() {
        Some(Ok(question)) => {
            read.name = text(question.qname());
            read.kind = question.qtype().to_string().into();
        }
        // A server may answer an error without the question.
        None if read.answer => {}
        _ => read.malformed = true,
    }
    if !read.malformed && read.answer {
        let answers = message
            .answer()
            .map(|section| answers(section, &mut read.answers));
        // What was cut ends in the middle of something.
        read.malformed = !matches!(answers, Ok(Some(()))) && !read.truncated;
    }
    read
}

/// `None` where one cannot be read.
fn answers(section: RecordSection<'_, [u8]>, answers: &mut Vec<DnsAnswer>) -> Option<()> {
    for record in section.take(ANSWERS) {
        let record = record.ok()?;
        let answer = match record.rtype() {
            Rtype::A => DnsAnswer::Address(record.to_record::<A>().ok()??.data().addr().into()),
            Rtype::AAAA => DnsAnswer::Address(record.to_record::<Aaaa>().ok()??.data().addr().into()),
            Rtype::CNAME => {
                let record = record.to_record::<Cname<ParsedName<&[u8]>>>().ok()??;
                DnsAnswer::Name(text(record.data().cname()))
            }
            _ => continue,
        };
        answers.push(answer);
    }
    Some(())
}

fn text(name: &ParsedName<&[u8]>) -> Box<str> {
    name.to_string().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `www.example.org` for `A`, answered by an alias and its address.
    const ANSWER: &[u8] = b"\x12\x34\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00\
        \x03www\x07example\x03org\x00\x00\x01\x00\x01\
        \xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x03cdn\xc0\x10\
        \xc0\x2d\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07";

    #[test]
    fn an_answer_says_what_it_is_an_answer_to() {
        let read = read(ANSWER, ANSWER.len());
        let answers: Vec<String> = read.answers.iter().map(ToString::to_string).collect();
        assert_eq!(answers, ["cdn.example.org", "192.0.2.7"]);
        assert_eq!(
            (&*read.name, &*read.kind, &*read.code, read.id),
            ("www.example.org", "A", "NOERROR", 0x1234)
        );
        assert!(read.answer && !read.malformed && !read.truncated, "{read:?}");
    }

    #[test]
    fn what_was_read_before_a_fault_is_kept() {
        let mut bytes = ANSWER.to_vec();
        let last = bytes.len() - 5;
        bytes[last] = 9; // An address of nine bytes.
        let read = read(&bytes, bytes.len());
        assert!(read.malformed, "{read:?}");
        assert_eq!((&*read.name, read.answers.len()), ("www.example.org", 1));
    }

    #[test]
    fn a_name_that_points_to_itself_is_malformed() {
        let bytes = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01";
        assert!(read(bytes, bytes.len()).malformed);
    }

    #[test]
    fn what_is_not_printable_is_escaped() {
        let bytes = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03a\x1b.\x00\x00\x10\x00\x01";
        let read = read(bytes, bytes.len());
        assert_eq!((&*read.name, &*read.kind), ("a\\027\\.", "TXT"));
    }

    #[test]
    fn a_message_that_was_cut_is_not_called_malformed() {
        let read = read(&ANSWER[..ANSWER.len() - 2], ANSWER.len());
        assert!(read.truncated && !read.malformed, "{read:?}");
        assert_eq!(read.answers.len(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let read = read(&bytes, bytes.len());
            prop_assert!(read.answers.len() <= ANSWERS);
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0..ANSWER.len(), byte: u8) {
            let mut bytes = ANSWER.to_vec();
            bytes[at] = byte;
            let read = read(&bytes, bytes.len());
            prop_assert!(read.name.len() <= 4 * 255);
        }
    }
}
