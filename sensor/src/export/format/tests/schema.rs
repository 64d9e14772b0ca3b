//! The rules of the OCSF schema, 1.8, for what we use of it: attributes of each class and object, which of them are required, of which at least
//! one must be there, and which numbers an enumeration has.

use serde_json::{Map, Value};

/// What an object may have.
struct Object {
    name: &'static str,
    required: &'static [&'static str],
    /// One of these, at least; none where that is empty.
    one_of: &'static [&'static str],
    others: &'static [&'static str],
}

struct Class {
    uid: u64,
    activities: &'static [u64],
    required: &'static [&'static str],
    one_of: &'static [&'static str],
    others: &'static [&'static str],
}

/// Of every class. `device` is required of the categories System Activity and allowed in all by the profile `host`.
const BASE: Class = Class {
    uid: 0,
    activities: &[0, 99],
    required: &[
        "activity_id",
        "category_uid",
        "class_uid",
        "metadata",
        "severity_id",
        "time",
        "type_uid",
    ],
    one_of: &[],
    others: &[
        "activity_name",
        "category_name",
        "class_name",
        "count",
        "device",
        "duration",
        "end_time",
        "message",
        "start_time",
        "status",
        "status_detail",
        "status_id",
        "unmapped",
        "actor",
    ],
};

const CLASSES: [Class; 11] = [
    Class {
        uid: 0,
        activities: &[0, 99],
        required: &[],
        one_of: &[],
        others: &[],
    },
    Class {
        uid: 1001,
        activities: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 99],
        required: &["actor", "device", "file"],
        one_of: &[],
        others: &["file_result"],
    },
    Class {
        uid: 1002,
        activities: &[0, 1, 2, 99],
        required: &["actor", "device", "driver"],
        one_of: &[],
        others: &[],
    },
    Class {
        uid: 1003,
        activities: &[0, 1, 2, 3, 4, 99],
        required: &["actor", "device", "kernel"],
        one_of: &[],
        others: &[],
    },
    Class {
        uid: 1004,
        activities: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99],
        required: &["actor", "device", "process"],
        one_of: &[],
        others: &[],
    },
    Class {
        uid: 1007,
        activities: &[0, 1, 2, 3, 4, 5, 99],
        required: &["actor", "device", "process"],
        one_of: &[],
        others: &["exit_code", "user"],
    },
    Class {
        uid: 2004,
        activities: &[0, 1, 2, 3, 99],
        required: &["finding_info"],
        one_of: &[],
        others: &["comment", "evidences", "is_alert", "verdict_id"],
    },
    Class {
        uid: 3002,
        activities: &[0, 1, 2, 3, 4, 5, 6, 7, 99],
        required: &["user"],
        one_of: &["service", "dst_endpoint"],
        others: &["is_remote", "src_endpoint"],
    },
    Class {
        uid: 4001,
        activities: &[0, 1, 2, 3, 4, 5, 6, 7, 99],
        required: &[],
        one_of: &["dst_endpoint", "src_endpoint"],
        others: &["connection_info", "ja4_fingerprint_list", "tls", "traffic"],
    },
    Class {
        uid: 4003,
        activities: &[0, 1, 2, 6, 99],
        required: &[],
        one_of: &["dst_endpoint", "src_endpoint"],
        others: &["answers", "connection_info", "query", "rcode", "traffic"],
    },
    Class {
        uid: 7001,
        activities: &[0, 1, 2, 3, 4, 5, 99],
        required: &["command_uid"],
        one_of: &[],
        others: &[],
    },
];

const OBJECTS: [Object; 22] = [
    Object {
        name: "metadata",
        required: &["product", "version"],
        one_of: &[],
        others: &["log_name", "original_time", "uid"],
    },
    Object {
        name: "product",
        required: &[],
        one_of: &["name", "uid"],
        others: &["vendor_name", "version"],
    },
    Object {
        name: "device",
        required: &["type_id"],
        one_of: &["hostname", "ip", "name", "uid"],
        others: &["os", "type"],
    },
    Object {
        name: "os",
        required: &["name", "type_id"],
        one_of: &[],
        others: &["type"],
    },
    Object {
        name: "actor",
        required: &[],
        one_of: &["process", "user", "session"],
        others: &[],
    },
    Object {
        name: "process",
        required: &[],
        one_of: PROCESS_ONE,
        others: PROCESS,
    },
    Object {
        name: "parent_process",
        required: &[],
        one_of: PROCESS_ONE,
        others: PROCESS,
    },
    Object {
        name: "session",
        required: &[],
        one_of: &[],
        others: &["uid"],
    },
    Object {
        name: "container",
        required: &[],
        one_of: &["uid", "name"],
        others: &[],
    },
    Object {
        name: "group",
        required: &[],
        one_of: &["name", "uid"],
        others: &[],
    },
    Object {
        name: "user",
        required: &[],
        one_of: &["account", "name", "uid"],
        others: &[],
    },
    Object {
        name: "file",
        required: &["name", "type_id"],
        one_of: &[],
        others: &["parent_folder", "path", "type", "uid"],
    },
    Object {
        name: "file_result",
        required: &["name", "type_id"],
        one_of: &[],
        others: &["parent_folder", "path", "type", "uid"],
    },
    Object {
        name: "kernel",
        required: &["name", "type_id"],
        one_of: &[],
        others: &["type"],
    },
    Object {
        name: "driver",
        required: &["file"],
        one_of: &[],
        others: &[],
    },
    Object {
        name: "service",
        required: &[],
        one_of: &["name", "uid"],
        others: &[],
    },
    Object {
        name: "src_endpoint",
        required: &[],
        one_of: &["ip", "hostname", "uid", "name"],
        others: &["port"],
    },
    Object {
        name: "dst_endpoint",
        required: &[],
        one_of: &["ip", "hostname", "uid", "name"],
        others: &["port"],
    },
    Object {
        name: "connection_info",
        required: &["direction_id"],
        one_of: &[],
        others: &["direction", "protocol_name", "protocol_num"],
    },
    Object {
        name: "query",
        required: &["hostname"],
        one_of: &[],
        others: &["class", "packet_uid", "type"],
    },
    Object {
        name: "tls",
        required: &["version"],
        one_of: &[],
        others: &["sni"],
    },
    Object {
        name: "finding_info",
        required: &["title", "uid"],
        one_of: &[],
        others: &[
            "analytic",
            "attacks",
            "created_time",
            "desc",
            "first_seen_time",
            "last_seen_time",
            "modified_time",
            "related_events",
        ],
    },
];

const PROCESS_ONE: &[&str] = &["pid", "uid", "cpid", "name"];
const PROCESS: &[&str] = &[
    "auid",
    "cmd_line",
    "container",
    "egid",
    "euid",
    "file",
    "group",
    "parent_process",
    "session",
    "tid",
    "user",
    "working_directory",
];

/// What elements of lists must have.
const ELEMENTS: [(&str, &[&str]); 5] = [
    ("answers", &["rdata"]),
    ("attacks", &["technique"]),
    ("evidences", &["process"]),
    ("ja4_fingerprint_list", &["type_id", "value"]),
    ("related_events", &["uid"]),
];

/// Numbers that mean something.
const ENUMS: [(&str, &[u64]); 4] = [
    ("severity_id", &[0, 1, 2, 3, 4, 5, 6, 99]),
    ("direction_id", &[0, 1, 2, 3, 99]),
    ("verdict_id", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 99]),
    ("status_id", &[0, 1, 2, 3, 4, 5, 6, 99]),
];

/// All that is wrong with an event.
pub(super) fn faults(event: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let Some(fields) = event.as_object() else {
        return vec!["it is no object".to_owned()];
    };
    let number = |name: &str| fields.get(name).and_then(Value::as_u64);
    let Some(class) = CLASSES
        .iter()
        .find(|class| Some(class.uid) == number("class_uid"))
    else {
        return vec!["there is no such class".to_owned()];
    };
    let activity = number("activity_id").unwrap_or(u64::MAX);
    if !class.activities.contains(&activity) {
        faults.push(format!("activity_id is {activity}"));
    }
    if activity == 99 && !fields.contains_key("activity_name") {
        faults.push("activity 99 has no name".to_owned());
    }
    if number("type_uid") != Some(class.uid * 100 + activity) {
        faults.push("type_uid is not class_uid * 100 + activity_id".to_owned());
    }
    if number("category_uid") != Some(class.uid / 1000) {
        faults.push("category_uid is another class's".to_owned());
    }
    let required: Vec<_> = BASE.required.iter().chain(class.required).copied().collect();
    let others: Vec<_> = BASE.others.iter().chain(class.others).copied().collect();
    look("the event", fields, &required, class.one_of, &others, &mut faults);
    for (name, value) in fields.iter().filter(|(name, _)| *name != "unmapped") {
        descend(name, value, &mut faults);
    }
    faults
}

fn look(
    what: &str,
    fields: &Map<String, Value>,
    required: &[&str],
    one_of: &[&str],
    others: &[&str],
    faults: &mut Vec<String>,
) {
    let missing = required.iter().filter(|name| !fields.contains_key(**name));
    faults.extend(missing.map(|name| format!("{what} has no {name}")));
    if !one_of.is_empty() && !one_of.iter().any(|name| fields.contains_key(*name)) {
        faults.push(format!("{what} has none of {}", one_of.join(", ")));
    }
    let known = |name: &str| [required, one_of, others].iter().any(|list| list.contains(&name));
    let unknown = fields.keys().filter(|name| !known(name));
    faults.extend(unknown.map(|name| format!("{name} is no attribute of {what}")));
}

fn descend(name: &str, value: &Value, faults: &mut Vec<String>) {
    if let Some((_, allowed)) = ENUMS.iter().find(|(known, _)| *known == name)
        && !value.as_u64().is_some_and(|number| allowed.contains(&number))
    {
        faults.push(format!("{name} is {value}"));
    }
    if matches!(
        name,
        "time" | "start_time" | "end_time" | "created_time" | "modified_time"
    ) && !value.is_u64()
    {
        faults.push(format!("{name} is no number of milliseconds"));
    }
    match value {
        Value::Object(fields) => {
            if let Some(object) = OBJECTS.iter().find(|object| object.name == name) {
                look(
                    name,
                    fields,
                    object.required,
                    object.one_of,
                    object.others,
                    faults,
                );
            }
            fields
                .iter()
                .for_each(|(name, value)| descend(name, value, faults));
        }
        Value::Array(items) => {
            let required = ELEMENTS
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, required)| *required);
            for item in items {
                if let (Some(fields), Some(required)) = (item.as_object(), required) {
                    let missing = required
                        .iter()
                        .filter(|attribute| !fields.contains_key(**attribute));
                    faults
                        .extend(missing.map(|attribute| format!("an element of {name} has no {attribute}")));
                }
                if let Value::Object(fields) = item {
                    fields
                        .iter()
                        .for_each(|(name, value)| descend(name, value, faults));
                }
            }
        }
        _ => {}
    }
}
