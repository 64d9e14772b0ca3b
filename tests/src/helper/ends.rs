//! A process whose attempts to reach others are ordered one by one.

use std::{
    collections::HashMap,
    fs,
    io::{self, BufRead as _, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    net::sockopt::set_socket_timeout,
    thread::{UnshareFlags, unshare_unsafe},
};

/// How long is waited for an answer, or for a connection.
const WHILE: Duration = Duration::from_secs(1);

/// `ends [own-network]`: obeys one order a line, and answers each with a line: `ok …`, or how it failed.
pub(super) fn obey(args: &[String]) -> Result<()> {
    if args.first().is_some_and(|arg| arg == "own-network") {
        // SAFETY: gives this thread, the only one, a network namespace; memory is not concerned.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("cannot have a network of its own")?;
        ip("link set lo up")?;
        // Addresses are used at once, without looking for whoever has the same.
        let _ = fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
    }
    let mut ends = Ends::default();
    println!("ok");
    for order in io::stdin().lock().lines() {
        match ends.obey(&order?) {
            Ok(answer) => println!("ok {answer}"),
            Err(error) => println!("{}", said(&error)),
        }
    }
    Ok(())
}

/// The number of the error that the kernel gave, by name where it is told apart.
fn said(error: &anyhow::Error) -> String {
    let cause = error.downcast_ref::<io::Error>();
    match cause.map(|cause| (cause.raw_os_error(), cause.kind())) {
        Some((Some(libc::EPERM), _)) => "refused".to_owned(),
        Some(
            (Some(libc::EAGAIN | libc::ETIMEDOUT | libc::EINPROGRESS), _) | (_, io::ErrorKind::TimedOut),
        ) => "silence".to_owned(),
        _ => format!("{error:#}"),
    }
}

#[derive(Default)]
struct Ends {
    connections: HashMap<String, TcpStream>,
    listeners: HashMap<String, TcpListener>,
    sockets: HashMap<String, UdpSocket>,
}

impl Ends {
    fn obey(&mut self, order: &str) -> Result<String> {
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            // TCP: a connection has the name of its far end.
            ["connect", end] => {
                let stream = TcpStream::connect_timeout(&end.parse()?, WHILE)?;
                stream.set_read_timeout(Some(WHILE))?;
                self.connections.insert(end.to_owned(), stream);
            }
            ["echo", end] => {
                let stream = self.connections.get_mut(end).context("not connected")?;
                stream.write_all(b"x")?;
                stream.read_exact(&mut [0])?;
            }
            ["listen", end] => {
                let listener = TcpListener::bind(end)?;
                set_socket_timeout(listener.as_fd(), rustix::net::sockopt::Timeout::Recv, Some(WHILE))?;
                let local = listener.local_addr()?;
                self.listeners.insert(local.to_string(), listener);
                return Ok(local.to_string());
            }
            // Accepts one connection and echoes what it says, until it is closed.
            ["serve", end] => {
                let listener = self.listeners.get(end).context("not listening")?;
                let (mut stream, _) = listener.accept()?;
                stream.set_read_timeout(None)?;
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while matches!(stream.read(&mut byte), Ok(1)) && stream.write_all(&byte).is_ok() {}
                });
            }
            // UDP.
            ["send", end] => {
                let end: SocketAddr = end.parse()?;
                any(end)?.send_to(b"x", end)?;
            }
            ["send-connected", end] => {
                let end: SocketAddr = end.parse()?;
                let socket = any(end)?;
                socket.connect(end)?;
                socket.send(b"x")?;
            }
            // One that is kept, by the name of its far end.
            ["associate", end] => {
                let socket = any(end.parse()?)?;
                socket.connect(end)?;
                self.sockets.insert(end.to_owned(), socket);
            }
            ["send-again", end] => {
                self.sockets.get(end).context("no such socket")?.send(b"x")?;
            }
            ["bind", end] => {
                let socket = UdpSocket::bind(end)?;
                socket.set_read_timeout(Some(WHILE))?;
                let local = socket.local_addr()?;
                self.sockets.insert(local.to_string(), socket);
                return Ok(local.to_string());
            }
            ["receive", end] => {
                self.sockets.get(end).context("not bound")?.recv(&mut [0; 16])?;
            }
            // A process of its own, which obeys one order and ends.
            ["child", ref order @ ..] => return child(&order.join(" ")),
            // Packets that its loopback device has sent.
            ["packets"] => return packets(),
            ["ip", ref rest @ ..] => ip(&rest.join(" "))?,
            _ => bail!("there is no order {order:?}"),
        }
        Ok(String::new())
    }
}

fn any(end: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(if end.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })
}

fn child(order: &str) -> Result<String> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([super::SWITCH, "ends"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut orders = child.stdin.take().context("no input")?;
    writeln!(orders, "{order}")?;
    drop(orders);
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().nth(1).context("the child says nothing")?.to_owned())
}

fn packets() -> Result<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let line = table.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    let sent = line.and_then(|line| line.split_whitespace().nth(9));
    Ok(sent.context("no loopback device")?.to_owned())
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    if !output.status.success() {
        bail!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
