//! What `/proc` tells of the process itself.

use std::io;

use serde_json::{Value, json};

use super::{collect::Collection, redact};
use crate::host::proc::ProcDir;

/// Longest argument list and environment that are read.
const TEXT_MAX: u64 = 1 << 20;

/// Most threads that are looked at.
const THREADS_MAX: usize = 4_096;

/// Files that are taken as they are, and how much of each. None of them has arguments or environment in it.
const FILES: [(&str, u64); 10] = [
    ("status", 64 << 10),
    ("stat", 4 << 10),
    ("limits", 16 << 10),
    ("cgroup", 64 << 10),
    ("loginuid", 64),
    ("sessionid", 64),
    ("uid_map", 16 << 10),
    ("gid_map", 16 << 10),
    ("maps", 16 << 20),
    ("mountinfo", 4 << 20),
];

/// The kernel's names for namespaces.
const NAMESPACES: [&str; 8] = ["mnt", "pid", "net", "user", "uts", "ipc", "cgroup", "time"];

/// The files of [`FILES`], as `proc/…`.
pub(super) fn files(collection: &mut Collection) -> io::Result<()> {
    for (file, limit) in FILES {
        collection.step(file)?;
        let content = read(&collection.process, file, limit);
        collection.text(&format!("proc/{file}"), content)?;
    }
    collection.step("namespaces")?;
    let namespaces: serde_json::Map<String, Value> = NAMESPACES
        .iter()
        .filter_map(|name| {
            let link = collection.process.link(&format!("ns/{name}")).ok()?;
            Some(((*name).to_owned(), lossy(&link).into()))
        })
        .collect();
    let links =
        ["exe", "cwd", "root"].map(|name| collection.process.link(name).map(|link| lossy(&link)).ok());
    let [executable, directory, root] = links;
    collection.json(
        "process.json",
        &json!({ "executable": executable, "directory": directory, "root": root, "namespaces": namespaces }),
    )
}

/// Arguments and environment, without their secrets.
pub(super) fn texts(collection: &mut Collection) -> io::Result<()> {
    collection.step("arguments")?;
    let arguments = read(&collection.process, "cmdline", TEXT_MAX).map(|(bytes, truncated)| {
        let arguments = redact::arguments(&words(&bytes));
        (list(&arguments), truncated)
    });
    collection.text("arguments.json", arguments)?;
    collection.step("environment")?;
    let environment = read(&collection.process, "environ", TEXT_MAX).map(|(bytes, truncated)| {
        let variables: Vec<Vec<u8>> = words(&bytes).into_iter().map(redact::variable).collect();
        (list(&variables), truncated)
    });
    collection.text("environment.json", environment)
}

/// Its threads, with what each is waiting for.
pub(super) fn threads(collection: &mut Collection) -> io::Result<()> {
    collection.step("threads")?;
    let process = &collection.process;
    let ids = match process.numbers("task", THREADS_MAX) {
        Ok(ids) => ids,
        Err(error) => return collection.lacks("threads.jsonl", &error),
    };
    let threads = ids.iter().map(|id| {
        let read = |file: &str| {
            let bytes = process.read(&format!("task/{id}/{file}"), 4_096).ok()?;
            Some(lossy(bytes.trim_ascii_end()))
        };
        json!({ "id": id, "name": read("comm"), "call": read("syscall"), "waits_in": read("wchan") })
    });
    let lines = lines(threads);
    let all = (ids.len() >= THREADS_MAX).then(|| format!("the first {THREADS_MAX} threads"));
    collection.text("threads.jsonl", Ok((lines, all)))
}

/// One more byte than the limit tells that there is more.
pub(super) fn read(process: &ProcDir, file: &str, limit: u64) -> io::Result<(Vec<u8>, Option<String>)> {
    let mut content = process.read(file, limit + 1)?;
    let cut = content.len() as u64 > limit;
    content.truncate(limit as usize);
    Ok((content, cut.then(|| format!("the first {limit} bytes"))))
}

/// The arguments of the process in `process`, without their secrets.
pub(super) fn arguments(process: &ProcDir, limit: u64) -> Vec<String> {
    let bytes = process.read("cmdline", limit).unwrap_or_default();
    let arguments = redact::arguments(&words(&bytes));
    arguments.iter().map(|argument| lossy(argument)).collect()
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One JSON value a line.
pub(super) fn lines(values: impl Iterator<Item = Value>) -> Vec<u8> {
    let mut lines = Vec::new();
    for value in values {
        lines.extend(value.to_string().into_bytes());
        lines.push(b'\n');
    }
    lines
}

fn words(bytes: &[u8]) -> Vec<&[u8]> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).collect()
}

fn list(texts: &[Vec<u8>]) -> Vec<u8> {
    let texts: Vec<String> = texts.iter().map(|text| lossy(text)).collect();
    serde_json::to_vec_pretty(&texts).unwrap_or_default()
}
