//! A wire to a host of its own, which can fail.

use std::{net::IpAddr, process::Command};

use anyhow::{Context as _, Result, ensure};

/// Two ends, one on this host, one in a namespace.
pub struct Wire {
    /// Where the other end is.
    pub namespace: String,
    /// The address of the other end.
    pub far: IpAddr,
    near: String,
}

/// A network that nobody routes (RFC 5737).
const NEAR: &str = "198.51.100.1/30";
const FAR: &str = "198.51.100.2/30";

impl Wire {
    /// Lays one.
    ///
    /// # Errors
    /// If iproute2 is not there, or the kernel has no namespaces or no pairs of interfaces.
    pub fn new() -> Result<Self> {
        let number = std::process::id();
        let wire = Self {
            namespace: format!("wire-{number}"),
            far: FAR.trim_end_matches("/30").parse()?,
            near: format!("near{number}"),
        };
        let Self { namespace, near, .. } = &wire;
        run(&["ip", "netns", "add", namespace])?;
        run(&[
            "ip", "link", "add", near, "type", "veth", "peer", "name", "far", "netns", namespace,
        ])?;
        run(&["ip", "addr", "add", NEAR, "dev", near])?;
        run(&["ip", "link", "set", near, "up"])?;
        for arguments in [
            ["addr", "add", FAR, "dev", "far"].as_slice(),
            &["link", "set", "far", "up"],
            &["link", "set", "lo", "up"],
        ] {
            run(&[&["ip", "-netns", namespace], arguments].concat())?;
        }
        Ok(wire)
    }

    /// It carries nothing from now on.
    ///
    /// # Errors
    /// If that cannot be set.
    pub fn cut(&self) -> Result<()> {
        run(&["ip", "link", "set", &self.near, "down"])
    }

    /// It carries again.
    ///
    /// # Errors
    /// If that cannot be set.
    pub fn mend(&self) -> Result<()> {
        run(&["ip", "link", "set", &self.near, "up"])
    }

    /// 256 kbit/s, with a tenth of a second in the queue at most: what is beyond is dropped.
    ///
    /// # Errors
    /// If that cannot be set.
    pub fn slow(&self) -> Result<()> {
        let shape = ["rate", "256kbit", "burst", "4kb", "latency", "100ms"];
        run(&[
            &["tc", "qdisc", "add", "dev", &self.near, "root", "tbf"],
            shape.as_slice(),
        ]
        .concat())
    }

    /// Every other packet takes a way with 2 Mbit/s, so that those behind it come before it.
    ///
    /// # Errors
    /// If that cannot be set.
    pub fn shuffle(&self) -> Result<()> {
        let near = &self.near;
        for arguments in [
            [
                "qdisc", "add", "dev", near, "root", "handle", "1:", "htb", "default", "1",
            ]
            .as_slice(),
            &[
                "class", "add", "dev", near, "parent", "1:", "classid", "1:1", "htb", "rate", "1gbit",
            ],
            &[
                "class", "add", "dev", near, "parent", "1:", "classid", "1:2", "htb", "rate", "2mbit",
                "burst", "2k",
            ],
            // By the lowest bit of the identification in the header, which counts up.
            &[
                "filter", "add", "dev", near, "parent", "1:", "protocol", "ip", "u32", "match", "u16",
                "0x0001", "0x0001", "at", "4", "flowid", "1:2",
            ],
        ] {
            run(&[&["tc"], arguments].concat())?;
        }
        Ok(())
    }

    /// All packets take the same way again, as fast as they can.
    ///
    /// # Errors
    /// If that cannot be set.
    pub fn hurry(&self) -> Result<()> {
        run(&["tc", "qdisc", "del", "dev", &self.near, "root"])
    }

    /// Segments that came to the other end before those that belong before them.
    ///
    /// # Errors
    /// If the namespace has no counters.
    pub fn out_of_order(&self) -> Result<u64> {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "cat", "/proc/net/netstat"])
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, values) = lines.next().zip(lines.next()).context("no counters of TCP")?;
        let mut counters = names.split(' ').zip(values.split(' '));
        let counter = counters.find(|(name, _)| *name == "TCPOFOQueue");
        let (_, count) = counter.context("no count of segments out of order")?;
        Ok(count.parse()?)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = run(&["ip", "netns", "del", &self.namespace]);
        // The end here goes with the other one, but later.
        let _ = Command::new("ip").args(["link", "del", &self.near]).output();
    }
}

/// Runs a program.
///
/// # Errors
/// If it does not end well.
pub fn run(words: &[&str]) -> Result<()> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .with_context(|| format!("could not start {}", words[0]))?;
    ensure!(
        output.status.success(),
        "{} ended with {}: {}",
        words.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
