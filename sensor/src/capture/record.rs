//! Records, read in place: bytes from a ring in, references into them out.

use sensor_common::{
    Accept, Bind, Connect, Credential, Dns, Exec, Exit, FlowClose, Fork, Header, Listen, Operation, Sequence,
    Signal, TlsHello, UdpFlow,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// A record that was checked: every length in it lies within its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// When, where, who.
    pub header: &'a Header,
    /// What.
    pub body: RecordBody<'a>,
}

/// The body of a record, by signal.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the signals")]
pub enum RecordBody<'a> {
    Exec(ExecRecord<'a>),
    Fork(&'a Fork),
    Exit(&'a Exit),
    Connect(&'a Connect),
    Accept(&'a Accept),
    Listen(&'a Listen),
    FlowClose(&'a FlowClose),
    /// What it has carried so far, in the same words.
    FlowReport(&'a FlowClose),
    Bind(&'a Bind),
    UdpFlow(&'a UdpFlow),
    Dns(DnsRecord<'a>),
    TlsHello(HelloRecord<'a>),
    Credential(&'a Credential),
    Operation(OperationRecord<'a>),
    Sequence(&'a Sequence),
}

/// A message of the domain name system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DnsRecord<'a> {
    /// The part of fixed length.
    pub dns: &'a Dns,
    /// The message, as far as it was copied.
    pub message: &'a [u8],
}

/// The first message of a TLS client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HelloRecord<'a> {
    /// The part of fixed length.
    pub hello: &'a TlsHello,
    /// The message, as far as it was copied.
    pub message: &'a [u8],
}

/// An operation with its texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperationRecord<'a> {
    /// The part of fixed length.
    pub operation: &'a Operation,
    /// For each of two paths: the directory, leaf first with a NUL after each component, and the text relative to it.
    pub paths: [(&'a [u8], &'a [u8]); 2],
}

/// An exec with its texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExecRecord<'a> {
    /// The part of fixed length.
    pub exec: &'a Exec,
    /// Arguments, a NUL after each.
    pub args: &'a [u8],
    /// Executable, leaf first, a NUL after each component.
    pub path: &'a [u8],
    /// Current directory, likewise.
    pub cwd: &'a [u8],
    /// File name as it was asked for.
    pub filename: &'a [u8],
    /// Environment variables that make a loader or an interpreter run other code, a NUL after each.
    pub variables: &'a [u8],
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Fewer bytes than the header or the body takes, or not aligned to eight bytes.
    #[error(
        "record of {length} bytes is too short for a {what}, or not aligned; kernel programs and agent may be of different versions"
    )]
    Short {
        /// What was to be read.
        what: &'static str,
        /// How many bytes there were.
        length: usize,
    },
    /// The length in the header is not the length of the record.
    #[error("record of {length} bytes says that it has {said}")]
    Length {
        /// How many bytes there were.
        length: usize,
        /// How many the header says.
        said: u32,
    },
    /// No signal has this number.
    #[error("record of unknown signal {0}; kernel programs and agent may be of different versions")]
    Signal(u16),
    /// The parts of the tail are longer than the tail.
    #[error("record's parts take {parts} bytes of a tail of {tail}")]
    Tail {
        /// Bytes that the parts say they take.
        parts: u64,
        /// Bytes there are.
        tail: usize,
    },
}

impl<'a> Record<'a> {
    /// Reads the record that `bytes` holds. Padding behind the record is not an error.
    ///
    /// # Errors
    /// If `bytes` is too short, misaligned, of an unknown signal, or its lengths contradict each other.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (header, _) = prefix::<Header>(bytes, "header")?;
        let bytes = bytes.get(..header.length as usize).ok_or(RecordError::Length {
            length: bytes.len(),
            said: header.length,
        })?;
        let rest = bytes.get(size_of::<Header>()..).ok_or(RecordError::Length {
            length: bytes.len(),
            said: header.length,
        })?;
        let signal = Signal::from_number(header.signal).ok_or(RecordError::Signal(header.signal))?;
        let body = match signal {
            Signal::Exec => RecordBody::Exec(ExecRecord::decode(rest)?),
            Signal::Fork => RecordBody::Fork(prefix(rest, "fork")?.0),
            Signal::Exit => RecordBody::Exit(prefix(rest, "exit")?.0),
            Signal::Connect => RecordBody::Connect(prefix(rest, "connect")?.0),
            Signal::Accept => RecordBody::Accept(prefix(rest, "accept")?.0),
            Signal::Listen => RecordBody::Listen(prefix(rest, "listen")?.0),
            Signal::FlowClose => RecordBody::FlowClose(prefix(rest, "flow_close")?.0),
            Signal::FlowReport => RecordBody::FlowReport(prefix(rest, "flow_report")?.0),
            Signal::TlsHello => RecordBody::TlsHello(HelloRecord::decode(rest)?),
            Signal::Bind => RecordBody::Bind(prefix(rest, "bind")?.0),
            Signal::UdpFlow => RecordBody::UdpFlow(prefix(rest, "udp_flow")?.0),
            Signal::Dns => RecordBody::Dns(DnsRecord::decode(rest)?),
            Signal::Credential => RecordBody::Credential(prefix(rest, "credential")?.0),
            Signal::Sequence => RecordBody::Sequence(prefix(rest, "sequence")?.0),
            _ => RecordBody::Operation(OperationRecord::decode(rest)?),
        };
        Ok(Self { header, body })
    }
}

impl<'a> ExecRecord<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (exec, tail) = prefix::<Exec>(bytes, "exec")?;
        let [args, path, cwd, filename, variables] = parts(
            tail,
            [
                exec.args_length,
                exec.path_length,
                exec.cwd_length,
                exec.filename_length,
                exec.variables_length,
            ],
        )?;
        Ok(Self {
            exec,
            args,
            path,
            cwd,
            filename,
            variables,
        })
    }
}

impl<'a> HelloRecord<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (hello, tail) = prefix::<TlsHello>(bytes, "tls_hello")?;
        let [message] = parts(tail, [hello.length])?;
        Ok(Self { hello, message })
    }
}

impl<'a> DnsRecord<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (dns, tail) = prefix::<Dns>(bytes, "dns")?;
        let [message] = parts(tail, [dns.length])?;
        Ok(Self { dns, message })
    }
}

impl<'a> OperationRecord<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (operation, tail) = prefix::<Operation>(bytes, "operation")?;
        let [directory, text, other_directory, other_text] = parts(tail, operation.lengths)?;
        Ok(Self {
            operation,
            paths: [(directory, text), (other_directory, other_text)],
        })
    }
}

/// The parts of a tail, which follow each other.
fn parts<const N: usize>(tail: &[u8], lengths: [u32; N]) -> Result<[&[u8]; N], RecordError> {
    let sum = lengths.iter().map(|length| u64::from(*length)).sum::<u64>();
    if sum > tail.len() as u64 {
        return Err(RecordError::Tail {
            parts: sum,
            tail: tail.len(),
        });
    }
    let mut rest = tail;
    Ok(lengths.map(|length| {
        let (part, after) = rest.split_at(length as usize);
        rest = after;
        part
    }))
}

fn prefix<'a, T: FromBytes + KnownLayout + Immutable>(
    bytes: &'a [u8],
    what: &'static str,
) -> Result<(&'a T, &'a [u8]), RecordError> {
    T::ref_from_prefix(bytes).map_err(|_| RecordError::Short {
        what,
        length: bytes.len(),
    })
}

/// The path that `text` stands for in a directory, given as in [`path_from_components`]; without a text it is the
/// directory itself.
#[must_use]
pub fn path_in_directory(directory: &[u8], text: &[u8], truncated: bool) -> Box<[u8]> {
    if directory.is_empty() && !text.is_empty() {
        return text.into();
    }
    let base = path_from_components(directory, truncated);
    if text.is_empty() {
        return base;
    }
    let base = base.strip_suffix(b"/").unwrap_or(&base);
    let text = text.strip_prefix(b"/").unwrap_or(text);
    [base, b"/", text].concat().into()
}

/// The path that `components`, leaf first with a NUL after each, stand for: `ls\0bin\0` is `/bin/ls`.
///
/// `absolute` is false where the walk did not reach the root: `…/bin/ls`.
#[must_use]
pub fn path_from_components(components: &[u8], truncated: bool) -> Box<[u8]> {
    let mut path = Vec::with_capacity(components.len() + 4);
    if truncated {
        path.extend_from_slice("…".as_bytes());
    }
    let components = components.strip_suffix(b"\0").unwrap_or(components);
    if components.is_empty() {
        path.push(b'/');
        return path.into();
    }
    for component in components.rsplit(|byte| *byte == 0) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    path.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    /// Eight-byte aligned, as in a ring.
    fn aligned(bytes: &[u8]) -> (Vec<u64>, usize) {
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        (words, bytes.len())
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let (words, length) = aligned(&bytes);
            let _ = Record::decode(&words.as_bytes()[..length]);
        }

        #[test]
        fn arbitrary_lengths_never_panic(signal in 0..40_u16, length in 0..400_u32, lengths: [u32; 4], tail in 0..200_usize) {
            let header = Header { signal, length, ..Header::default() };
            let exec = Exec {
                args_length: lengths[0] % 100, path_length: lengths[1] % 100,
                cwd_length: lengths[2] % 100, filename_length: lengths[3], ..Exec::default()
            };
            let bytes = [header.as_bytes(), exec.as_bytes(), &vec![7; tail]].concat();
            let (words, length) = aligned(&bytes);
            if let Ok(Record { body: RecordBody::Exec(exec), .. }) = Record::decode(&words.as_bytes()[..length]) {
                prop_assert!(exec.args.len() + exec.path.len() + exec.cwd.len() + exec.filename.len() <= tail);
            }
        }
    }

    #[test]
    fn paths_are_put_into_their_directories() {
        for (directory, text, path) in [
            (&b"tmp\0"[..], &b"x"[..], "/tmp/x"),
            (b"", b"/etc/passwd", "/etc/passwd"),
            (b"jail\0srv\0", b"/etc/passwd", "/srv/jail/etc/passwd"),
            (b"a\0tmp\0", b"../b", "/tmp/a/../b"),
            (b"etc\0", b"", "/etc"),
            (b"", b"plain name", "plain name"),
        ] {
            assert_eq!(&*path_in_directory(directory, text, false), path.as_bytes());
        }
    }

    #[test]
    fn paths_are_turned_round() {
        for (components, truncated, path) in [
            (&b"ls\0bin\0usr\0"[..], false, "/usr/bin/ls"),
            (b"", false, "/"),
            (b"memfd:x\0", false, "/memfd:x"),
            (b"z\0y\0", true, "…/y/z"),
        ] {
            assert_eq!(&*path_from_components(components, truncated), path.as_bytes());
        }
    }
}
