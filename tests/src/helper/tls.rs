//! Both ends of a TLS connection.

use std::{
    io::{self, IoSlice, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
};

/// Whom the server's certificate is for. It holds until 2126, and its key is nobody's secret.
pub const TLS_NAME: &str = "tls.sensor.example";

const CERTIFICATE: &[u8] = include_bytes!("tls/certificate.der");
const KEY: &[u8] = include_bytes!("tls/key.der");

const QUESTION: &[u8] = b"who is there?";
const ANSWER: &[u8] = b"only the server";

/// `tls-client ADDRESS CALL PROTOCOL...`: says by this system call what it has to say.
pub(super) fn client(args: &[String]) -> Result<()> {
    let [address, call, protocols @ ..] = args else {
        bail!("an address and a call are needed");
    };
    let address: SocketAddr = address.parse()?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(CERTIFICATE))?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.clone().into_bytes()).collect();
    let name = ServerName::try_from(TLS_NAME)?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let mut socket = Socket(TcpStream::connect(address)?, Call::named(call)?);
    let mut stream = Stream::new(&mut connection, &mut socket);
    stream.write_all(QUESTION)?;
    receive(&mut stream, ANSWER)?;
    // What comes after the first is no longer looked at, even if it looks like one.
    let mut socket = socket.0;
    socket.write_all(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00")?;
    Ok(())
}

/// `tls-server`: says its port, then serves one client.
pub(super) fn server() -> Result<()> {
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(
        vec![CertificateDer::from(CERTIFICATE)],
        PrivatePkcs8KeyDer::from(KEY).into(),
    )?;
    let mut connection = ServerConnection::new(Arc::new(config))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    let mut socket = listener.accept()?.0;
    let mut stream = Stream::new(&mut connection, &mut socket);
    receive(&mut stream, QUESTION)?;
    stream.write_all(ANSWER)?;
    socket.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn receive(from: &mut impl Read, wanted: &[u8]) -> Result<()> {
    let mut got = vec![0; wanted.len()];
    from.read_exact(&mut got)
        .context("the other end sent less than it should")?;
    ensure!(got == wanted, "the other end sent something else");
    Ok(())
}

/// By which system call something is sent.
#[derive(Clone, Copy)]
enum Call {
    Write,
    Writev,
    Sendto,
    Sendmsg,
}

impl Call {
    fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "write" => Self::Write,
            "writev" => Self::Writev,
            "sendto" => Self::Sendto,
            "sendmsg" => Self::Sendmsg,
            _ => bail!("no call to send by: {name}"),
        })
    }
}

struct Socket(TcpStream, Call);

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = slices.first().map_or(&[][..], |slice| slice);
        let socket = self.0.as_fd();
        let sent = match self.1 {
            Call::Write => rustix::io::write(socket, first),
            Call::Writev => rustix::io::writev(socket, slices),
            Call::Sendto => rustix::net::send(socket, first, SendFlags::NOSIGNAL),
            Call::Sendmsg => sendmsg(
                socket,
                slices,
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            ),
        };
        Ok(sent?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
