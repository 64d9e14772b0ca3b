//! The two ends of a connection that carries an exact number of bytes each way.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context as _, Result, ensure};

use super::number;

/// `tcp-server ADDRESS RECEIVE SEND`: says its port, then serves one connection.
pub(super) fn server(args: &[String]) -> Result<()> {
    let listener = TcpListener::bind(address(args)?)?;
    println!("{}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    receive(&mut stream, number(args, 1)?)?;
    stream.write_all(&vec![b's'; number(args, 2)?])?;
    // The client closes first and the server sees it, so that both have counted everything when they close.
    ensure!(stream.read(&mut [0])? == 0, "the client sent more than it should");
    Ok(())
}

/// `tcp-client ADDRESS SEND RECEIVE`.
pub(super) fn client(args: &[String]) -> Result<()> {
    let mut stream = TcpStream::connect(address(args)?)?;
    stream.write_all(&vec![b'c'; number(args, 1)?])?;
    receive(&mut stream, number(args, 2)?)?;
    stream.shutdown(Shutdown::Both)?;
    Ok(())
}

fn address(args: &[String]) -> Result<SocketAddr> {
    Ok(args.first().context("no address is named")?.parse()?)
}

fn receive(stream: &mut TcpStream, length: usize) -> Result<()> {
    stream
        .read_exact(&mut vec![0; length])
        .context("the other end sent less than it should")
}
