//! Entries become rows and entries again; cells are what their columns say.

use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::UInt64Type,
};
use prost::Message as _;
use sensor_proto::v1::{
    Accept, Action, ActionKind, Batch, Bind, Connect, Credential, Credentials, Dns, Entry, Event, Exec, Exit,
    FlowClose, Fork, Incident, Listen, Loss, Operation, Outcome, Process, ProcessId, Result, Sequence,
    Session, Severity, Signal, TlsHello, Tuple, UdpFlow, entry, event,
};

use super::{
    COLUMNS, Cell, Class, Kind, Row, Source,
    entry::put_together,
    rows::{Builder, Layout, all_fields},
};
use crate::store::{Position, StoredBatch};

/// An event of every kind.
fn bodies() -> Vec<event::Body> {
    let tuple = Some(Tuple {
        local_address: "10.0.0.1".into(),
        remote_address: "192.0.2.1".into(),
        remote_name: "example.org".into(),
        ..Tuple::default()
    });
    vec![
        event::Body::Exec(Exec {
            filename: "x".into(),
            variables: vec!["LD_PRELOAD=/x".into()],
            ..Exec::default()
        }),
        event::Body::Fork(Fork {}),
        event::Body::Exit(Exit {
            code: Some(1),
            signal: Some(9),
            ..Exit::default()
        }),
        event::Body::Connect(Connect {
            tuple: tuple.clone(),
            ..Connect::default()
        }),
        event::Body::Accept(Accept::default()),
        event::Body::Listen(Listen {
            address: "::".into(),
            port: 80,
            ..Listen::default()
        }),
        event::Body::Bind(Bind {
            address: "::".into(),
            ..Bind::default()
        }),
        event::Body::FlowClose(FlowClose {
            tuple: tuple.clone(),
            duration_ns: Some(u64::MAX),
            ..FlowClose::default()
        }),
        event::Body::FlowReport(FlowClose::default()),
        event::Body::UdpFlow(UdpFlow {
            tuple,
            ..UdpFlow::default()
        }),
        event::Body::Dns(Dns {
            name: "example.org".into(),
            r#type: "A".into(),
            code: "NOERROR".into(),
            answers: vec!["192.0.2.1".into()],
            ..Dns::default()
        }),
        event::Body::TlsHello(TlsHello {
            server_name: "example.org".into(),
            ja4: "t13".into(),
            ..TlsHello::default()
        }),
        event::Body::Operation(Operation {
            signal: "file_open".into(),
            call: "openat".into(),
            result: -2,
            path: "/etc/shadow".into(),
            target: "/x".into(),
            inode: 1,
            mode: 2,
            ..Operation::default()
        }),
        event::Body::Credential(Credential {
            before: Some(Credentials::default()),
            after: Some(Credentials::default()),
            gained: vec!["CAP_SYS_ADMIN".into()],
            ..Credential::default()
        }),
        event::Body::Session(Session {
            signal: "login".into(),
            user: "root".into(),
            uid: Some(0),
            ..Session::default()
        }),
        event::Body::Sequence(Sequence {
            calls: vec!["open".into(), "read".into()],
            ..Sequence::default()
        }),
    ]
}

fn process(tgid: u32) -> Process {
    Process {
        id: Some(ProcessId {
            tgid,
            start_time_ns: 7,
        }),
        parent_id: Some(ProcessId::default()),
        executable: format!("/bin/{tgid}"),
        args: vec!["a".into(), "b c".into()],
        user: "root".into(),
        login_uid: Some(1000),
        ..Process::default()
    }
}

/// Events with a process of their own, with one that they share, and with none; and everything that is no event.
fn batch() -> Batch {
    let event = |(number, body)| {
        let mut event = Event {
            time_ns: 1000 - number as u64,
            boot_time_ns: 5,
            body: Some(body),
            ..Event::default()
        };
        match number % 3 {
            0 => {
                event.process_ref = number as u32 % 2 + 1;
                event.comm = "worker".into();
                event.tid = 3;
            }
            1 => {
                event.process = Some(Process {
                    comm: "own".into(),
                    tid: 4,
                    ..process(30)
                });
            }
            _ => {}
        }
        entry::Body::Event(event)
    };
    let finding = Signal {
        subject: "nginx".into(),
        source: "lineage".into(),
        p_value: 1e-9,
        reasons: vec!["Because.".into()],
        event: Some(Event {
            process: Some(process(40)),
            ..Event::default()
        }),
        ..Signal::default()
    };
    let incident = Incident {
        id: "abc".into(),
        severity: Severity::High.into(),
        process: Some(process(50)),
        updated_ns: 9,
        ..Incident::default()
    };
    let outcome = Outcome {
        action: Some(Action {
            kind: ActionKind::KillTree.into(),
            target: Some(ProcessId::default()),
            ..Action::default()
        }),
        result: Result::Done.into(),
        ..Outcome::default()
    };
    let loss = Loss {
        stage: "ring".into(),
        count: 3,
        ..Loss::default()
    };
    let others = [
        entry::Body::Signal(finding),
        entry::Body::Incident(incident),
        entry::Body::Outcome(outcome),
        entry::Body::Loss(loss),
    ];
    let bodies = bodies().into_iter().enumerate().map(event).chain(others);
    let entry = |body| Entry {
        host: String::new(),
        body: Some(body),
    };
    Batch {
        sequence: 1,
        entries: bodies.map(entry).collect(),
        processes: vec![process(10), process(20)],
    }
}

fn stored(batch: &Batch) -> StoredBatch {
    StoredBatch {
        position: Position(100),
        host: "web1".into(),
        received_ns: 1,
        entries: batch.entries.len() as u64,
        body: batch.encode_to_vec(),
    }
}

fn entries(rows: &RecordBatch) -> Vec<(u64, Entry)> {
    let column = |name: &str| rows.column_by_name(name).expect("has it");
    let positions = column("position").as_primitive::<UInt64Type>();
    let (encoded, processes) = (
        column("entry").as_binary_view(),
        column("entry_process").as_binary_view(),
    );
    let row = |row| {
        let process = (!processes.is_null(row)).then(|| processes.value(row));
        let entry = put_together("web1", encoded.value(row), process).expect("reads");
        (positions.value(row), entry)
    };
    (0..rows.num_rows()).map(row).collect()
}

#[test]
fn rows_are_entries_again() {
    let batch = batch();
    let expected: Vec<_> = (100..).zip(batch.clone().into_complete("web1")).collect();
    for layout in [Layout::ByClass, Layout::Together(all_fields())] {
        let mut rows = Builder::new(layout);
        rows.push(&stored(&batch), Position(0)).expect("reads");
        let mut found: Vec<_> = rows
            .finish()
            .expect("fits")
            .iter()
            .flat_map(|table| entries(&table.rows))
            .collect();
        found.sort_by_key(|(position, _)| *position);
        assert_eq!(found, expected);
    }
}

#[test]
fn files_are_sorted_by_host_and_time() {
    let mut rows = Builder::new(Layout::ByClass);
    for host in ["b", "a"] {
        let stored = StoredBatch {
            host: host.into(),
            ..stored(&batch())
        };
        rows.push(&stored, Position(0)).expect("reads");
    }
    for table in rows.finish().expect("fits") {
        let hosts = table
            .rows
            .column_by_name("host")
            .expect("has it")
            .as_string_view();
        let times = table.rows.column_by_name("time").expect("has it");
        let times = times.as_primitive::<arrow::datatypes::TimestampNanosecondType>();
        let keys: Vec<_> = (0..table.rows.num_rows())
            .map(|row| (hosts.value(row), times.value(row)))
            .collect();
        assert!(keys.is_sorted(), "{:?}: {keys:?}", table.class);
    }
}

#[test]
fn what_is_before_a_position_is_left_out() {
    let mut rows = Builder::new(Layout::Together(all_fields()));
    rows.push(&stored(&batch()), Position(105)).expect("reads");
    let table = rows.finish().expect("fits").remove(0);
    assert_eq!(entries(&table.rows)[0].0, 105);
}

#[test]
fn cells_are_of_their_columns_kind_and_class() {
    let whole: Vec<Entry> = batch().into_complete("web1").collect();
    let mut seen = std::collections::HashSet::new();
    for entry in &whole {
        let row = Row::new("web1", entry);
        for column in COLUMNS {
            let cell = match column.source {
                Source::Entry(get) => get(&row),
                Source::Process(get) => match row.event.and_then(|event| event.process.as_ref()) {
                    Some(process) => get(process),
                    None => Cell::Null,
                },
                _ => continue,
            };
            let fits = match (&cell, column.kind) {
                (Cell::Null, _) => continue,
                (Cell::Text(_), kind) => kind == Kind::Text,
                (Cell::Number(_), kind) => matches!(kind, Kind::Number | Kind::Long | Kind::Time),
                (Cell::Signed(_), kind) => kind == Kind::Signed,
                (Cell::Real(_), kind) => kind == Kind::Real,
                (Cell::Flag(_), kind) => kind == Kind::Flag,
            };
            assert!(fits, "{} is {cell:?}", column.name);
            assert!(column.is_in(row.class()), "{} in {:?}", column.name, row.class());
            seen.insert(column.name);
        }
    }
    assert!(seen.len() > 55, "{}", seen.len());
    assert!(Class::ALL.len() > 10);
}
