//! Sessions, for the wire.

use sensor_proto::v1;

use crate::host::Session;

pub(super) fn convert(session: &Session) -> v1::Session {
    let Session {
        signal,
        user,
        uid,
        from_uid,
        terminal,
        remote,
        program,
        source,
    } = session;
    v1::Session {
        signal: signal.name().to_owned(),
        user: user.to_string(),
        uid: *uid,
        from_uid: *from_uid,
        terminal: terminal.to_string(),
        remote: remote.to_string(),
        program: program.to_string(),
        source: source.name().to_owned(),
    }
}

#[cfg(test)]
pub(super) fn example(signal: sensor_common::Signal) -> Session {
    Session {
        signal,
        user: "root".into(),
        uid: Some(0),
        from_uid: Some(1000),
        terminal: "pts/0".into(),
        remote: "".into(),
        program: "/usr/bin/su".into(),
        source: crate::host::Source::Audit,
    }
}
