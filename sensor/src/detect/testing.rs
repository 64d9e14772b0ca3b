//! What the tests of detection make events of.

use std::sync::Arc;

use sensor_common::Signal;

use crate::{
    capture::calls::{CALLS, Call},
    host::{Credentials, Image, Namespaces, Operation, Process, ProcessId, Session, Source, Workload},
    time::BootTime,
};

/// A process of `workload` that runs `executable` for the user who logged in, if somebody did.
pub(crate) fn process(workload: &str, executable: &str, login_uid: Option<u32>) -> Arc<Process> {
    Arc::new(Process {
        id: ProcessId {
            tgid: 100,
            start: BootTime(1),
        },
        parent: None,
        image: Arc::new(Image {
            executable: executable.as_bytes().into(),
            ..Image::default()
        }),
        credentials: Credentials {
            login_uid,
            session_id: login_uid.map(|user| user + 1),
            ..Credentials::default()
        },
        workload: Arc::new(Workload {
            name: workload.into(),
            ..Workload::default()
        }),
        namespaces: Namespaces::default(),
        kernel_thread: false,
    })
}

/// An operation on the file `path`, with all arguments 1.
pub(crate) fn operation(signal: Signal, path: &str) -> Operation {
    Operation {
        values: [1; 8],
        path: path.as_bytes().into(),
        ..Operation::of(signal, call(signal))
    }
}

/// A call that says `signal`.
pub(crate) fn call(signal: Signal) -> &'static Call {
    let call = CALLS.iter().find(|call| call.signal == signal);
    call.expect("every operation has a call")
}

/// Somebody's coming, or failing to.
pub(crate) fn session(signal: Signal, user: &str, remote: &str) -> Session {
    Session {
        signal,
        user: user.into(),
        uid: None,
        from_uid: None,
        terminal: Box::default(),
        remote: remote.into(),
        program: "sshd".into(),
        source: Source::Utmp,
    }
}
