//! OCSF 1.8: each entry as an event of one of its classes.
//!
//! What a class has no attribute for is under `unmapped`, by the names of our own messages: nothing is lost by the change of words.

mod class;
mod finding;
mod objects;

use sensor_proto::{
    signal_name,
    v1::{self, entry::Body, event},
};
use serde_json::{Map, Value, json};

use self::{
    class::{Class, of_signal},
    objects::{actor, connection, device, endpoints, file, process, user},
};
use super::{
    parts::{self, success, time, traffic, transport},
    without_empty,
};

/// The version of the schema.
const VERSION: &str = "1.8.0";

/// `severity_id` of what is reported without judgement.
const INFORMATIONAL: u64 = 1;

/// An event in the making.
struct Made {
    class: Class,
    activity: u64,
    /// The activity in words, where its number is 99.
    other: &'static str,
    severity: u64,
    fields: Map<String, Value>,
}

impl Made {
    fn new(class: Class, activity: u64) -> Self {
        Self {
            class,
            activity,
            other: "",
            severity: INFORMATIONAL,
            fields: Map::new(),
        }
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }
}

/// `entry` as an event.
pub(super) fn encode(entry: &v1::Entry) -> Value {
    let made = match &entry.body {
        Some(Body::Event(event)) => of_event(event),
        Some(Body::Signal(signal)) => finding::of_signal(signal),
        Some(Body::Incident(incident)) => finding::of_incident(incident),
        Some(Body::Outcome(outcome)) => finding::of_outcome(outcome),
        Some(Body::Loss(loss)) => of_loss(loss),
        None => Made::new(Class::Base, 0),
    };
    finish(made, entry)
}

/// What every class has.
fn finish(made: Made, entry: &v1::Entry) -> Value {
    let class = made.class.uid();
    let mut fields = made.fields;
    let base = json!({
        "class_uid": class,
        "class_name": made.class.name(),
        "category_uid": made.class.category(),
        "category_name": made.class.category_name(),
        "activity_id": made.activity,
        "activity_name": if made.activity == 99 { made.other } else { made.class.activity(made.activity) },
        "type_uid": class * 100 + made.activity,
        "severity_id": made.severity,
        "time": time(entry) / 1_000_000,
        "metadata": {
            "version": VERSION,
            "product": {
                "name": "Sensor",
                "vendor_name": "Sensor",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "log_name": signal_name(entry),
            "original_time": parts::timestamp(time(entry)),
        },
        "device": device(&entry.host),
    });
    if let Value::Object(base) = base {
        fields.extend(base);
    }
    without_empty(Value::Object(fields))
}

fn of_event(event: &v1::Event) -> Made {
    let entry = v1::Entry {
        host: String::new(),
        body: Some(Body::Event(event.clone())),
    };
    let name = signal_name(&entry);
    let (class, activity, other) = of_signal(name, event.body.as_ref());
    let mut made = Made::new(class, activity);
    made.other = other;
    if let Some(process) = &event.process {
        made.set("actor", actor(process));
    }
    if let Some(body) = &event.body {
        add_body(&mut made, event, body);
        if let Some(success) = success(body) {
            made.set("status_id", if success { 1 } else { 2 });
            made.set("status", if success { "Success" } else { "Failure" });
        }
        made.set("unmapped", unmapped(body));
    }
    complete(&mut made, event);
    made
}

fn add_body(made: &mut Made, event: &v1::Event, body: &event::Body) {
    match body {
        event::Body::Exec(_) | event::Body::Fork(_) | event::Body::Sequence(_) => {}
        event::Body::Exit(exit) => made.set("exit_code", exit.code),
        event::Body::Operation(operation) => add_operation(made, operation),
        event::Body::Credential(credential) => {
            let uid = credential.after.map(|after| after.euid);
            made.set("message", credential.gained.join(" "));
            if let Some(uid) = uid {
                made.set("user", user(uid, ""));
            }
        }
        event::Body::Session(session) => add_session(made, event, session),
        event::Body::Dns(dns) => add_dns(made, dns),
        event::Body::TlsHello(hello) => {
            let version = hello.versions.iter().max().copied().unwrap_or(0);
            made.set(
                "tls",
                json!({ "version": tls_version(version), "sni": hello.server_name }),
            );
            if !hello.ja4.is_empty() {
                made.set(
                    "ja4_fingerprint_list",
                    json!([{ "type_id": 1, "type": "JA4", "value": hello.ja4 }]),
                );
            }
        }
        _ => {}
    }
    if let Some((tuple, direction)) = parts::tuple(body) {
        let (source, destination) = endpoints(tuple, direction);
        made.set("src_endpoint", source);
        made.set("dst_endpoint", destination);
        made.set("connection_info", connection(transport(body), Some(direction)));
    }
    if let event::Body::Listen(v1::Listen { address, port, .. })
    | event::Body::Bind(v1::Bind { address, port, .. }) = body
    {
        made.set("src_endpoint", json!({ "ip": address, "port": port }));
        made.set("connection_info", connection(transport(body), None));
    }
    if let Some(traffic) = traffic(body) {
        made.set(
            "traffic",
            json!({
                "bytes_out": traffic.bytes_sent,
                "bytes_in": traffic.bytes_received,
                "bytes": traffic.bytes_sent + traffic.bytes_received,
                "packets_out": traffic.packets_sent,
                "packets_in": traffic.packets_received,
                "packets": traffic.packets_sent + traffic.packets_received,
            }),
        );
        made.set(
            "duration",
            traffic.duration_ns.map(|duration| duration / 1_000_000),
        );
    }
}

fn add_operation(made: &mut Made, operation: &v1::Operation) {
    if let Some(repeats) = &operation.repeats {
        made.set("count", repeats.count);
        made.set("start_time", repeats.first_ns / 1_000_000);
        made.set("end_time", repeats.last_ns / 1_000_000);
    }
    match made.class {
        Class::FileSystem => {
            if matches!(operation.signal.as_str(), "file_rename" | "file_link") {
                made.set("file_result", file(&operation.target, operation));
            }
            made.set("file", file(&operation.path, operation));
        }
        Class::Kernel => made.set(
            "kernel",
            json!({ "name": operation.call, "type_id": 2, "type": "System Call" }),
        ),
        Class::KernelExtension => {
            made.set("driver", json!({ "file": file(&operation.path, operation) }));
        }
        _ => {}
    }
}

fn add_session(made: &mut Made, event: &v1::Event, session: &v1::Session) {
    let uid = session.uid.or(event.process.as_ref().map(|process| process.uid));
    made.set(
        "user",
        json!({ "name": session.user, "uid": uid.map(|uid| uid.to_string()) }),
    );
    made.set(
        "service",
        json!({ "name": if session.program.is_empty() { "login" } else { &session.program } }),
    );
    made.set("is_remote", !session.remote.is_empty());
    if !session.remote.is_empty() {
        let is_address = session.remote.parse::<std::net::IpAddr>().is_ok();
        let key = if is_address { "ip" } else { "hostname" };
        made.set("src_endpoint", json!({ key: session.remote }));
    }
}

fn add_dns(made: &mut Made, dns: &v1::Dns) {
    made.set(
        "query",
        json!({ "hostname": if dns.name.is_empty() { "." } else { &dns.name }, "type": dns.r#type, "class": "IN", "packet_uid": dns.id }),
    );
    let answers = dns.answers.iter().map(|answer| json!({ "rdata": answer }));
    made.set("answers", answers.collect::<Vec<_>>());
    made.set("rcode", dns.code.as_str());
}

/// What the schema asks of the class, where the event says nothing of it.
fn complete(made: &mut Made, event: &v1::Event) {
    let unknown = || json!({ "process": { "name": "unknown" } });
    if made.class.has_actor() && !made.fields.contains_key("actor") {
        made.set("actor", unknown());
    }
    if matches!(made.class, Class::Process | Class::Memory) {
        let own = event.process.as_ref().map(process);
        let own = own.unwrap_or_else(|| json!({ "name": "unknown" }));
        made.set("process", own);
        // Who started it is not the process itself.
        if made.class == Class::Process && made.activity == 1 {
            let parent = event.process.as_ref().map(objects::parent);
            made.set("actor", json!({ "process": parent.filter(|parent| *parent != json!({})).unwrap_or_else(|| json!({ "name": "unknown" })) }));
        }
    }
    if made.class == Class::Kernel && !made.fields.contains_key("kernel") {
        made.set(
            "kernel",
            json!({ "name": "syscall", "type_id": 2, "type": "System Call" }),
        );
    }
}

fn of_loss(loss: &v1::Loss) -> Made {
    let mut made = Made::new(Class::Base, 99);
    made.other = "Loss";
    made.severity = 2;
    made.set(
        "message",
        format!("{} events were lost: {}", loss.count, loss.reason),
    );
    made.set("count", loss.count.max(1));
    made.set("start_time", loss.from_ns / 1_000_000);
    made.set("end_time", loss.to_ns / 1_000_000);
    made.set(
        "unmapped",
        json!({ "stage": loss.stage, "signal": loss.signal, "count": loss.count, "reason": loss.reason }),
    );
    made
}

/// What of an event has no attribute, by our own names.
fn unmapped(body: &event::Body) -> Value {
    match body {
        event::Body::Exec(exec) => json!({
            "filename": exec.filename,
            "script": exec.script,
            "memfd": exec.memfd,
            "unlinked": exec.unlinked,
            "overlay_upper": exec.overlay_upper,
            "variables": exec.variables,
        }),
        event::Body::Exit(exit) => json!({ "signal": exit.signal, "core_dumped": exit.core_dumped }),
        event::Body::Operation(operation) => json!({
            "call": operation.call,
            "result": operation.result,
            "path": operation.path,
            "target": operation.target,
            "previous": operation.previous,
            "details": operation.details.iter().map(detail).collect::<Map<_, _>>(),
            "attempt": operation.attempt,
        }),
        event::Body::Credential(credential) => json!({
            "call": credential.call,
            "cause": credential.cause().as_str_name(),
            "noticed": credential.noticed,
            "gained": credential.gained,
        }),
        event::Body::Session(session) => json!({
            "terminal": session.terminal,
            "source": session.source,
            "from_uid": session.from_uid,
        }),
        event::Body::FlowClose(flow) | event::Body::FlowReport(flow) => {
            json!({ "retransmits": flow.retransmits, "rtt_us": flow.rtt_us, "established": flow.established })
        }
        event::Body::UdpFlow(flow) => json!({ "end": flow.end }),
        event::Body::Listen(listen) => json!({ "backlog": listen.backlog }),
        event::Body::TlsHello(hello) => json!({ "protocols": hello.protocols }),
        event::Body::Sequence(sequence) => json!({ "calls": sequence.calls, "withheld": sequence.withheld }),
        event::Body::Dns(dns) => json!({ "truncated": dns.truncated, "malformed": dns.malformed }),
        event::Body::Connect(_) | event::Body::Accept(_) | event::Body::Bind(_) | event::Body::Fork(_) => {
            Value::Null
        }
    }
}

fn detail(detail: &v1::Detail) -> (String, Value) {
    let value = match detail.text.as_str() {
        "" => json!(detail.number),
        text => json!(text),
    };
    (detail.name.clone(), value)
}

fn tls_version(version: u32) -> &'static str {
    match version {
        0x0304 => "1.3",
        0x0303 => "1.2",
        0x0302 => "1.1",
        0x0301 => "1.0",
        _ => "unknown",
    }
}
