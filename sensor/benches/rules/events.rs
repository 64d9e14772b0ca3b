//! Events as a busy host shows them.

use std::{net::SocketAddr, sync::Arc};

use sensor::{
    capture::calls::Call,
    host::{
        Body, Credentials, Event, Exec, Exit, Flow, Image, Namespaces, Operation, Process, ProcessId, Thread,
        Workload, dns::DnsMessage,
    },
    time::{BootTime, WallTime},
};
use sensor_common::Signal;

/// What is done to files, of each ten operations on them.
const CALLS: [(&str, u32, Signal); 10] = [
    ("openat", 257, Signal::FileOpen),
    ("openat", 257, Signal::FileOpen),
    ("openat", 257, Signal::FileOpen),
    ("openat", 257, Signal::FileOpen),
    ("openat", 257, Signal::FileCreate),
    ("openat", 257, Signal::FileCreate),
    ("rename", 82, Signal::FileRename),
    ("unlink", 87, Signal::FileUnlink),
    ("chmod", 90, Signal::FileChmod),
    ("mprotect", 10, Signal::ExecMemory),
];

const PROGRAMS: [(&str, &str); 8] = [
    (
        "/usr/bin/rustc",
        "rustc --crate-name serde --edition=2021 /root/.cargo/registry/src/serde-1.0.229/src/lib.rs --error-format=json \
      --crate-type lib --emit=dep-info,metadata,link -C opt-level=3 -C metadata=5b3e -C extra-filename=-5b3e --out-dir /w/target/release/deps",
    ),
    (
        "/usr/bin/x86_64-linux-gnu-gcc-12",
        "cc -m64 /tmp/rustcXyZ/symbols.o -Wl,--as-needed -Wl,-Bstatic -lgcc_s -lutil -lrt -lpthread -o /w/target/release/x",
    ),
    (
        "/usr/bin/git",
        "git -c core.quotepath=off status --porcelain=v2 --branch",
    ),
    ("/usr/bin/dash", "sh -c test -f Makefile && make -j2 all"),
    (
        "/usr/bin/python3.11",
        "python3 -m pip install --no-deps -r requirements.txt",
    ),
    ("/usr/sbin/sshd", "sshd: alice [priv]"),
    ("/usr/bin/sed", "sed -n s/^version *= *//p Cargo.toml"),
    (
        "/usr/bin/curl",
        "curl -sS -o /dev/null https://api.example.org/v1/health",
    ),
];

/// `count` events: files most of all, then the lives of programs, then the network.
pub(crate) fn of_a_busy_host(count: usize) -> Vec<Arc<Event>> {
    (0..count).map(|number| Arc::new(event(number))).collect()
}

fn event(number: usize) -> Event {
    let process = process(number);
    let body = match number % 20 {
        0..12 => operation(number),
        12 | 13 => Body::Exec(Exec::default()),
        14 | 15 => Body::Fork,
        16 | 17 => Body::Exit(Exit::Code(0)),
        18 => Body::Connect(flow(number)),
        _ => Body::Dns(flow(number), Box::new(question(number))),
    };
    Event {
        time: BootTime(number as u64),
        wall: WallTime(number as u64),
        cpu: 0,
        process: Some(Arc::new(process)),
        parent: Some(Arc::new(self::process(3))),
        thread: Thread::default(),
        body,
    }
}

fn process(number: usize) -> Process {
    let (executable, args) = PROGRAMS[number % PROGRAMS.len()];
    Process {
        id: ProcessId {
            tgid: number as u32,
            start: BootTime(1),
        },
        parent: None,
        image: Arc::new(Image {
            executable: executable.as_bytes().into(),
            args: format!("{args} {number}").replace(' ', "\0").into_bytes().into(),
            cwd: b"/home/alice/src/project"[..].into(),
            ..Image::default()
        }),
        credentials: Credentials::default(),
        workload: Arc::new(Workload {
            name: "session:user@1000".into(),
            ..Workload::default()
        }),
        namespaces: Namespaces::default(),
        kernel_thread: false,
    }
}

fn operation(number: usize) -> Body {
    let (_, call, signal) = CALLS[number / 20 % CALLS.len()];
    let path = match number % 4 {
        0 => format!("/home/alice/src/project/target/release/deps/libserde-{number:x}.rmeta"),
        1 => format!("/var/lib/app/cache/{number:x}/data.bin"),
        2 => format!("/tmp/rustc{number:x}/symbols.o"),
        _ => format!("/home/alice/.cache/tool/{number}"),
    };
    Body::Operation(Box::new(Operation {
        result: 3,
        values: [0o102; sensor_common::call::VALUES],
        target: format!("{path}.new").into_bytes().into(),
        path: path.into_bytes().into(),
        ..Operation::of(signal, Call::of(call).expect("it is in the table"))
    }))
}

fn flow(number: usize) -> Flow {
    let end = |last: u8, port: u16| SocketAddr::from(([10, 0, 0, last], port));
    Flow {
        id: number as u64,
        local: end(1, 40_000),
        remote: end((number % 200) as u8, 443),
        remote_name: Some("api.example.org".into()),
        inbound: false,
        established: false,
        listener: false,
    }
}

fn question(number: usize) -> DnsMessage {
    DnsMessage {
        name: format!("host{number}.example.org").into(),
        kind: "A".into(),
        ..DnsMessage::default()
    }
}
