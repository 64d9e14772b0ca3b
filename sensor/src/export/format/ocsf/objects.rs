//! The objects that several classes share.

use sensor_proto::v1;
use serde_json::{Value, json};

use crate::export::format::parts::{Direction, file_name, folder, path, process_uid};

/// `type_id` of a regular file, a folder, a link and others, by the file's mode.
const FILE_TYPES: [(u32, u64); 7] = [
    (0o100_000, 1),
    (0o040_000, 2),
    (0o020_000, 3),
    (0o060_000, 4),
    (0o010_000, 5),
    (0o140_000, 6),
    (0o120_000, 7),
];

/// A process, and the one that it comes from.
pub(super) fn process(process: &v1::Process) -> Value {
    let mut object = bare(process);
    if let Value::Object(fields) = &mut object {
        fields.insert("parent_process".into(), parent(process));
    }
    object
}

fn bare(process: &v1::Process) -> Value {
    let name = match file_name(&process.executable) {
        "" => process.comm.as_str(),
        name => name,
    };
    json!({
        "pid": process.id.map(|id| id.tgid),
        "uid": process_uid(process.id.as_ref()),
        "tid": process.tid,
        "name": if name.is_empty() { "unknown" } else { name },
        "cmd_line": process.args.join(" "),
        "working_directory": process.cwd,
        "file": executable(&process.executable),
        "user": user(process.uid, &process.user),
        "egid": process.egid,
        "euid": process.euid,
        "auid": process.login_uid,
        "session": process.session_id.map(|id| json!({ "uid": id.to_string() })),
        "container": container(&process.container_id),
        "group": { "uid": process.gid.to_string() },
    })
}

pub(super) fn parent(process: &v1::Process) -> Value {
    let mut fields = serde_json::Map::new();
    if let Some(id) = &process.parent_id {
        fields.insert("pid".into(), json!(id.tgid));
        fields.insert("uid".into(), json!(process_uid(Some(id))));
    }
    if !process.parent_executable.is_empty() {
        fields.insert("name".into(), json!(file_name(&process.parent_executable)));
        fields.insert("file".into(), executable(&process.parent_executable));
    }
    Value::Object(fields)
}

fn executable(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    json!({ "name": file_name(text), "path": path(text), "parent_folder": folder(text), "type_id": 1, "type": "Regular File" })
}

fn container(id: &str) -> Value {
    if id.is_empty() {
        Value::Null
    } else {
        json!({ "uid": id })
    }
}

/// Who did it.
pub(super) fn actor(process: &v1::Process) -> Value {
    json!({
        "process": self::process(process),
        "user": user(process.uid, &process.user),
        "session": process.session_id.map(|id| json!({ "uid": id.to_string() })),
    })
}

pub(super) fn user(uid: u32, name: &str) -> Value {
    json!({ "uid": uid.to_string(), "name": name })
}

/// This host.
pub(super) fn device(host: &str) -> Value {
    json!({
        "hostname": if host.is_empty() { "unknown" } else { host },
        "type_id": 0,
        "type": "Unknown",
        "os": { "name": "Linux", "type_id": 200, "type": "Linux" },
    })
}

/// A file that something was done to.
pub(super) fn file(text: &str, operation: &v1::Operation) -> Value {
    let kind = operation.mode & 0o170_000;
    let kind = FILE_TYPES
        .iter()
        .find(|(mode, _)| *mode == kind)
        .map_or(0, |(_, id)| *id);
    let name = match file_name(text) {
        "" if text.is_empty() => "unknown",
        "" => "/",
        name => name,
    };
    json!({
        "name": name,
        "path": path(text),
        "parent_folder": folder(text),
        "type_id": kind,
        "uid": (operation.inode != 0).then(|| format!("{}:{}", operation.device, operation.inode)),
    })
}

/// The end that began, and the other.
pub(super) fn endpoints(tuple: &v1::Tuple, direction: Direction) -> (Value, Value) {
    let local = json!({ "ip": tuple.local_address, "port": tuple.local_port });
    let remote =
        json!({ "ip": tuple.remote_address, "port": tuple.remote_port, "hostname": tuple.remote_name });
    match direction {
        Direction::Outbound => (local, remote),
        Direction::Inbound => (remote, local),
    }
}

pub(super) fn connection(transport: &str, direction: Option<Direction>) -> Value {
    let (id, name) = match direction {
        Some(Direction::Inbound) => (1, "Inbound"),
        Some(Direction::Outbound) => (2, "Outbound"),
        None => (0, "Unknown"),
    };
    let number = match transport {
        "tcp" => Some(6),
        "udp" => Some(17),
        _ => None,
    };
    json!({ "direction_id": id, "direction": name, "protocol_name": transport, "protocol_num": number })
}
