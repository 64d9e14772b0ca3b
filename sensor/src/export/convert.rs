//! The agent's entries as messages of the wire.
//!
//! What is public here has been through the policy of [`privacy`](crate::privacy), but for heads and threads, which say nothing that it is about,
//! and actions and outcomes, which whoever answers with them takes through it.

mod credential;
mod incident;
mod response;
mod session;

use std::{net::SocketAddr, sync::Arc};

use sensor_common::{record::FlowEnd, sequence::OTHER};
use sensor_proto::v1;
use syscalls::x86_64::Sysno;

pub(super) use self::response::convert_action;
pub(crate) use self::response::kind_meant;
use self::{
    incident::{acting_thread, convert_origin, convert_rule, ending, tactics},
    response::convert_outcome,
};
use super::{Entry, Loss, Users};
use crate::{
    detect::{Incident, Severity, Signal},
    host::{
        Body, DatagramTotals, Event, Exec, Exit, Flow, FlowTotals, Image, Operation, Process, ProcessId,
        Sequence, Thread, dns::DnsMessage, tls::ClientHello,
    },
    privacy::Policy,
    respond::Outcome,
};

/// Converts entries of one host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Converter {
    host: Arc<str>,
    users: Arc<Users>,
    privacy: Arc<Policy>,
}

/// A text of the wire, and its bytes where they are not all in the text.
struct Text {
    text: String,
    raw: Option<Vec<u8>>,
}

impl Text {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self {
                text: text.to_owned(),
                raw: None,
            },
            Err(_) => Self {
                text: escape(bytes),
                raw: Some(bytes.to_vec()),
            },
        }
    }

    fn raw(self) -> (String, Vec<u8>) {
        (self.text, self.raw.unwrap_or_default())
    }
}

/// What is not UTF-8 in `bytes` as `\xHH`, the rest as it is.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

impl Converter {
    /// Converts entries of `host`, with the names that `users` has, and hides secrets.
    #[must_use]
    pub fn new(host: impl Into<Arc<str>>, users: Arc<Users>) -> Self {
        Self {
            host: host.into(),
            users,
            privacy: Arc::new(Policy::redacting()),
        }
    }

    /// The same, with what `policy` leaves of them.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.privacy = Arc::new(policy);
        self
    }

    /// What leaves the host.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.privacy
    }

    /// Name of a user; empty where there is none.
    #[must_use]
    pub fn user(&self, uid: u32) -> String {
        self.users.name(uid)
    }

    /// Name of the host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `entry` for the wire.
    #[must_use]
    pub fn entry(&self, entry: &Entry) -> v1::Entry {
        let body = match entry {
            Entry::Event(event) => v1::entry::Body::Event(self.event(event)),
            Entry::Signal(signal) => v1::entry::Body::Signal(self.signal(signal)),
            Entry::Incident(incident) => v1::entry::Body::Incident(self.incident(incident)),
            Entry::Outcome(outcome) => v1::entry::Body::Outcome(convert_outcome(outcome)),
            Entry::Loss(loss) => v1::entry::Body::Loss(convert_loss(loss)),
        };
        let mut entry = v1::Entry {
            host: self.host.to_string(),
            body: Some(body),
        };
        self.privacy.entry(&mut entry);
        entry
    }

    fn event(&self, event: &Event) -> v1::Event {
        let process = event.process.as_deref().map(|process| {
            let v1::Process { comm, tid, .. } = Self::thread(&event.thread);
            v1::Process {
                comm,
                tid,
                ..self.whole_process(process, event.parent.as_deref())
            }
        });
        v1::Event {
            process,
            body: Some(convert_body(&event.body)),
            ..Self::head(event)
        }
    }

    /// What an event says of the thread that acted: all that two events of a process need not share.
    #[must_use]
    pub fn thread(thread: &Thread) -> v1::Process {
        v1::Process {
            comm: comm(thread),
            tid: thread.tid,
            ..v1::Process::default()
        }
    }

    /// An event but for its process.
    #[must_use]
    pub fn without_process(&self, event: &Event) -> v1::Event {
        let mut event = v1::Event {
            body: Some(convert_body(&event.body)),
            ..Self::head(event)
        };
        self.privacy.event(&mut event);
        event
    }

    /// An event but for its process and for what happened.
    #[must_use]
    pub fn head(event: &Event) -> v1::Event {
        v1::Event {
            boot_time_ns: event.time.0,
            time_ns: event.wall.0,
            cpu: u32::from(event.cpu),
            ..v1::Event::default()
        }
    }

    /// An event whose process has position `reference` among those of its batch; 0 for none.
    #[must_use]
    pub fn event_in_batch(&self, event: &Event, reference: u32) -> v1::Entry {
        let event = v1::Event {
            process_ref: reference,
            comm: comm(&event.thread),
            tid: event.thread.tid,
            ..self.without_process(event)
        };
        v1::Entry {
            host: String::new(),
            body: Some(v1::entry::Body::Event(event)),
        }
    }

    /// A process, and what ran as its parent.
    #[must_use]
    pub fn process_of(&self, process: &Process, parent: Option<&Process>) -> v1::Process {
        let mut process = self.whole_process(process, parent);
        self.privacy.process(&mut process);
        process
    }

    fn whole_process(&self, process: &Process, parent: Option<&Process>) -> v1::Process {
        v1::Process {
            parent_executable: parent
                .map(|parent| escape(&parent.image.executable))
                .unwrap_or_default(),
            ..self.process(process, None)
        }
    }

    fn signal(&self, signal: &Signal) -> v1::Signal {
        v1::Signal {
            subject: signal.subject.to_string(),
            source: signal.source.to_owned(),
            p_value: signal.p_value,
            bits: signal.bits(),
            reasons: signal.reasons.clone(),
            techniques: signal.techniques.iter().map(ToString::to_string).collect(),
            event: Some(self.event(&signal.event)),
            rule: signal.rule.as_deref().map(convert_rule),
        }
    }

    /// An incident, as far as the agent's detection knows it.
    #[must_use]
    pub fn told(&self, incident: &Incident) -> v1::Incident {
        let mut told = self.incident(incident);
        self.privacy.incident(&mut told);
        told
    }

    fn incident(&self, incident: &Incident) -> v1::Incident {
        let severity = match incident.severity {
            Severity::Low => v1::Severity::Low,
            Severity::Medium => v1::Severity::Medium,
            Severity::High => v1::Severity::High,
            Severity::Critical => v1::Severity::Critical,
        };
        v1::Incident {
            id: incident.id.to_string(),
            opened_ns: incident.opened.0,
            updated_ns: incident.updated.0,
            severity: severity.into(),
            summary: incident.summary.clone(),
            subject: incident.subject.to_string(),
            process: Some(self.process(&incident.process, acting_thread(incident))),
            signals: incident
                .signals
                .iter()
                .map(|signal| self.signal(signal))
                .collect(),
            count: incident.count,
            origin: Some(convert_origin(&incident.origin)),
            ended: incident
                .ended
                .as_ref()
                .map(|ended| ending(ended, incident.updated.0)),
            processes: incident
                .processes
                .iter()
                .map(|process| v1::Involved {
                    process: Some(self.process(process, None)),
                    sha256: String::new(),
                })
                .collect(),
            tactics: tactics(incident),
            outcomes: Vec::new(),
            next_step: String::new(),
            at_stake: incident.at_stake.as_deref().unwrap_or_default().to_owned(),
        }
    }

    /// What became of an action.
    #[must_use]
    pub fn outcome(&self, outcome: &Outcome) -> v1::Outcome {
        let mut outcome = convert_outcome(outcome);
        self.privacy.outcome(&mut outcome);
        outcome
    }

    fn process(&self, process: &Process, thread: Option<Thread>) -> v1::Process {
        let Process {
            id,
            parent,
            image,
            credentials,
            workload,
            namespaces,
            kernel_thread,
        } = process;
        let (executable, executable_raw) = Text::new(&image.executable).raw();
        let (cwd, cwd_raw) = Text::new(&image.cwd).raw();
        let (args, args_raw) = arguments(image);
        v1::Process {
            id: Some(convert_id(*id)),
            parent_id: parent.map(convert_id),
            parent_executable: String::new(),
            executable,
            args,
            cwd,
            executable_raw,
            args_raw,
            cwd_raw,
            args_truncated: image.args_truncated(),
            args_total_bytes: image.args_total,
            comm: thread.map(|thread| comm(&thread)).unwrap_or_default(),
            tid: thread.map_or(id.tgid, |thread| thread.tid),
            uid: credentials.uid,
            gid: credentials.gid,
            euid: credentials.euid,
            egid: credentials.egid,
            user: self.users.name(credentials.uid),
            login_uid: credentials.login_uid,
            session_id: credentials.session_id,
            cgroup_id: workload.cgroup_id,
            cgroup: workload.cgroup.to_string(),
            workload: workload.name.to_string(),
            container_id: workload.container.as_deref().unwrap_or_default().to_owned(),
            mount_ns: namespaces.mount,
            pid_ns: namespaces.pid,
            net_ns: namespaces.net,
            executable_inode: image.inode,
            executable_device: image.device,
            kernel_thread: *kernel_thread,
        }
    }
}

/// The arguments as texts, and all of them to the byte where one of them is not UTF-8.
fn arguments(image: &Image) -> (Vec<String>, Vec<Vec<u8>>) {
    let texts: Vec<Text> = image.arguments().map(Text::new).collect();
    let raw = if texts.iter().any(|text| text.raw.is_some()) {
        image.arguments().map(<[u8]>::to_vec).collect()
    } else {
        Vec::new()
    };
    (texts.into_iter().map(|text| text.text).collect(), raw)
}

fn comm(thread: &Thread) -> String {
    escape(thread.comm.split(|byte| *byte == 0).next().unwrap_or_default())
}

fn convert_id(id: ProcessId) -> v1::ProcessId {
    v1::ProcessId {
        tgid: id.tgid,
        start_time_ns: id.start.0,
    }
}

fn convert_body(body: &Body) -> v1::event::Body {
    use v1::event::Body as Wire;
    match body {
        Body::Exec(exec) => Wire::Exec(convert_exec(exec)),
        Body::Fork => Wire::Fork(v1::Fork {}),
        Body::Exit(exit) => Wire::Exit(convert_exit(*exit)),
        Body::Connect(flow) => Wire::Connect(v1::Connect {
            flow_id: flow.id,
            tuple: Some(tuple(flow)),
        }),
        Body::Accept(flow) => Wire::Accept(v1::Accept {
            flow_id: flow.id,
            tuple: Some(tuple(flow)),
            listener: flow.listener,
        }),
        Body::Listen { address, backlog } => {
            let (address, port) = end(*address);
            Wire::Listen(v1::Listen {
                address,
                port,
                backlog: *backlog,
            })
        }
        Body::FlowClose(flow, totals) => Wire::FlowClose(flow_close(flow, totals)),
        Body::TlsHello(flow, hello) => Wire::TlsHello(tls_hello(flow, hello)),
        Body::FlowReport(flow, totals) => Wire::FlowReport(flow_close(flow, totals)),
        Body::Bind { address, protocol } => {
            let (address, port) = end(*address);
            let protocol = match protocol {
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                other => other.to_string(),
            };
            Wire::Bind(v1::Bind {
                address,
                port,
                protocol,
            })
        }
        Body::UdpFlow(flow, totals) => Wire::UdpFlow(udp_flow(flow, totals)),
        Body::Dns(flow, message) => Wire::Dns(dns(flow, message)),
        Body::Credential(change) => Wire::Credential(credential::convert(change)),
        Body::Session(session) => Wire::Session(session::convert(session)),
        Body::Operation(operation) => Wire::Operation(convert_operation(operation)),
        Body::Sequence(sequence) => Wire::Sequence(convert_sequence(sequence)),
    }
}

fn convert_exec(exec: &Exec) -> v1::Exec {
    let (filename, filename_raw) = Text::new(&exec.filename).raw();
    v1::Exec {
        filename,
        filename_raw,
        script: exec.script,
        memfd: exec.memfd,
        unlinked: exec.unlinked,
        overlay_upper: exec.overlay_upper,
        path_truncated: exec.path_truncated,
        args_unreadable: exec.args_unreadable,
        variables: nul_separated(&exec.variables).map(escape).collect(),
        variables_unread: exec.variables_unread,
    }
}

fn nul_separated(texts: &[u8]) -> impl Iterator<Item = &[u8]> {
    texts.split(|byte| *byte == 0).filter(|text| !text.is_empty())
}

fn convert_sequence(sequence: &Sequence) -> v1::Sequence {
    let name = |number: &u16| match Sysno::new(usize::from(*number)) {
        _ if *number == OTHER => "?".to_owned(),
        Some(call) => call.name().to_owned(),
        None => number.to_string(),
    };
    v1::Sequence {
        calls: sequence.calls.iter().map(name).collect(),
        withheld: sequence.withheld,
    }
}

fn convert_operation(operation: &Operation) -> v1::Operation {
    let (path, path_raw) = Text::new(&operation.path).raw();
    let (target, target_raw) = Text::new(&operation.target).raw();
    let details = operation.call.details.iter().map(|detail| {
        let number = operation.values[detail.value];
        v1::Detail {
            name: detail.name.to_owned(),
            number,
            text: detail.show.text(number),
        }
    });
    v1::Operation {
        signal: operation.signal.name().to_owned(),
        call: operation.call.name.to_owned(),
        result: operation.result,
        path,
        path_raw,
        target,
        target_raw,
        previous: escape(&operation.previous),
        inode: operation.file.map_or(0, |file| file.inode),
        device: operation.file.map_or(0, |file| file.device),
        mode: operation.file.map_or(0, |file| file.mode),
        details: details.collect(),
        path_truncated: operation.truncated,
        path_unreadable: operation.unreadable,
        repeats: operation.repeats.map(|repeats| v1::Repeats {
            count: repeats.count,
            first_ns: repeats.first.0,
            last_ns: repeats.last.0,
        }),
        attempt: operation.attempt,
        path_unmounted: operation.unmounted,
    }
}

fn convert_exit(exit: Exit) -> v1::Exit {
    match exit {
        Exit::Code(code) => v1::Exit {
            code: Some(u32::from(code)),
            ..v1::Exit::default()
        },
        Exit::Signal { number, core } => v1::Exit {
            code: None,
            signal: Some(u32::from(number)),
            core_dumped: core,
        },
    }
}

fn flow_close(flow: &Flow, totals: &FlowTotals) -> v1::FlowClose {
    v1::FlowClose {
        flow_id: flow.id,
        tuple: Some(tuple(flow)),
        inbound: flow.inbound,
        established: flow.established,
        duration_ns: totals.duration.map(|duration| duration.as_nanos() as u64),
        bytes_sent: totals.bytes_sent,
        bytes_received: totals.bytes_received,
        segments_sent: totals.segments_sent,
        segments_received: totals.segments_received,
        retransmits: totals.retransmits,
        rtt_us: totals.rtt.as_micros() as u32,
        listener: flow.listener,
    }
}

fn udp_flow(flow: &Flow, totals: &DatagramTotals) -> v1::UdpFlow {
    let end = match totals.end {
        FlowEnd::Idle => "idle",
        FlowEnd::Active => "active",
        FlowEnd::Forced => "forced",
        FlowEnd::NoRoom => "no room",
    };
    v1::UdpFlow {
        flow_id: flow.id,
        tuple: Some(tuple(flow)),
        inbound: flow.inbound,
        first_ns: totals.first.0,
        duration_ns: totals.duration.as_nanos() as u64,
        datagrams_sent: totals.datagrams_sent,
        bytes_sent: totals.bytes_sent,
        datagrams_received: totals.datagrams_received,
        bytes_received: totals.bytes_received,
        end: end.to_owned(),
        listener: flow.listener,
    }
}

fn tls_hello(flow: &Flow, hello: &ClientHello) -> v1::TlsHello {
    v1::TlsHello {
        flow_id: flow.id,
        tuple: Some(tuple(flow)),
        server_name: hello.server_name.to_string(),
        protocols: hello.protocols.iter().map(ToString::to_string).collect(),
        versions: hello.versions.iter().copied().map(u32::from).collect(),
        ja4: hello.ja4.to_string(),
        truncated: hello.truncated,
        malformed: hello.malformed,
    }
}

fn dns(flow: &Flow, message: &DnsMessage) -> v1::Dns {
    v1::Dns {
        flow_id: flow.id,
        tuple: Some(tuple(flow)),
        answer: message.answer,
        id: message.id.into(),
        name: message.name.to_string(),
        r#type: message.kind.to_string(),
        code: message.code.to_string(),
        answers: message.answers.iter().map(ToString::to_string).collect(),
        truncated: message.truncated,
        malformed: message.malformed,
    }
}

fn tuple(flow: &Flow) -> v1::Tuple {
    let (local_address, local_port) = end(flow.local);
    let (remote_address, remote_port) = end(flow.remote);
    v1::Tuple {
        local_address,
        local_port,
        remote_address,
        remote_port,
        remote_name: flow.remote_name.as_deref().unwrap_or_default().to_owned(),
    }
}

/// An IPv4 address is written as one, however the socket held it.
fn end(address: SocketAddr) -> (String, u32) {
    (address.ip().to_canonical().to_string(), u32::from(address.port()))
}

/// A loss for the wire.
#[must_use]
pub fn convert_loss(loss: &Loss) -> v1::Loss {
    v1::Loss {
        stage: loss.stage.to_owned(),
        signal: loss
            .signal
            .map(|signal| signal.name().to_owned())
            .unwrap_or_default(),
        count: loss.count,
        reason: loss.reason.to_owned(),
        from_ns: loss.from.0,
        to_ns: loss.to.0,
    }
}

#[cfg(test)]
pub(super) mod tests;
