//! What a TLS client says first: which server it means, what it would talk, and which kind of client it is.
//!
//! It is the process's own text: whatever it holds, reading it ends, and what cannot be read is said to be malformed.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tls_parser::{
    SNIType, TlsClientHelloContents, TlsExtension, TlsMessage, TlsMessageHandshake,
    parse_tls_client_hello_extension, parse_tls_plaintext,
};

use crate::hex::hex;

/// Protocols that are kept of one hello.
const PROTOCOLS: usize = 8;

/// Bytes of a name that are kept: no name of a host is longer.
const NAME_MAX: usize = 255;

/// A ClientHello, as far as it tells whom the client means and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHello {
    /// The server's name, what is not printable in it escaped; empty where none is given, or it is encrypted.
    pub server_name: Box<str>,
    /// What the client would talk (ALPN): `h2`, `http/1.1`; at most 8.
    pub protocols: Vec<Box<str>>,
    /// Versions that it offers, in its order: `0x0304` is TLS 1.3.
    pub versions: Vec<u16>,
    /// Its fingerprint, after the definition of JA4; empty where the hello could not be read to its end.
    pub ja4: Box<str>,
    /// Not all of it was seen.
    pub truncated: bool,
    /// It is not as it should be. What could be read is kept.
    pub malformed: bool,
}

/// What a record with a hello begins with, in its first, second and sixth byte.
const HANDSHAKE: u8 = 22;
const TLS_MAJOR: u8 = 3;
const CLIENT_HELLO: u8 = 1;

/// The extensions that are looked into, by number.
const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
const PROTOCOL_NEGOTIATION: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// An extension: what it is, and with its head.
type Extension<'a> = (u16, &'a [u8]);

/// What only the fingerprint needs.
#[derive(Default)]
struct Marks<'a> {
    kinds: Vec<u16>,
    signatures: Vec<u16>,
    protocol: &'a [u8],
}

/// Reads the `bytes` of a hello whose call gave `total`.
#[must_use]
pub fn read(bytes: &[u8], total: usize) -> ClientHello {
    let mut read = ClientHello::default();
    if !bytes.is_empty() && !matches!(bytes, [HANDSHAKE, TLS_MAJOR, _, _, _, CLIENT_HELLO, ..]) {
        read.malformed = true;
        return read;
    }
    let record = match parse_tls_plaintext(bytes) {
        Ok((_, record)) => record,
        Err(error) => {
            // A record that goes on in the next buffer or call is as it should be.
            read.truncated = total > bytes.len() || error.is_incomplete();
            read.malformed = !read.truncated;
            return read;
        }
    };
    let Some(TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello))) = record.msg.first() else {
        read.malformed = true;
        return read;
    };
    let mut marks = Marks::default();
    let mut rest = hello.ext.unwrap_or_default();
    while let Some((extension, others)) = split(rest) {
        rest = others;
        take(extension, &mut read, &mut marks);
    }
    read.malformed |= !rest.is_empty();
    if read.versions.is_empty() {
        read.versions.push(hello.version.0);
    }
    if !read.malformed {
        read.ja4 = ja4(hello, &marks, &read).into();
    }
    read
}

/// The first extension, and what follows it.
fn split(bytes: &[u8]) -> Option<(Extension<'_>, &[u8])> {
    let (kind, rest) = bytes.split_first_chunk()?;
    let (length, _) = rest.split_first_chunk()?;
    let (extension, rest) = bytes.split_at_checked(4 + usize::from(u16::from_be_bytes(*length)))?;
    Some(((u16::from_be_bytes(*kind), extension), rest))
}

fn take<'a>((kind, bytes): Extension<'a>, read: &mut ClientHello, marks: &mut Marks<'a>) {
    if is_grease(kind) {
        return;
    }
    marks.kinds.push(kind);
    if ![
        SERVER_NAME,
        SIGNATURE_ALGORITHMS,
        PROTOCOL_NEGOTIATION,
        SUPPORTED_VERSIONS,
    ]
    .contains(&kind)
    {
        return;
    }
    match parse_tls_client_hello_extension(bytes) {
        Ok((_, TlsExtension::SNI(names))) => {
            let name = names.iter().find(|(kind, _)| *kind == SNIType::HostName);
            let name = name.map_or(&[][..], |(_, name)| name);
            read.malformed |= name.len() > NAME_MAX;
            read.server_name = text(&name[..name.len().min(NAME_MAX)]);
        }
        Ok((_, TlsExtension::ALPN(protocols))) => {
            marks.protocol = protocols.first().copied().unwrap_or_default();
            let protocols = protocols.iter().take(PROTOCOLS);
            read.protocols = protocols.map(|protocol| text(protocol)).collect();
        }
        Ok((_, TlsExtension::SupportedVersions(versions))) => {
            read.versions = without_grease(versions.iter().map(|version| version.0));
        }
        Ok((_, TlsExtension::SignatureAlgorithms(algorithms))) => {
            marks.signatures = without_grease(algorithms.into_iter());
        }
        _ => read.malformed = true,
    }
}

fn text(bytes: &[u8]) -> Box<str> {
    bytes.escape_ascii().to_string().into()
}

/// Values that say nothing (RFC 8701): both bytes alike, ending in `a`.
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

fn without_grease(values: impl Iterator<Item = u16>) -> Vec<u16> {
    values.filter(|value| !is_grease(*value)).collect()
}

/// <https://github.com/FoxIO-LLC/ja4/blob/main/technical_details/JA4.md>, for TLS over TCP.
fn ja4(hello: &TlsClientHelloContents<'_>, marks: &Marks<'_>, read: &ClientHello) -> String {
    let ciphers = without_grease(hello.ciphers.iter().map(|cipher| cipher.0));
    let version = match read.versions.iter().max() {
        Some(0x0304) => "13",
        Some(0x0303) => "12",
        Some(0x0302) => "11",
        Some(0x0301) => "10",
        Some(0x0300) => "s3",
        _ => "00",
    };
    let named = marks.kinds.contains(&SERVER_NAME);
    let head = format!(
        "t{version}{}{:02}{:02}{}",
        if named { 'd' } else { 'i' },
        ciphers.len().min(99),
        marks.kinds.len().min(99),
        protocol_mark(marks.protocol)
    );
    let hashed = marks.kinds.iter().copied();
    let hashed = hashed.filter(|kind| *kind != SERVER_NAME && *kind != PROTOCOL_NEGOTIATION);
    let mut extensions = list(sorted(hashed.collect()));
    if !marks.signatures.is_empty() {
        extensions.push('_');
        extensions.push_str(&list(marks.signatures.clone()));
    }
    format!("{head}_{}_{}", hash(&list(sorted(ciphers))), hash(&extensions))
}

/// First and last character of the first protocol, or of its hexadecimal form where one is not alphanumeric.
fn protocol_mark(protocol: &[u8]) -> String {
    let (Some(first), Some(last)) = (protocol.first(), protocol.last()) else {
        return "00".to_owned();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return format!("{}{}", char::from(*first), char::from(*last));
    }
    format!("{:x}{:x}", first >> 4, last & 15)
}

fn sorted(mut values: Vec<u16>) -> Vec<u16> {
    values.sort_unstable();
    values
}

fn list(values: Vec<u16>) -> String {
    let texts: Vec<String> = values.iter().map(|value| format!("{value:04x}")).collect();
    texts.join(",")
}

fn hash(text: &str) -> String {
    if text.is_empty() {
        return "0".repeat(12);
    }
    hex(&Sha256::digest(text.as_bytes())[..6])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sized(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
    }

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes(), &*sized(body)].concat()
    }

    fn words(values: &[u16]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_be_bytes()).collect()
    }

    /// The client in the definition of JA4, with what it hashes and grease.
    fn hello() -> Vec<u8> {
        let ciphers = [
            0x0a0a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014,
            0x009c, 0x009d, 0x002f, 0x0035,
        ];
        let signatures = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];
        let extensions = [
            extension(0x1a1a, &[]),
            extension(0, &sized(&[&[0], &*sized(b"www.example.org")].concat())),
            extension(0x17, &[]),
            extension(0xff01, &[0]),
            extension(0x0a, &sized(&words(&[29]))),
            extension(0x0b, &[1, 0]),
            extension(0x23, &[]),
            extension(0x10, &sized(b"\x02h2\x08http/1.1")),
            extension(0x05, &[1, 0, 0, 0, 0]),
            extension(0x0d, &sized(&words(&signatures))),
            extension(0x12, &[]),
            extension(0x33, &sized(&[])),
            extension(0x2d, &[1, 1]),
            extension(0x2b, &[6, 0x2a, 0x2a, 3, 4, 3, 3]),
            extension(0x1b, &[2, 0, 2]),
            extension(0x4469, &[]),
            extension(0x15, &[0; 9]),
        ]
        .concat();
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[0],
            &sized(&words(&ciphers)),
            &[1, 0],
            &sized(&extensions),
        ]
        .concat();
        [&[22, 3, 1], &*sized(&[&[1, 0], &*sized(&body)].concat())].concat()
    }

    #[test]
    fn the_client_of_the_definition_has_its_fingerprint() {
        let bytes = hello();
        let read = read(&bytes, bytes.len());
        assert_eq!(&*read.ja4, "t13d1516h2_8daaf6152771_e5627efa2ab1", "{read:?}");
        assert_eq!(&*read.server_name, "www.example.org");
        assert_eq!(read.versions, [0x0304, 0x0303]);
        assert!(!read.malformed && !read.truncated);
    }

    #[test]
    fn what_was_cut_is_not_called_malformed() {
        let bytes = hello();
        let read = read(&bytes[..100], bytes.len());
        assert!(read.truncated && !read.malformed, "{read:?}");
    }

    #[test]
    fn what_is_no_hello_is_malformed() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        ] {
            assert!(read(bytes, bytes.len()).malformed, "{bytes:?}");
        }
    }

    #[test]
    fn what_comes_before_a_fault_and_after_it_is_kept() {
        let mut bytes = hello();
        // The list of protocols says that it is longer than its extension.
        let at = bytes.windows(4).position(|four| four == [2, b'h', b'2', 8]);
        bytes[at.unwrap() - 1] = 200;
        let read = read(&bytes, bytes.len());
        assert!(read.malformed && read.ja4.is_empty(), "{read:?}");
        assert_eq!(&*read.server_name, "www.example.org");
        assert_eq!(read.versions, [0x0304, 0x0303]);
    }

    #[test]
    fn protocols_that_are_no_text_are_marked_by_their_digits() {
        for (protocol, mark) in [
            (&b"h2"[..], "h2"),
            (b"http/1.1", "h1"),
            (b"", "00"),
            (b"q", "qq"),
            (b"\xab", "ab"),
            (b"\x30\xab", "3b"),
            (b"\x30\x31\xab\xcd", "3d"),
        ] {
            assert_eq!(protocol_mark(protocol), mark, "{protocol:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let read = read(&bytes, bytes.len());
            prop_assert!(read.protocols.len() <= PROTOCOLS);
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0..200_usize, byte: u8) {
            let mut bytes = hello();
            bytes[at] = byte;
            let _ = read(&bytes, bytes.len());
        }
    }
}
