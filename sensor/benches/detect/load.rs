//! Events as a host has them.

use std::sync::Arc;

use sensor::{
    capture::calls::CALLS,
    host::{
        Body, Credentials, Event, Exec, Exit, Flow, FlowTotals, Image, Limits, Namespaces, Operation,
        Process, ProcessId, Thread, Tree, Workload,
    },
    time::{BootTime, WallTime},
};
use sensor_common::Signal;

pub(crate) const MIXTURE: &str = "mixture";

pub(crate) struct Load {
    pub(crate) processes: Tree,
    running: Vec<Arc<Process>>,
    what: fn(usize) -> (usize, Body),
}

/// Microseconds between two events.
const PACE: u64 = 10;

pub(crate) fn all() -> Vec<(&'static str, Load)> {
    vec![
        (
            "open_one_directory",
            load(|index| operation(index % 4, &format!("/var/lib/app/data/{index}.tmp"))),
        ),
        (
            "open_many_directories",
            load(|index| operation(index % 4, &format!("/srv/{}/{}/{index}", index % 199, index % 7))),
        ),
        (
            "open_new_directories",
            load(|index| operation(index % 4, &format!("/srv/a{index:x}/b/c{index:x}/file"))),
        ),
        ("connect", load(connect)),
        (MIXTURE, load(mixed)),
    ]
}

fn load(what: fn(usize) -> (usize, Body)) -> Load {
    Load {
        processes: Tree::new(Limits::default()),
        running: (0..SERVICES.len()).map(process).collect(),
        what,
    }
}

impl Load {
    /// The event of this number.
    pub(crate) fn event(&self, index: usize) -> Arc<Event> {
        let (service, body) = (self.what)(index);
        let time = 1_000_000_000_000 + index as u64 * PACE * 1_000;
        Arc::new(Event {
            time: BootTime(time),
            wall: WallTime(1_800_000_000_000_000_000 + time),
            cpu: 0,
            process: Some(Arc::clone(&self.running[service])),
            parent: Some(Arc::clone(&self.running[0])),
            thread: Thread::default(),
            body,
        })
    }
}

/// Six opens, two connections with their ends, a program from beginning to end of every twelve events.
fn mixed(index: usize) -> (usize, Body) {
    let service = index % SERVICES.len();
    match index % 12 {
        0 => (service, Body::Fork),
        1 => (service, Body::Exec(Exec::default())),
        2 => (service, Body::Exit(Exit::Code(0))),
        3 | 4 => connect(index),
        5 => {
            let (_, Body::Connect(flow)) = connect(index) else {
                unreachable!("it connects")
            };
            (
                service,
                Body::FlowClose(
                    flow,
                    FlowTotals {
                        bytes_sent: 4_000,
                        ..FlowTotals::default()
                    },
                ),
            )
        }
        6 | 7 => operation(service, &format!("/srv/{}/x/{index}", index % 53)),
        8 => operation(service, &format!("/etc/app/{index}")),
        9 => operation(service, &format!("/home/alice/work/src/{index}.rs")),
        _ => operation(service, &format!("/tmp/{index}")),
    }
}

fn connect(index: usize) -> (usize, Body) {
    let flow = Flow {
        id: index as u64,
        local: ([10, 0, 0, 1], 40_000).into(),
        remote: ([10, 0, (index % 5) as u8, (index % 250) as u8], 5432).into(),
        remote_name: None,
        inbound: false,
        established: true,
        listener: false,
    };
    (index % 4, Body::Connect(flow))
}

fn operation(service: usize, path: &str) -> (usize, Body) {
    let call = CALLS.iter().find(|call| call.signal == Signal::FileOpen);
    let body = Body::Operation(Box::new(Operation {
        result: 3,
        values: [0x241; 8],
        path: path.as_bytes().into(),
        ..Operation::of(Signal::FileOpen, call.expect("files are opened"))
    }));
    (service, body)
}

const SERVICES: [(&str, &str); 4] = [
    ("unit:nginx.service", "/usr/sbin/nginx"),
    ("unit:postgresql@.service", "/usr/lib/postgresql/15/bin/postgres"),
    ("session:1000", "/usr/bin/bash"),
    ("host", "/usr/bin/dpkg"),
];

fn process(service: usize) -> Arc<Process> {
    let (workload, executable) = SERVICES[service];
    Arc::new(Process {
        id: ProcessId {
            tgid: 100 + service as u32,
            start: BootTime(service as u64),
        },
        parent: None,
        image: Arc::new(Image {
            executable: executable.as_bytes().into(),
            ..Image::default()
        }),
        credentials: Credentials {
            login_uid: (service == 2).then_some(1_000),
            session_id: (service == 2).then_some(3),
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
