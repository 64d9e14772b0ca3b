//! The process's sockets, as the tables of its own network namespace have them.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde_json::{Value, json};

use super::{
    collect::Collection,
    descriptors::Sockets,
    process::{lines, lossy},
};

/// Bytes that are read of a table: some hundred thousand sockets.
const TABLE_MAX: u64 = 64 << 20;

/// Longest line that is read of it.
const LINE_MAX: u64 = 4 << 10;

/// Tables of sockets that have addresses.
const INTERNET: [&str; 6] = ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"];

/// Lists those of `sockets` as `sockets.jsonl`.
pub(super) fn list(collection: &mut Collection, mut sockets: Sockets) -> io::Result<()> {
    let mut found: Vec<Value> = Vec::new();
    let mut truncated = None;
    for table in INTERNET.into_iter().chain(["unix"]) {
        if sockets.is_empty() {
            break;
        }
        collection.step(&format!("net/{table}"))?;
        let file = match collection.process.open_file(&format!("net/{table}")) {
            Ok(file) => file,
            // A kernel without IPv6 has fewer tables.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                collection.lacks(&format!("sockets of net/{table}"), &error)?;
                continue;
            }
        };
        let mut reader = BufReader::new(file.take(TABLE_MAX));
        let mut line = Vec::new();
        loop {
            line.clear();
            // A line that is longer is read as several, none of which is one of ours.
            if !matches!(
                reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line),
                Ok(1..)
            ) {
                break;
            }
            let parsed = if table == "unix" {
                unix(&line)
            } else {
                internet(table, &line)
            };
            if let Some((inode, mut socket)) = parsed
                && let Some(descriptors) = sockets.remove(&inode)
            {
                socket["descriptors"] = descriptors.into();
                socket["inode"] = inode.into();
                found.push(socket);
            }
        }
        if reader.get_ref().limit() == 0 {
            truncated = Some(format!(
                "of net/{table} the first {TABLE_MAX} bytes were looked at"
            ));
        }
    }
    let others = sockets
        .into_iter()
        .map(|(inode, descriptors)| json!({ "table": "other", "inode": inode, "descriptors": descriptors }));
    found.extend(others);
    collection.text("sockets.jsonl", Ok((lines(found.into_iter()), truncated)))
}

/// A line of `/proc/net/tcp` and its like: `sl local remote st tx:rx tr:when retrnsmt uid timeout inode …`.
fn internet(table: &str, line: &[u8]) -> Option<(u64, Value)> {
    let line = std::str::from_utf8(line).ok()?;
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let inode = fields.get(9)?.parse().ok()?;
    let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    let value = json!({
        "table": table,
        "local": address(fields.get(1)?)?.to_string(),
        "remote": address(fields.get(2)?)?.to_string(),
        "state": if table.starts_with("tcp") { tcp_state(state) } else { "" },
    });
    Some((inode, value))
}

/// `0100007F:1F90`: words of four bytes as the processor reads them, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |index: usize| {
        let digits = address.get(8 * index..8 * index + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

/// The kernel's `enum` of `net/tcp_states.h`.
fn tcp_state(state: u8) -> &'static str {
    match state {
        1 => "established",
        2 => "syn sent",
        3 => "syn received",
        4 => "fin wait 1",
        5 => "fin wait 2",
        6 => "time wait",
        7 => "closed",
        8 => "close wait",
        9 => "last ack",
        10 => "listening",
        11 => "closing",
        12 => "new syn received",
        _ => "unknown",
    }
}

/// A line of `/proc/net/unix`: `Num RefCount Protocol Flags Type St Inode Path`.
fn unix(line: &[u8]) -> Option<(u64, Value)> {
    let line = lossy(line.trim_ascii_end());
    let mut fields = line.split_ascii_whitespace();
    let kind = fields.nth(4)?;
    let inode = fields.nth(1)?.parse().ok()?;
    // A path may have spaces in it; it is the rest of the line behind the inode.
    let path = line
        .split_once(&format!(" {inode} "))
        .map_or("", |(_, path)| path.trim_start());
    let kind = match kind {
        "0001" => "stream",
        "0002" => "datagram",
        "0005" => "packet",
        _ => "unknown",
    };
    Some((inode, json!({ "table": "unix", "kind": kind, "path": path })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernels_tables() {
        let tcp = b"   0: 0100007F:1F90 0200A8C0:01BB 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0\n";
        let (inode, socket) = internet("tcp", tcp).unwrap();
        assert_eq!(inode, 4711);
        assert_eq!(socket["local"], "127.0.0.1:8080");
        assert_eq!(socket["remote"], "192.168.0.2:443");
        assert_eq!(socket["state"], "established");
        let udp6 = b"  1: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 0:0 00:0 0 0 0 12 2 0 0\n";
        assert_eq!(internet("udp6", udp6).unwrap().1["local"], "[::1]:53");
        let (inode, socket) =
            unix(b"0000000000000000: 00000002 00000000 00010000 0001 01 77 /run/a b\n").unwrap();
        assert_eq!(
            (inode, &socket["path"], &socket["kind"]),
            (77, &json!("/run/a b"), &json!("stream"))
        );
        assert_eq!(unix(b"0: 2 0 0 0002 01 78\n").unwrap().1["path"], "");
    }

    #[test]
    fn headings_and_broken_lines_are_passed_over() {
        for line in [
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            "",
            "0: 0100007F 0200A8C0:01BB 01 a b c d e 7",
            "0: 0100007:1F90 0200A8C0:01BB 01 a b c d e 7",
            "0: 0100007\u{fc}:1 0200A8C0:01BB 01 a b c d e 7",
        ] {
            assert_eq!(internet("tcp", line.as_bytes()), None, "{line}");
            assert_eq!(unix(line.as_bytes()), None, "{line}");
        }
    }
}
