//! A host that is cut off: a process in a cgroup and a network namespace of its own plays it, another one the world.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor::{
    enforce::{Destination, Enforcer, Subject},
    time::BootTime,
};
use sensor_tests::patience::{patience, wait_for};

use super::{Stage, later, network::Ends, network::port};
use crate::case;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        case(
            "enforce::an_isolated_host_reaches_what_is_allowed_and_nothing_else",
            isolated,
        ),
        case("enforce::an_isolation_ends_by_itself", ends),
    ]
}

const HOST: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// Each family's collector, and somebody else.
const COLLECTOR: [&str; 2] = ["10.77.0.2", "fd77::2"];
const OTHER: [&str; 2] = ["10.77.0.3", "fd77::3"];
const COLLECTOR_PORT: u16 = 7443;

/// Both, connected by a wire. `None` where this kernel has none.
struct Wire {
    host: Ends,
    world: Ends,
}

impl Wire {
    fn lay(stage: &Stage) -> Result<Option<Self>> {
        let mut host = Ends::start(Some(&stage.cgroup), true)?;
        let mut world = Ends::start(None, true)?;
        // As every `ip` understands it: the kernel names the other end.
        let made = host.say("ip link add wire0 type veth")?;
        if made != "ok" {
            eprintln!("no wire to isolate a host on: {made}");
            return Ok(None);
        }
        host.expect(&format!("ip link set veth0 netns {}", world.pid()), "ok")?;
        world.expect("ip link set veth0 name wire1", "ok")?;
        let world_addresses = COLLECTOR.iter().chain(&OTHER);
        for address in HOST {
            host.expect(&format!("ip addr add {} dev wire0", network(address)), "ok")?;
        }
        for address in world_addresses {
            world.expect(&format!("ip addr add {} dev wire1", network(address)), "ok")?;
        }
        host.expect("ip link set wire0 up", "ok")?;
        world.expect("ip link set wire1 up", "ok")?;
        Ok(Some(Self { host, world }))
    }

    fn serve(&mut self, end: &str) -> Result<()> {
        self.world.expect(&format!("serve {end}"), "ok")
    }
}

fn network(address: &str) -> String {
    if address.contains(':') {
        format!("{address}/64")
    } else {
        format!("{address}/24")
    }
}

fn end(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

fn isolated() -> Result<()> {
    let mut stage = Stage::set()?;
    let Some(mut wire) = Wire::lay(&stage)? else {
        return Ok(());
    };
    let collectors: Vec<Destination> = COLLECTOR
        .iter()
        .map(|address| port(address, COLLECTOR_PORT))
        .collect::<Result<_>>()?;
    let mut open = Vec::new();
    for (collector, other) in COLLECTOR.into_iter().zip(OTHER) {
        wire.world.expect(
            &format!("listen {}", end(collector, COLLECTOR_PORT)),
            &format!("ok {}", end(collector, COLLECTOR_PORT)),
        )?;
        let there = wire.world.ask(&format!("listen {}", end(other, 0)))?;
        // A new wire takes its time to carry IPv6.
        wait_for("a way to the world", patience(20), || {
            Ok((wire.host.say(&format!("connect {there}"))? == "ok").then_some(()))
        })?;
        wire.serve(&there)?;
        wire.host.expect(&format!("echo {there}"), "ok")?;
        open.push(there);
    }
    // The first neighbour of all that is looked for in isolation.
    wire.host.expect("ip neigh flush all", "ok")?;
    stage.enforcer.isolate(&collectors, later(600))?;

    for (index, there) in open.iter().enumerate() {
        let collector = end(COLLECTOR[index], COLLECTOR_PORT);
        wire.host
            .expect(&format!("connect {collector}"), "ok")
            .context("the collector is out of reach")?;
        wire.serve(&collector)?;
        wire.host.expect(&format!("echo {collector}"), "ok")?;
        wire.host
            .expect(&format!("echo {there}"), "silence")
            .context("an open connection goes on")?;
        wire.host.expect(&format!("connect {there}"), "refused")?;
        wire.host
            .expect(&format!("connect {}", end(COLLECTOR[index], 22)), "refused")?;
        wire.host
            .expect(&format!("send {}", end(OTHER[index], 53)), "refused")?;
        wire.host
            .expect(&format!("send {}", end(COLLECTOR[index], 53)), "refused")?;
        // Itself, by loopback and by its own address.
        for address in [["127.0.0.1", "::1"][index], HOST[index]] {
            let own = wire.host.ask(&format!("listen {}", end(address, 0)))?;
            // Its own addresses are found in the network namespace of the agent, which is another one here.
            if address != HOST[index] {
                wire.host.expect(&format!("connect {own}"), "ok")?;
            } else {
                wire.world
                    .expect(&format!("connect {own}"), "silence")
                    .context("it is reached from outside")?;
            }
        }
    }
    ensure!(stage.hits(&Subject::Host)? > 8, "not counted");

    // Another agent finds it, allows a name server as well, and lifts it.
    stage.enforcer = Enforcer::open(stage.options()?)?;
    let dns = [collectors.as_slice(), &[port(OTHER[0], 53)?]].concat();
    stage.enforcer.isolate(&dns, later(600))?;
    let server = wire.world.ask(&format!("bind {}", end(OTHER[0], 53)))?;
    wire.host.expect(&format!("send {server}"), "ok")?;
    wire.world.expect(&format!("receive {server}"), "ok")?;
    ensure!(stage.enforcer.lift(&Subject::Host)?, "there was nothing to lift");
    for there in &open {
        wire.host.expect(&format!("connect {there}"), "ok")?;
    }
    ensure!(!stage.is_anything_kept(), "something is kept for nothing");
    Ok(())
}

/// Asking for a connection tells, whether or not there is somebody to answer; so this needs no wire.
fn ends() -> Result<()> {
    let mut stage = Stage::set()?;
    let mut host = Ends::start(Some(&stage.cgroup), true)?;
    // Loading the programs may take longer than what follows should.
    stage.enforcer.isolate(&[], later(600))?;
    for address in ["192.0.2.1:9", "[2001:db8::1]:9"] {
        host.expect(&format!("connect {address}"), "refused")?;
    }
    let own = host.ask("listen 127.0.0.1:0")?;
    host.expect(&format!("connect {own}"), "ok")?;
    ensure!(stage.hits(&Subject::Host)? == 2, "not counted");
    let until = later(2);
    stage.enforcer.isolate(&[], until)?;
    while BootTime::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let after = host.say("connect 192.0.2.1:9")?;
    ensure!(after != "refused", "it is isolated after its time");
    let ended = stage.enforcer.sweep(BootTime::now())?;
    ensure!(ended.len() == 1, "{ended:?}");
    Ok(())
}
