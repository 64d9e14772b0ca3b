//! The agent's entries as messages of the wire.

mod credential;
mod session;

use std::{net::SocketAddr, sync::Arc};

use sensor_common::record::FlowEnd;
use sensor_proto::v1;

use super::{Entry, Loss, Users};
use crate::{
    detect::{Incident, Severity, Signal},
    host::{
        Body, DatagramTotals, Event, Exec, Exit, Flow, FlowTotals, Image, Operation, Process, ProcessId,
        Thread, dns::DnsMessage,
    },
    respond::{Action, ActionKind, ActionResult, Outcome},
};

/// Converts entries of one host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Converter {
    host: Arc<str>,
    users: Arc<Users>,
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
    /// Converts entries of `host`, with the names that `users` has.
    #[must_use]
    pub fn new(host: impl Into<Arc<str>>, users: Arc<Users>) -> Self {
        Self {
            host: host.into(),
            users,
        }
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
        v1::Entry {
            host: self.host.to_string(),
            body: Some(body),
        }
    }

    fn event(&self, event: &Event) -> v1::Event {
        let process = event.process.as_deref().map(|process| v1::Process {
            comm: comm(&event.thread),
            tid: event.thread.tid,
            ..self.process_of(process, event.parent.as_deref())
        });
        v1::Event {
            process,
            ..without_process(event)
        }
    }

    /// An event whose process has position `reference` among those of its batch; 0 for none.
    #[must_use]
    pub fn event_in_batch(&self, event: &Event, reference: u32) -> v1::Entry {
        let event = v1::Event {
            process_ref: reference,
            comm: comm(&event.thread),
            tid: event.thread.tid,
            ..without_process(event)
        };
        v1::Entry {
            host: String::new(),
            body: Some(v1::entry::Body::Event(event)),
        }
    }

    /// A process, and what ran as its parent.
    #[must_use]
    pub fn process_of(&self, process: &Process, parent: Option<&Process>) -> v1::Process {
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
        }
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
        }
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

fn without_process(event: &Event) -> v1::Event {
    v1::Event {
        boot_time_ns: event.time.0,
        time_ns: event.wall.0,
        cpu: u32::from(event.cpu),
        body: Some(convert_body(&event.body)),
        ..v1::Event::default()
    }
}

/// The thread by which the process at the heart of an incident last acted.
fn acting_thread(incident: &Incident) -> Option<Thread> {
    let mut events = incident.signals.iter().rev().map(|signal| &signal.event);
    let own = |event: &&Arc<Event>| {
        event
            .process
            .as_ref()
            .is_some_and(|process| process.id == incident.process.id)
    };
    events.find(own).map(|event| event.thread)
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
        path_truncated: exec.path_truncated,
        args_unreadable: exec.args_unreadable,
        variables: nul_separated(&exec.variables).map(escape).collect(),
        variables_unread: exec.variables_unread,
    }
}

fn nul_separated(texts: &[u8]) -> impl Iterator<Item = &[u8]> {
    texts.split(|byte| *byte == 0).filter(|text| !text.is_empty())
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

fn convert_outcome(outcome: &Outcome) -> v1::Outcome {
    let Action {
        kind,
        target,
        incident,
        reason,
    } = &outcome.action;
    let kind = match kind {
        ActionKind::Kill => v1::ActionKind::Kill,
    };
    let result = match outcome.result {
        ActionResult::Done => v1::Result::Done,
        ActionResult::Observed => v1::Result::Observed,
        ActionResult::Refused => v1::Result::Refused,
        ActionResult::Failed => v1::Result::Failed,
        ActionResult::Gone => v1::Result::Gone,
    };
    v1::Outcome {
        action: Some(v1::Action {
            kind: kind.into(),
            target: Some(convert_id(*target)),
            incident_id: incident.to_string(),
            reason: reason.clone(),
        }),
        result: result.into(),
        detail: outcome.detail.clone(),
        time_ns: outcome.time.0,
        latency_ns: outcome.latency.as_nanos() as u64,
    }
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
mod tests {
    use std::time::Duration;

    use sensor_common::Signal as Kind;

    use v1::event::Body as Wire;

    use super::*;
    use crate::capture::calls::CALLS;
    use crate::{
        host::{Credentials, Namespaces, Repeated, Workload},
        time::{BootTime, WallTime},
    };

    fn process(args: &[u8], executable: &[u8]) -> Arc<Process> {
        let image = Image {
            executable: executable.into(),
            args: args.into(),
            args_total: args.len() as u64,
            cwd: (*b"/").into(),
            ..Image::default()
        };
        Arc::new(Process {
            id: ProcessId {
                tgid: 42,
                start: BootTime(7),
            },
            parent: Some(ProcessId {
                tgid: 1,
                start: BootTime(0),
            }),
            image: Arc::new(image),
            credentials: Credentials::default(),
            workload: Arc::new(Workload::default()),
            namespaces: Namespaces::default(),
            kernel_thread: false,
        })
    }

    fn event(process: Arc<Process>, body: Body) -> Arc<Event> {
        Arc::new(Event {
            time: BootTime(9),
            wall: WallTime(10),
            cpu: 1,
            process: Some(process),
            parent: None,
            thread: Thread {
                tid: 43,
                comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
            },
            body,
        })
    }

    fn converter() -> Converter {
        Converter::new("web1", Arc::new(Users::new("/nonexistent")))
    }

    fn flow() -> Flow {
        Flow {
            id: 5,
            local: "[::ffff:10.0.0.1]:80".parse().expect("an address"),
            remote: "[2001:db8::1]:5000".parse().expect("an address"),
            remote_name: None,
            inbound: true,
            established: true,
            listener: false,
        }
    }

    fn operation(signal: Kind) -> Body {
        let call = CALLS.iter().find(|call| call.signal == signal);
        let call = call.or_else(|| CALLS.first()).expect("the table has rows");
        Body::Operation(Box::new(Operation {
            signal,
            call,
            result: -1,
            values: [1; 8],
            path: (*b"/tmp/a").into(),
            target: (*b"b\xff").into(),
            previous: Box::default(),
            file: None,
            truncated: false,
            unreadable: true,
            fold: None,
            repeats: Some(Repeated {
                count: 7,
                first: WallTime(1),
                last: WallTime(2),
            }),
        }))
    }

    fn body(kind: Kind) -> Body {
        match kind {
            Kind::Exec => Body::Exec(Exec::default()),
            Kind::Fork => Body::Fork,
            Kind::Exit => Body::Exit(Exit::Code(0)),
            Kind::Connect => Body::Connect(flow()),
            Kind::Accept => Body::Accept(flow()),
            Kind::Listen => Body::Listen {
                address: flow().local,
                backlog: 128,
            },
            Kind::FlowClose => Body::FlowClose(
                flow(),
                FlowTotals {
                    duration: Some(Duration::from_secs(1)),
                    ..Default::default()
                },
            ),
            Kind::FlowReport => Body::FlowReport(flow(), FlowTotals::default()),
            Kind::Bind => Body::Bind {
                address: flow().local,
                protocol: 17,
            },
            Kind::UdpFlow => Body::UdpFlow(
                flow(),
                DatagramTotals {
                    first: WallTime(1),
                    duration: Duration::from_secs(1),
                    datagrams_sent: 1,
                    bytes_sent: 2,
                    datagrams_received: 3,
                    bytes_received: 4,
                    end: FlowEnd::Idle,
                },
            ),
            Kind::Dns => Body::Dns(flow(), Box::default()),
            Kind::Credential => Body::Credential(Box::new(credential::example())),
            Kind::Login | Kind::Logout | Kind::Elevation | Kind::AuthFailure => {
                Body::Session(Box::new(session::example(kind)))
            }
            kind => operation(kind),
        }
    }

    #[test]
    fn an_operation_says_what_its_arguments_mean() {
        let Wire::Operation(converted) = convert_body(&operation(Kind::FileChmod)) else {
            panic!("not an operation");
        };
        assert_eq!(
            (converted.signal.as_str(), converted.call.as_str()),
            ("file_chmod", "chmod")
        );
        assert_eq!(
            (converted.target.as_str(), converted.target_raw),
            ("b\\xff", b"b\xff".to_vec())
        );
        let details: Vec<_> = converted
            .details
            .iter()
            .map(|detail| (detail.name.as_str(), detail.text.as_str()))
            .collect();
        assert_eq!(details, [("mode", "0001")]);
        assert_eq!((converted.result, converted.path_unreadable), (-1, true));
        assert_eq!(converted.repeats.map(|repeats| repeats.count), Some(7));
    }

    #[test]
    fn names_agree_here_on_the_wire_and_in_the_kernel() {
        let names: Vec<_> = Kind::ALL
            .into_iter()
            .map(|kind| {
                let body = body(kind);
                let entry = Entry::Event(event(process(b"", b""), body));
                assert_eq!(
                    sensor_proto::signal_name(&converter().entry(&entry)),
                    entry.name()
                );
                entry.name()
            })
            .collect();
        assert_eq!(names, Kind::ALL.map(Kind::name));
        assert!(names.iter().all(|name| sensor_proto::SIGNAL_NAMES.contains(name)));
    }

    #[test]
    fn bytes_that_are_not_text_are_escaped_and_kept() {
        let converted = converter().process(&process(b"a\xffb\0plain\0", b"/bin/\xc3"), None);
        assert_eq!(converted.args, ["a\\xffb", "plain"]);
        assert_eq!(converted.args_raw, [&b"a\xffb"[..], b"plain"]);
        assert_eq!(
            (converted.executable.as_str(), &*converted.executable_raw),
            ("/bin/\\xc3", &b"/bin/\xc3"[..])
        );
        assert!(converted.cwd_raw.is_empty());
    }

    #[test]
    fn texts_have_no_raw_bytes_beside_them() {
        let converted = converter().process(&process("grüß\0\0".as_bytes(), b"/bin/x"), None);
        assert_eq!(converted.args, ["grüß", ""]);
        assert!(converted.args_raw.is_empty() && converted.executable_raw.is_empty());
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let tuple = tuple(&flow());
        assert_eq!((tuple.local_address.as_str(), tuple.local_port), ("10.0.0.1", 80));
        assert_eq!(
            (tuple.remote_address.as_str(), tuple.remote_port),
            ("2001:db8::1", 5000)
        );
    }

    #[test]
    fn an_incident_has_the_thread_that_acted() {
        let process = process(b"", b"/bin/sh");
        let signal = Signal {
            subject: "host".into(),
            source: "first-seen",
            p_value: 0.25,
            reasons: vec![],
            techniques: vec!["T1059"],
            event: event(Arc::clone(&process), Body::Fork),
        };
        let incident = Incident {
            id: "i1".into(),
            opened: WallTime(1),
            updated: WallTime(2),
            updated_boot: BootTime(2),
            severity: Severity::High,
            summary: "new".into(),
            subject: "host".into(),
            process,
            signals: vec![Arc::new(signal)],
            count: 1,
        };
        let converted = converter().incident(&incident);
        let process = converted.process.as_ref().expect("a process");
        assert_eq!((process.comm.as_str(), process.tid), ("worker", 43));
        assert_eq!(
            (converted.signals[0].bits, converted.severity()),
            (2.0, v1::Severity::High)
        );
    }
}
