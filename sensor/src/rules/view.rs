//! An event as rules see it: with Sigma's names for its fields.
//!
//! What takes work, as a command line, is put together when the first rule asks for it, and kept.

use std::{borrow::Cow, cell::OnceCell, net::SocketAddr};

use super::{
    Fields, Value,
    field::{self, FIELDS},
};
use crate::{
    export::Users,
    host::{Body, Credentials, Event, Exec, Flow, Image, Operation, Process, Session, Tree},
};

/// How far up ancestors are looked for.
const ANCESTORS: usize = 32;

/// An event, and what is known around it.
#[derive(Debug)]
pub struct View<'a> {
    pub(super) event: &'a Event,
    processes: Option<&'a Tree>,
    users: Option<&'a Users>,
    command_line: OnceCell<String>,
    parent_command_line: OnceCell<String>,
}

impl<'a> View<'a> {
    /// Of `event`, with the processes that it may descend from, and the names of users.
    #[must_use]
    pub fn new(event: &'a Event, processes: Option<&'a Tree>, users: Option<&'a Users>) -> Self {
        Self {
            event,
            processes,
            users,
            command_line: OnceCell::new(),
            parent_command_line: OnceCell::new(),
        }
    }

    pub(super) fn process(&self) -> Option<&Process> {
        self.event.process.as_deref()
    }

    pub(super) fn parent(&self) -> Option<&Process> {
        self.event.parent.as_deref()
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        Some(&self.process()?.credentials)
    }

    pub(super) fn exec(&self) -> Option<&Exec> {
        match &self.event.body {
            Body::Exec(exec) => Some(exec),
            _ => None,
        }
    }

    pub(super) fn operation(&self) -> Option<&Operation> {
        match &self.event.body {
            Body::Operation(operation) => Some(operation),
            _ => None,
        }
    }

    pub(super) fn session(&self) -> Option<&Session> {
        match &self.event.body {
            Body::Session(session) => Some(session),
            _ => None,
        }
    }

    pub(super) fn flow(&self) -> Option<&Flow> {
        self.event.body.flow()
    }

    /// Who began a flow, and with whom.
    pub(super) fn ends(&self) -> Option<[SocketAddr; 2]> {
        let flow = self.flow()?;
        Some(if flow.inbound {
            [flow.remote, flow.local]
        } else {
            [flow.local, flow.remote]
        })
    }

    /// The executable and, where it is another name, what was asked for: `/bin/sh` may be `dash`, and `/bin/wget` `busybox`.
    pub(super) fn image(&self) -> Option<Value<'_>> {
        let executable = &self.process()?.image.executable;
        if let Some(exec) = self.exec()
            && !exec.filename.is_empty()
            && last(&exec.filename) != last(executable)
        {
            let both = [executable, &exec.filename].map(|path| lossy(path));
            return Some(Value::List(both.into()));
        }
        text(executable)
    }

    pub(super) fn command_line(&self) -> Option<Value<'_>> {
        let image = &self.process()?.image;
        Some(borrowed(self.command_line.get_or_init(|| command_line(image))))
    }

    pub(super) fn parent_command_line(&self) -> Option<Value<'_>> {
        let image = &self.parent()?.image;
        Some(borrowed(
            self.parent_command_line.get_or_init(|| command_line(image)),
        ))
    }

    /// The executables of its ancestors, the parent first.
    pub(super) fn ancestors(&self) -> Option<Value<'_>> {
        let mut list = Vec::new();
        let mut next = self.parent().or_else(|| self.above(self.process()?));
        while let Some(process) = next
            && list.len() < ANCESTORS
        {
            list.push(lossy(&process.image.executable));
            next = self.above(process);
        }
        (!list.is_empty()).then_some(Value::List(list))
    }

    fn above(&self, process: &Process) -> Option<&Process> {
        self.processes?.get(process.parent?).map(|process| &**process)
    }

    /// A user by name; by number, where nobody knows it.
    pub(super) fn user(&self, uid: u32) -> Value<'static> {
        let name = match (self.users, uid) {
            (Some(users), _) => users.name(uid),
            (None, 0) => "root".to_owned(),
            (None, _) => String::new(),
        };
        let name = if name.is_empty() { uid.to_string() } else { name };
        Value::Text(Cow::Owned(name))
    }

    /// An argument of a call, by its name: for people where it is a name or a set of bits, else the number.
    pub(super) fn detail(&self, name: &str) -> Option<Value<'_>> {
        let operation = self.operation()?;
        let detail = operation.call.details.iter().find(|detail| detail.name == name)?;
        let number = operation.values[detail.value];
        let text = detail.show.text(number);
        Some(if text.is_empty() {
            Value::Number(number as i64)
        } else {
            Value::Text(text.into())
        })
    }
}

impl Fields for View<'_> {
    fn field(&self, name: &str) -> Option<Value<'_>> {
        field::by_name(name).and_then(|field| field.read(self))
    }

    fn is_program(&self) -> bool {
        self.exec().is_some()
    }

    fn texts(&self, show: &mut dyn FnMut(&str)) {
        for field in FIELDS {
            match field.read(self) {
                Some(Value::Text(text)) => show(&text),
                Some(Value::List(texts)) => texts.iter().for_each(|text| show(text)),
                _ => {}
            }
        }
    }
}

/// Bytes as text; nothing where there are none, which says that they could not be read.
pub(super) fn text(bytes: &[u8]) -> Option<Value<'_>> {
    (!bytes.is_empty()).then(|| Value::Text(lossy(bytes)))
}

/// Bytes as text, what is none replaced. Nearly all are text, which the check for it alone finds many times faster.
pub(super) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

pub(super) fn borrowed(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text))
}

/// What stands behind the last slash.
pub(super) fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The arguments with a blank between them, as people type them; nothing tells `a b` from `a` and `b`.
fn command_line(image: &Image) -> String {
    let args = image.args.strip_suffix(b"\0").unwrap_or(&image.args);
    let mut bytes = args.to_vec();
    for byte in &mut bytes {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
