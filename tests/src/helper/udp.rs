//! The two ends of an exchange of datagrams of exact size.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::number;

/// How long an end waits for the other.
const PATIENCE: Duration = Duration::from_secs(30);

/// `udp-server ADDRESS COUNT LENGTH`: says its port, then answers so many datagrams with as many of a length.
pub(super) fn server(args: &[String]) -> Result<()> {
    let socket = UdpSocket::bind(address(args)?)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    println!("{}", socket.local_addr()?.port());
    for _ in 0..number::<u32>(args, 1)? {
        let (_, client) = socket.recv_from(&mut [0; 65_536])?;
        socket.send_to(&vec![b's'; number(args, 2)?], client)?;
    }
    Ok(())
}

/// `udp-client ADDRESS COUNT LENGTH connected|unconnected`.
pub(super) fn client(args: &[String]) -> Result<()> {
    let server = address(args)?;
    let socket = UdpSocket::bind(any_of(server))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let connected = args.get(3).is_some_and(|how| how == "connected");
    if connected {
        socket.connect(server)?;
    }
    let datagram = vec![b'c'; number(args, 2)?];
    for _ in 0..number::<u32>(args, 1)? {
        if connected {
            socket.send(&datagram)?;
            socket.recv(&mut [0; 65_536])?;
        } else {
            socket.send_to(&datagram, server)?;
            socket.recv_from(&mut [0; 65_536])?;
        }
    }
    Ok(())
}

/// `dns-server ADDRESS ANSWER`: says that it listens, then answers one question for an `A` record with an IPv4 address.
pub(super) fn name_server(args: &[String]) -> Result<()> {
    let socket = UdpSocket::bind(address(args)?)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    println!("{}", socket.local_addr()?.port());
    let answer: std::net::Ipv4Addr = args.get(1).context("no answer is named")?.parse()?;
    let mut question = [0; 512];
    let (length, client) = socket.recv_from(&mut question)?;
    let mut message = question[..length].to_vec();
    message[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
    message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    message.extend_from_slice(&answer.octets());
    socket.send_to(&message, client)?;
    Ok(())
}

/// `dns-client SERVER NAME ADDRESS`: asks for a name, then connects to an address over TCP, where nobody need listen.
pub(super) fn resolver(args: &[String]) -> Result<()> {
    let server = address(args)?;
    let socket = UdpSocket::bind(any_of(server))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut question = vec![0xbe, 0xef, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in args.get(1).context("no name is given")?.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    socket.send_to(&question, server)?;
    let (length, _) = socket.recv_from(&mut [0; 512])?;
    ensure!(length > question.len(), "the server did not answer");
    let other: SocketAddr = args.get(2).context("no address is named")?.parse()?;
    // Refused, most likely: the attempt is what counts.
    let _ = std::net::TcpStream::connect(other);
    Ok(())
}

fn address(args: &[String]) -> Result<SocketAddr> {
    Ok(args.first().context("no address is named")?.parse()?)
}

fn any_of(server: SocketAddr) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
