//! ECS 8: each entry as a document with the field names of the Elastic Common Schema. What that has no field for is under `sensor.`, by the
//! names of our own messages.

use sensor_proto::{
    signal_name,
    v1::{self, entry::Body, event},
};
use serde_json::{Map, Value, json};

use super::{
    parts::{
        Direction, file_name, folder, level, path, process_uid, success, techniques, time, timestamp,
        traffic, transport, tuple,
    },
    without_empty,
};

/// The version of the schema.
const VERSION: &str = "8.17.0";

/// `entry` as a document.
pub(super) fn encode(entry: &v1::Entry) -> Value {
    let name = signal_name(entry);
    let mut fields = Map::new();
    match &entry.body {
        Some(Body::Event(event)) => add_event(&mut fields, name, event),
        Some(Body::Signal(signal)) => add_signal(&mut fields, signal),
        Some(Body::Incident(incident)) => add_incident(&mut fields, incident),
        Some(Body::Outcome(outcome)) => add_outcome(&mut fields, outcome),
        Some(Body::Loss(loss)) => add_loss(&mut fields, loss),
        None => {}
    }
    let base = json!({
        "@timestamp": timestamp(time(entry)),
        "ecs": { "version": VERSION },
        "host": { "name": entry.host, "hostname": entry.host, "os": { "type": "linux", "family": "linux" } },
        "agent": { "type": "sensor", "name": "sensor", "version": env!("CARGO_PKG_VERSION") },
    });
    if let Value::Object(base) = base {
        fields.extend(base);
    }
    without_empty(Value::Object(fields))
}

/// `event.kind`, `event.category` and `event.type` of a signal.
fn categories(name: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match name {
        "exec" | "fork" => (&["process"], &["start"]),
        "exit" => (&["process"], &["end"]),
        "setsid" | "namespace" | "process_signal" | "sequence" | "userfaultfd" => (&["process"], &["info"]),
        "credential" => (&["process"], &["change"]),
        "ptrace" | "process_write" | "memfd" | "exec_memory" => (&["process"], &["access"]),
        "file_open" => (&["file"], &["access"]),
        "file_create" | "file_link" => (&["file"], &["creation"]),
        "file_unlink" => (&["file"], &["deletion"]),
        "file_rename" | "file_truncate" | "file_chmod" | "file_chown" | "file_xattr" | "file_flags"
        | "mount" | "root_change" => (&["file"], &["change"]),
        "connect" => (&["network"], &["connection", "start"]),
        "accept" => (&["network"], &["connection", "start", "allowed"]),
        "flow_close" => (&["network"], &["connection", "end"]),
        "flow_report" | "udp_flow" | "tls_hello" => (&["network"], &["connection", "info"]),
        "dns" => (&["network"], &["protocol"]),
        "listen" | "bind" | "raw_socket" => (&["network"], &["info"]),
        "login" => (&["authentication", "session"], &["start"]),
        "logout" => (&["authentication", "session"], &["end"]),
        "auth_failure" => (&["authentication"], &["start"]),
        "elevation" => (&["authentication", "iam"], &["user"]),
        "module" | "bpf" => (&["driver"], &["start"]),
        "kexec" | "sysctl" | "tracing" | "lockdown" | "keyctl" | "io_uring" => {
            (&["configuration"], &["change"])
        }
        _ => (&["host"], &["info"]),
    }
}

fn add_event(fields: &mut Map<String, Value>, name: &str, event: &v1::Event) {
    let (category, kind) = categories(name);
    let outcome = event.body.as_ref().and_then(success);
    let flow = event.body.as_ref().and_then(traffic);
    fields.insert(
        "event".into(),
        json!({
            "kind": "event",
            "category": category,
            "type": kind,
            "action": name,
            "module": "sensor",
            "dataset": "sensor.events",
            "outcome": outcome.map(|success| if success { "success" } else { "failure" }),
            "duration": flow.and_then(|flow| flow.duration_ns),
        }),
    );
    if let Some(acting) = &event.process {
        fields.insert("process".into(), process(acting));
        fields.insert("user".into(), user(acting));
        fields.insert("container".into(), json!({ "id": acting.container_id }));
        fields.insert("service".into(), service(acting));
    }
    if let Some(body) = &event.body {
        add_body(fields, body);
    }
}

fn service(process: &v1::Process) -> Value {
    json!({ "name": process.workload.strip_prefix("unit:") })
}

fn add_body(fields: &mut Map<String, Value>, body: &event::Body) {
    if let Some((tuple, direction)) = tuple(body) {
        add_tuple(fields, body, tuple, direction);
    }
    match body {
        event::Body::Exec(exec) => {
            fields.insert(
                "sensor".into(),
                json!({ "exec": {
                    "filename": exec.filename, "script": exec.script, "memfd": exec.memfd, "unlinked": exec.unlinked,
                    "overlay_upper": exec.overlay_upper,
                } }),
            );
            if let Some(Value::Object(process)) = fields.get_mut("process") {
                process.insert("env_vars".into(), json!(exec.variables));
            }
        }
        event::Body::Exit(exit) => {
            if let Some(Value::Object(process)) = fields.get_mut("process") {
                process.insert("exit_code".into(), json!(exit.code));
            }
            fields.insert(
                "sensor".into(),
                json!({ "exit": { "signal": exit.signal, "core_dumped": exit.core_dumped } }),
            );
        }
        event::Body::Operation(operation) => add_operation(fields, operation),
        event::Body::Credential(credential) => {
            fields.insert(
                "sensor".into(),
                json!({ "credential": {
                    "call": credential.call, "cause": credential.cause().as_str_name(), "gained": credential.gained,
                    "before": credential.before.map(|before| json!({ "uid": before.uid, "euid": before.euid })),
                    "after": credential.after.map(|after| json!({ "uid": after.uid, "euid": after.euid })),
                } }),
            );
        }
        event::Body::Session(session) => add_session(fields, session),
        event::Body::Dns(dns) => add_dns(fields, dns),
        event::Body::TlsHello(hello) => {
            fields.insert(
                "tls".into(),
                json!({ "client": { "server_name": hello.server_name } }),
            );
            fields.insert(
                "sensor".into(),
                json!({ "tls": { "ja4": hello.ja4, "protocols": hello.protocols } }),
            );
        }
        event::Body::Listen(v1::Listen { address, port, .. })
        | event::Body::Bind(v1::Bind { address, port, .. }) => {
            fields.insert("server".into(), json!({ "ip": address, "port": port }));
            fields.insert("network".into(), json!({ "transport": transport(body) }));
        }
        event::Body::Sequence(sequence) => {
            fields.insert(
                "sensor".into(),
                json!({ "sequence": { "calls": sequence.calls, "withheld": sequence.withheld } }),
            );
        }
        _ => {}
    }
}

fn add_tuple(fields: &mut Map<String, Value>, body: &event::Body, tuple: &v1::Tuple, direction: Direction) {
    let flow = traffic(body);
    let own = json!({
        "ip": tuple.local_address, "address": tuple.local_address, "port": tuple.local_port,
        "bytes": flow.map(|flow| flow.bytes_sent), "packets": flow.map(|flow| flow.packets_sent),
    });
    let other = json!({
        "ip": tuple.remote_address, "address": tuple.remote_address, "port": tuple.remote_port, "domain": tuple.remote_name,
        "bytes": flow.map(|flow| flow.bytes_received), "packets": flow.map(|flow| flow.packets_received),
    });
    let (source, destination, word) = match direction {
        Direction::Outbound => (own, other, "egress"),
        Direction::Inbound => (other, own, "ingress"),
    };
    fields.insert("source".into(), source);
    fields.insert("destination".into(), destination);
    let is_v6 = tuple.remote_address.contains(':');
    fields.insert(
        "network".into(),
        json!({
            "transport": transport(body),
            "type": if is_v6 { "ipv6" } else { "ipv4" },
            "direction": word,
            "bytes": flow.map(|flow| flow.bytes_sent + flow.bytes_received),
            "packets": flow.map(|flow| flow.packets_sent + flow.packets_received),
            "protocol": match body {
                event::Body::Dns(_) => "dns",
                event::Body::TlsHello(_) => "tls",
                _ => "",
            },
        }),
    );
}

fn add_operation(fields: &mut Map<String, Value>, operation: &v1::Operation) {
    let is_file = operation.signal.starts_with("file_")
        || matches!(operation.signal.as_str(), "mount" | "root_change" | "module");
    if is_file && !operation.path.is_empty() {
        fields.insert(
            "file".into(),
            json!({
                "path": path(&operation.path),
                "name": file_name(&operation.path),
                "directory": folder(&operation.path),
                "target_path": path(&operation.target),
                "inode": (operation.inode != 0).then(|| operation.inode.to_string()),
                "mode": (operation.mode != 0).then(|| format!("{:04o}", operation.mode & 0o7777)),
            }),
        );
    }
    let details = operation.details.iter().map(|detail| {
        let value = if detail.text.is_empty() {
            json!(detail.number)
        } else {
            json!(detail.text)
        };
        (detail.name.clone(), value)
    });
    fields.insert(
        "sensor".into(),
        json!({ "operation": {
            "call": operation.call,
            "result": operation.result,
            "path": operation.path,
            "target": operation.target,
            "previous": operation.previous,
            "details": details.collect::<Map<_, _>>(),
            "repeats": operation.repeats.map(|repeats| repeats.count),
        } }),
    );
}

fn add_session(fields: &mut Map<String, Value>, session: &v1::Session) {
    fields.insert(
        "user".into(),
        json!({ "name": session.user, "id": session.uid.map(|uid| uid.to_string()) }),
    );
    let is_address = session.remote.parse::<std::net::IpAddr>().is_ok();
    fields.insert(
        "source".into(),
        json!({ "ip": if is_address { &session.remote } else { "" }, "address": session.remote }),
    );
    fields.insert(
        "sensor".into(),
        json!({ "session": {
            "terminal": session.terminal, "program": session.program, "source": session.source, "from_uid": session.from_uid,
        } }),
    );
}

fn add_dns(fields: &mut Map<String, Value>, dns: &v1::Dns) {
    let answers = dns.answers.iter().map(|answer| json!({ "data": answer }));
    let addresses = dns
        .answers
        .iter()
        .filter(|answer| answer.parse::<std::net::IpAddr>().is_ok());
    fields.insert(
        "dns".into(),
        json!({
            "type": if dns.answer { "answer" } else { "query" },
            "id": dns.id.to_string(),
            "question": { "name": dns.name, "type": dns.r#type, "class": "IN" },
            "answers": answers.collect::<Vec<_>>(),
            "resolved_ip": addresses.collect::<Vec<_>>(),
            "response_code": dns.code,
        }),
    );
}

fn process(process: &v1::Process) -> Value {
    let parent = json!({
        "pid": process.parent_id.map(|id| id.tgid),
        "entity_id": process_uid(process.parent_id.as_ref()),
        "executable": process.parent_executable,
        "name": file_name(&process.parent_executable),
    });
    json!({
        "pid": process.id.map(|id| id.tgid),
        "entity_id": process_uid(process.id.as_ref()),
        "executable": process.executable,
        "name": file_name(&process.executable),
        "args": process.args,
        "args_count": (!process.args.is_empty()).then_some(process.args.len()),
        "command_line": process.args.join(" "),
        "working_directory": process.cwd,
        "thread": { "id": process.tid, "name": process.comm },
        "parent": parent,
        "user": { "id": process.uid.to_string(), "name": process.user },
        "group": { "id": process.gid.to_string() },
    })
}

fn user(process: &v1::Process) -> Value {
    json!({
        "id": process.uid.to_string(),
        "name": process.user,
        "effective": (process.euid != process.uid).then(|| json!({ "id": process.euid.to_string() })),
    })
}

/// `event.severity`, as a number that grows with it.
fn severity(severity: v1::Severity) -> u32 {
    match severity {
        v1::Severity::Unspecified => 0,
        v1::Severity::Low => 21,
        v1::Severity::Medium => 47,
        v1::Severity::High => 73,
        v1::Severity::Critical => 99,
    }
}

fn add_signal(fields: &mut Map<String, Value>, signal: &v1::Signal) {
    if let Some(event) = &signal.event {
        let entry = v1::Entry {
            host: String::new(),
            body: Some(Body::Event(event.clone())),
        };
        add_event(fields, signal_name(&entry), event);
    }
    fields.insert(
        "event".into(),
        json!({
            "kind": "alert",
            "category": ["intrusion_detection"],
            "type": ["indicator"],
            "action": "signal",
            "module": "sensor",
            "dataset": "sensor.signals",
            "severity": severity(level(signal)),
            "reason": signal.reasons.join("; "),
        }),
    );
    fields.insert("message".into(), json!(signal.reasons.join("; ")));
    fields.insert("threat".into(), threat(signal.techniques.iter(), &[]));
    let rule = signal.rule.as_ref();
    fields.insert(
        "rule".into(),
        json!({
            "id": rule.map_or(&signal.source, |rule| &rule.id),
            "name": rule.map_or(&signal.source, |rule| &rule.title),
            "description": rule.map(|rule| &rule.description),
            "ruleset": if rule.is_some() { "sigma" } else { "models" },
        }),
    );
    fields.insert(
        "sensor".into(),
        json!({ "signal": { "subject": signal.subject, "source": signal.source, "p_value": signal.p_value, "bits": signal.bits } }),
    );
}

fn threat<'a>(techniques: impl Iterator<Item = &'a String>, tactics: &[String]) -> Value {
    let techniques: Vec<_> = techniques.collect();
    if techniques.is_empty() && tactics.is_empty() {
        return Value::Null;
    }
    json!({ "framework": "MITRE ATT&CK", "technique": { "id": techniques }, "tactic": { "name": tactics } })
}

fn add_incident(fields: &mut Map<String, Value>, incident: &v1::Incident) {
    if let Some(acting) = &incident.process {
        fields.insert("process".into(), process(acting));
        fields.insert("user".into(), user(acting));
        fields.insert("container".into(), json!({ "id": acting.container_id }));
    }
    let techniques = techniques(incident);
    fields.insert(
        "event".into(),
        json!({
            "kind": "alert",
            "category": ["intrusion_detection"],
            "type": [if incident.ended.is_some() { "end" } else if incident.opened_ns == incident.updated_ns { "start" } else { "change" }],
            "action": "incident",
            "id": incident.id,
            "module": "sensor",
            "dataset": "sensor.incidents",
            "severity": severity(incident.severity()),
            "start": timestamp(incident.opened_ns),
            "reason": incident.summary,
        }),
    );
    fields.insert("message".into(), json!(incident.summary));
    fields.insert("threat".into(), threat(techniques.into_iter(), &incident.tactics));
    let origin = incident.origin.as_ref();
    fields.insert(
        "sensor".into(),
        json!({ "incident": {
            "id": incident.id,
            "subject": incident.subject,
            "count": incident.count,
            "entry": origin.map(|origin| &origin.entry),
            "side": origin.map(|origin| origin.side().as_str_name()),
            "signals": incident.signals.iter().map(|signal| json!({
                "source": signal.source, "rule": signal.rule.as_ref().map(|rule| &rule.id), "reasons": signal.reasons,
            })).collect::<Vec<_>>(),
            "ended": incident.ended.as_ref().map(|ended| json!({
                "reason": ended.reason().as_str_name(), "verdict": ended.verdict().as_str_name(), "why": ended.why,
            })),
        } }),
    );
}

fn add_outcome(fields: &mut Map<String, Value>, outcome: &v1::Outcome) {
    let action = outcome.action.as_ref();
    let result = match outcome.result() {
        v1::Result::Done => "success",
        v1::Result::Failed | v1::Result::Refused => "failure",
        _ => "unknown",
    };
    fields.insert(
        "event".into(),
        json!({
            "kind": "event",
            "category": ["intrusion_detection"],
            "type": ["info"],
            "action": "outcome",
            "module": "sensor",
            "dataset": "sensor.outcomes",
            "outcome": result,
            "duration": outcome.latency_ns,
            "reason": outcome.detail,
        }),
    );
    fields.insert("message".into(), json!(outcome.detail));
    fields.insert(
        "sensor".into(),
        json!({ "outcome": {
            "kind": action.map(|action| action.kind().as_str_name()),
            "incident_id": action.map(|action| &action.incident_id),
            "target": action.and_then(|action| action.target).map(|target| target.tgid),
            "result": outcome.result().as_str_name(),
            "who": outcome.who,
            "number": outcome.number,
        } }),
    );
}

fn add_loss(fields: &mut Map<String, Value>, loss: &v1::Loss) {
    fields.insert(
        "event".into(),
        json!({
            "kind": "pipeline_error",
            "category": ["host"],
            "type": ["error"],
            "action": "loss",
            "module": "sensor",
            "dataset": "sensor.losses",
            "start": timestamp(loss.from_ns),
            "end": timestamp(loss.to_ns),
            "reason": loss.reason,
        }),
    );
    fields.insert(
        "message".into(),
        json!(format!("{} events were lost: {}", loss.count, loss.reason)),
    );
    fields.insert(
        "sensor".into(),
        json!({ "loss": { "stage": loss.stage, "signal": loss.signal, "count": loss.count } }),
    );
}
