//! From a record to an event.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use sensor_common::{
    FlowClose, Header, Identity, Signal, Tuple, UNSET_ID, UdpFlow,
    call::hook,
    record::{FlowEnd, exec_flags, flow_flags, identity_flags, operation_flags},
};

use super::{
    Body, CgroupMount, Cgroups, CredentialChange, Credentials, DatagramTotals, Ended, Event, Exec, Exit,
    Facts, FileId, Flow, FlowTotals, FoldSlot, Image, Limits, Listener, Namespaces, Operation, Process,
    ProcessId, Sequence, Session, Thread, Tree, WallClock, Workload, dns, names::Names, proc::ProcDir,
    snapshot, tls,
};
use crate::{
    capture::{
        calls::Call,
        record::{
            DnsRecord, ExecRecord, OperationRecord, Record, RecordBody, path_from_components,
            path_in_directory,
        },
    },
    time::BootTime,
};

/// What became of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Attributed {
    /// An event, complete.
    Event(Arc<Event>),
    /// An exit that was reported before: to be counted as aggregated, so that the account adds up.
    Duplicate,
    /// A system call that this agent's table does not have: kernel programs and agent are of different versions.
    Unknown,
}

/// What is known of this host.
#[derive(Debug)]
pub struct Host {
    tree: Tree,
    cgroups: Cgroups,
    clock: WallClock,
    names: Names,
}

impl Host {
    /// A host of which no process is known yet; `cgroups` is `None` where no hierarchy is mounted.
    #[must_use]
    pub fn new(limits: Limits, cgroups: Option<CgroupMount>, clock: WallClock) -> Self {
        Self {
            tree: Tree::new(limits),
            cgroups: Cgroups::new(cgroups),
            clock,
            names: Names::new(),
        }
    }

    /// Enters the processes that run already, at most `limit`. To be called once the kernel programs report and
    /// before their first record is attributed, so that none is missed between the two.
    pub fn take_snapshot(&mut self, limit: usize) {
        for found in snapshot::processes(limit, &mut self.cgroups) {
            self.tree.enter_snapshot(found.facts, found.image);
        }
    }

    /// The sockets that the known processes listen on. Reads `/proc`, some milliseconds on a usual host.
    #[must_use]
    pub fn listeners(&self) -> Vec<Listener> {
        let mut processes: Vec<_> = self
            .tree
            .iter()
            .filter(|process| !process.kernel_thread)
            .map(|process| (process.id, process.namespaces))
            .collect();
        // A socket that a master process hands down to its workers belongs to the master.
        processes.sort_unstable_by_key(|(id, _)| (id.start, id.tgid));
        snapshot::listeners(&processes)
    }

    /// Follows the wall clock when it is set.
    pub fn clock(&mut self) -> &mut WallClock {
        &mut self.clock
    }

    /// The processes that are known.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Who and what a record belongs to. Records are to come in the order of their time; where some come
    /// late, no process is mixed with another, but one may be shown as it was a moment later.
    pub fn attribute(&mut self, record: &Record<'_>) -> Attributed {
        let header = record.header;
        let (process, body) = match &record.body {
            RecordBody::Exec(exec) => {
                let (process, exec) = self.exec(&header.identity, exec);
                (Some(process), Body::Exec(exec))
            }
            RecordBody::Fork(fork) => (Some(self.fork(&header.identity, &fork.child)), Body::Fork),
            RecordBody::Exit(exit) => {
                let facts = self.facts(&header.identity);
                match self.tree.exit(facts) {
                    Ended::First(process) => (Some(process), Body::Exit(exit_status(exit.status))),
                    Ended::Duplicate => return Attributed::Duplicate,
                }
            }
            RecordBody::Connect(connect) => {
                let flow = self.flow(connect.socket, &connect.tuple, 0);
                (self.actor(&header.identity), Body::Connect(flow))
            }
            RecordBody::Accept(accept) => {
                let flags = accept.flags | flow_flags::INBOUND | flow_flags::ESTABLISHED;
                let flow = self.flow(accept.socket, &accept.tuple, flags);
                (self.owner(&header.identity, flags), Body::Accept(flow))
            }
            RecordBody::Listen(listen) => {
                let address = socket_address(listen.tuple.local_address, listen.tuple.local_port);
                (
                    self.actor(&header.identity),
                    Body::Listen {
                        address,
                        backlog: listen.backlog,
                    },
                )
            }
            RecordBody::FlowClose(flow) => {
                let (process, flow, totals) = self.connection(header, flow);
                (process, Body::FlowClose(flow, totals))
            }
            RecordBody::FlowReport(flow) => {
                let (process, flow, totals) = self.connection(header, flow);
                (process, Body::FlowReport(flow, totals))
            }
            RecordBody::TlsHello(record) => {
                let head = record.hello;
                let hello = tls::read(record.message, head.total as usize);
                let flow = self.flow(head.socket, &head.tuple, head.flags);
                (
                    self.owner(&header.identity, head.flags),
                    Body::TlsHello(flow, Box::new(hello)),
                )
            }
            RecordBody::Bind(bind) => (
                self.actor(&header.identity),
                Body::Bind {
                    address: socket_address(bind.tuple.local_address, bind.tuple.local_port),
                    protocol: bind.protocol,
                },
            ),
            RecordBody::UdpFlow(udp) => {
                let flow = self.flow(udp.key.socket, &udp.key.tuple, udp.counts.flags);
                let Some(totals) = self.datagram_totals(udp) else {
                    return Attributed::Unknown;
                };
                (
                    self.owner(&header.identity, udp.counts.flags),
                    Body::UdpFlow(flow, totals),
                )
            }
            RecordBody::Dns(record) => (self.owner(&header.identity, record.dns.flags), self.dns(record)),
            RecordBody::Credential(record) => {
                let Some(change) = CredentialChange::of(record) else {
                    return Attributed::Unknown;
                };
                (self.actor(&header.identity), Body::Credential(Box::new(change)))
            }
            RecordBody::Operation(record) => {
                let Some(mut operation) = operation(header.signal, record) else {
                    return Attributed::Unknown;
                };
                self.name_target(&mut operation, record.operation.call);
                (self.actor(&header.identity), Body::Operation(Box::new(operation)))
            }
            RecordBody::Sequence(sequence) => {
                let body = Body::Sequence(Sequence {
                    calls: sequence.calls,
                    withheld: sequence.withheld,
                });
                (self.actor(&header.identity), body)
            }
        };
        Attributed::Event(Arc::new(self.event(header, process, body)))
    }

    /// An event of a session, which no record is behind: told of process `pid` at `time`.
    pub fn session(&mut self, session: Session, pid: u32, time: BootTime) -> Arc<Event> {
        // Who let somebody in, or not, may have ended before the record was read.
        let id = self.tree.latest_id(pid);
        let process = id.and_then(|id| self.tree.get(id)).map(Arc::clone);
        let parent = process.as_ref().and_then(|process| self.parent(process));
        Arc::new(Event {
            time,
            wall: self.clock.wall(time),
            cpu: 0,
            process,
            parent,
            thread: Thread {
                tid: pid,
                ..Thread::default()
            },
            body: Body::Session(Box::new(session)),
        })
    }

    fn event(&mut self, header: &Header, process: Option<Arc<Process>>, body: Body) -> Event {
        let parent = process.as_ref().and_then(|process| self.parent(process));
        let time = BootTime(header.time);
        Event {
            time,
            wall: self.clock.wall(time),
            cpu: header.cpu,
            process,
            parent,
            thread: Thread {
                tid: header.identity.tid,
                comm: header.identity.comm,
            },
            body,
        }
    }

    fn connection(
        &mut self,
        header: &Header,
        record: &FlowClose,
    ) -> (Option<Arc<Process>>, Flow, FlowTotals) {
        let flow = self.flow(record.socket, &record.tuple, record.flags);
        let process = self.owner(&header.identity, record.flags);
        (process, flow, totals(header, record))
    }

    fn flow(&mut self, id: u64, tuple: &Tuple, flags: u32) -> Flow {
        let remote = socket_address(tuple.remote_address, tuple.remote_port);
        Flow {
            id,
            local: socket_address(tuple.local_address, tuple.local_port),
            remote,
            remote_name: self.names.of(remote.ip()),
            inbound: flags & flow_flags::INBOUND != 0,
            established: flags & flow_flags::ESTABLISHED != 0,
            listener: flags & flow_flags::LISTENER != 0,
        }
    }

    /// `None` for an end that this agent does not know.
    fn datagram_totals(&self, udp: &UdpFlow) -> Option<DatagramTotals> {
        let counts = &udp.counts;
        let first = BootTime(counts.first_time);
        Some(DatagramTotals {
            first: self.clock.wall(first),
            duration: BootTime(counts.last_time).since(first),
            datagrams_sent: counts.datagrams_sent,
            bytes_sent: counts.bytes_sent,
            datagrams_received: counts.datagrams_received,
            bytes_received: counts.bytes_received,
            end: FlowEnd::from_number(counts.end)?,
        })
    }

    /// A message to or from a name server. What the answer to a question says is remembered; what came unasked is not.
    fn dns(&mut self, record: &DnsRecord<'_>) -> Body {
        let head = record.dns;
        let message = dns::read(record.message, head.total as usize);
        if head.sent == 0 && head.flags & flow_flags::INBOUND == 0 {
            self.names.learn(&message);
        }
        let flow = self.flow(head.key.socket, &head.key.tuple, head.flags);
        Body::Dns(flow, Box::new(message))
    }

    /// The parent, where it is known or still there to be asked.
    fn parent(&mut self, process: &Process) -> Option<Arc<Process>> {
        let id = process.parent?;
        if let Some(parent) = self.tree.get(id) {
            return Some(Arc::clone(parent));
        }
        let (directory, _) = ProcDir::open_same(id)?;
        let mut found = snapshot::find(&directory, id.tgid, &mut self.cgroups)?;
        found.facts.id = id;
        found.facts.parent = found
            .facts
            .parent
            .and_then(|parent| self.tree.live_id(parent.tgid));
        Some(self.tree.enter(found.facts, Some(found.image)))
    }

    fn exec(&mut self, identity: &Identity, record: &ExecRecord<'_>) -> (Arc<Process>, Exec) {
        let flag = |flag| record.exec.flags & flag != 0;
        let facts = self.facts(identity);
        let mut image = Image {
            executable: if record.path.is_empty() {
                Box::default() // Not `/`, which nobody executes: the kernel could not read it.
            } else {
                path_from_components(record.path, flag(exec_flags::PATH_TRUNCATED))
            },
            args: record.args.into(),
            args_total: record.exec.args_total,
            cwd: path_from_components(record.cwd, flag(exec_flags::CWD_TRUNCATED)),
            inode: record.exec.inode,
            device: record.exec.device,
        };
        let mut args_unreadable = false;
        if flag(exec_flags::ARGS_UNREADABLE) || record.path.is_empty() {
            args_unreadable = !complete_from_proc(&mut image, facts.id) && flag(exec_flags::ARGS_UNREADABLE);
        }
        if image.executable.is_empty() {
            image.executable = record.filename.into();
        }
        let (process, previous) = self.tree.exec(facts, image);
        let exec = Exec {
            previous: previous.filter(|image| !image.executable.is_empty()),
            filename: record.filename.into(),
            script: flag(exec_flags::SCRIPT),
            memfd: flag(exec_flags::MEMFD),
            unlinked: flag(exec_flags::UNLINKED),
            overlay_upper: flag(exec_flags::OVERLAY_UPPER),
            path_truncated: flag(exec_flags::PATH_TRUNCATED) || flag(exec_flags::CWD_TRUNCATED),
            args_unreadable,
            variables: record.variables.into(),
            variables_unread: flag(exec_flags::VARIABLES_UNREAD),
        };
        (process, exec)
    }

    fn fork(&mut self, asker: &Identity, child: &Identity) -> Arc<Process> {
        let image = self
            .actor(asker)
            .map(|asker| Arc::clone(&asker.image))
            .unwrap_or_default();
        let child = self.facts(child);
        self.tree.fork(child, &image)
    }

    /// What a hook says by number or for short: what runs as the process that a signal was sent to, and where a parameter is.
    fn name_target(&self, operation: &mut Operation, call: u32) {
        if call == hook::SYSCTL {
            operation.path = [b"/proc/sys/", &*operation.path].concat().into();
        } else if call == hook::SIGNAL {
            let target = self.tree.live_id(operation.values[1] as u32);
            let process = target.and_then(|id| self.tree.get(id));
            operation.path = process
                .map(|process| process.image.executable.clone())
                .unwrap_or_default();
        }
    }

    /// The process that acts right now: what the record says of it is news.
    fn actor(&mut self, identity: &Identity) -> Option<Arc<Process>> {
        if identity.tgid == 0 {
            return None;
        }
        let facts = self.facts(identity);
        if let Some(process) = self.tree.touch(&facts) {
            return Some(process);
        }
        Some(self.enter(facts))
    }

    /// The process that a connection belongs to: the record holds what was so when it began, which is older than
    /// what is known of a known process.
    fn owner(&mut self, identity: &Identity, flags: u32) -> Option<Arc<Process>> {
        if identity.tgid == 0 || flags & flow_flags::NO_OWNER != 0 {
            return None;
        }
        let id = process_id(identity.tgid, identity.start_time);
        if let Some(process) = self.tree.get(id) {
            return Some(Arc::clone(process));
        }
        let facts = self.facts(identity);
        Some(self.enter(facts))
    }

    /// A process that no event told of, with what `/proc` knows of it if it still lives.
    fn enter(&mut self, facts: Facts) -> Arc<Process> {
        let image = ProcDir::open_same(facts.id).map(|(process, stat)| process.image(&stat));
        self.tree.enter(facts, image)
    }

    fn facts(&mut self, identity: &Identity) -> Facts {
        let id = process_id(identity.tgid, identity.start_time);
        let some = |id| (id != UNSET_ID).then_some(id);
        Facts {
            id,
            parent: (identity.parent_tgid != 0)
                .then(|| process_id(identity.parent_tgid, identity.parent_start_time)),
            credentials: Credentials {
                uid: identity.uid,
                gid: identity.gid,
                euid: identity.euid,
                egid: identity.egid,
                login_uid: some(identity.login_uid),
                session_id: some(identity.session_id),
            },
            workload: self.workload(identity.cgroup, id),
            namespaces: Namespaces {
                mount: some(identity.mount_ns).unwrap_or(0),
                pid: some(identity.pid_ns).unwrap_or(0),
                net: some(identity.net_ns).unwrap_or(0),
            },
            kernel_thread: identity.flags & identity_flags::KERNEL_THREAD != 0,
        }
    }

    fn workload(&mut self, cgroup: u64, id: ProcessId) -> Arc<Workload> {
        self.cgroups
            .workload(cgroup, || ProcDir::open_same(id).map(|(process, _)| process))
    }
}

fn process_id(tgid: u32, start_time: u64) -> ProcessId {
    ProcessId {
        tgid,
        start: BootTime(start_time),
    }
}

/// Arguments and executable from `/proc`, if the process still lives and still runs what was executed. False if not.
fn complete_from_proc(image: &mut Image, id: ProcessId) -> bool {
    let Some((process, stat)) = ProcDir::open_same(id) else {
        return false;
    };
    let (executable, inode, _) = process.executable();
    // By now it may have executed something else, whose arguments these would be.
    if executable.is_empty() || (image.inode != 0 && image.inode != inode) {
        return false;
    }
    if image.executable.is_empty() {
        image.executable = executable;
    }
    if image.args.is_empty() {
        let (args, total) = process.args(&stat);
        image.args = args;
        image.args_total = image.args_total.max(total);
    }
    !image.args.is_empty() || image.args_total == 0
}

/// `None` for a call that is not in the table.
fn operation(signal: u16, record: &OperationRecord<'_>) -> Option<Operation> {
    let sensor_common::Operation {
        result,
        values,
        inode,
        device,
        mode,
        call,
        flags,
        fold,
        fold_generation,
        ..
    } = *record.operation;
    let truncated = flags & operation_flags::TRUNCATED != 0;
    let hook = flags & operation_flags::HOOK != 0;
    let path = |(directory, text): (&[u8], &[u8])| {
        if directory.is_empty() && text.is_empty() {
            return Box::default();
        }
        path_in_directory(directory, text, truncated)
    };
    Some(Operation {
        signal: Signal::from_number(signal)?,
        call: Call::of(call)?,
        result,
        values,
        path: if hook {
            record.paths[0].1.into()
        } else {
            path(record.paths[0])
        },
        target: if hook {
            text(record.paths[1].1)
        } else {
            path(record.paths[1])
        },
        previous: if hook {
            text(record.paths[1].0)
        } else {
            Box::default()
        },
        file: (inode != 0).then_some(FileId { inode, device, mode }),
        truncated,
        unreadable: flags & operation_flags::UNREADABLE != 0,
        fold: (fold != 0).then_some(FoldSlot {
            index: fold,
            generation: fold_generation,
        }),
        repeats: None,
        attempt: flags & operation_flags::ATTEMPT != 0,
        unmounted: flags & operation_flags::UNMOUNTED != 0,
    })
}

/// A value of a parameter, without the end of its line.
fn text(value: &[u8]) -> Box<[u8]> {
    value.trim_ascii_end().into()
}

/// What `wait` says: code in bits 8–15, or signal in bits 0–6 and core dump in bit 7.
fn exit_status(status: u32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) as u8),
        number => Exit::Signal {
            number: number as u8,
            core: status & 0x80 != 0,
        },
    }
}

fn totals(header: &Header, close: &FlowClose) -> FlowTotals {
    FlowTotals {
        duration: (close.start_time != 0).then(|| BootTime(header.time).since(BootTime(close.start_time))),
        bytes_sent: close.bytes_sent,
        bytes_received: close.bytes_received,
        segments_sent: close.segments_sent,
        segments_received: close.segments_received,
        retransmits: close.retransmits,
        rtt: Duration::from_micros(close.rtt_us.into()),
    }
}

/// An IPv4 address that was mapped into IPv6 becomes IPv4 again, whatever the socket's family: an IPv6 socket
/// that carries IPv4 is on the wire, and to a firewall, IPv4.
fn socket_address(address: [u8; 16], port: u16) -> SocketAddr {
    let address: IpAddr = Ipv6Addr::from(address).to_canonical();
    SocketAddr::new(address, port)
}

#[cfg(test)]
mod tests;
