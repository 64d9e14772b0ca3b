//! Events as a busy host has them: services that work on their files and talk to others, and builds that start programs. Times, ids, ports,
//! names and sizes vary as they do on a host; nothing is there twice only because it was easier to make.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sensor::{
    capture::calls::Call,
    export::Entry,
    host::{
        Body, Credentials, Event, Exec, Exit, FileId, Flow, FlowTotals, Image, Namespaces, Operation,
        Process, ProcessId, Thread, Workload, dns::DnsMessage,
    },
    time::{BootTime, WallTime},
};
use sensor_common::Signal;

/// What is done to files: name and number of the call, signal, and how often of 16.
const CALLS: [(u32, Signal, u64); 6] = [
    (257, Signal::FileOpen, 9),
    (257, Signal::FileCreate, 2),
    (87, Signal::FileUnlink, 2),
    (82, Signal::FileRename, 1),
    (90, Signal::FileChmod, 1),
    (77, Signal::FileTruncate, 1),
];

const SERVICES: [(&str, &str, &str); 6] = [
    ("/usr/sbin/nginx", "nginx: worker process", "/var/log/nginx"),
    (
        "/usr/lib/postgresql/15/bin/postgres",
        "postgres: app app 10.0.3.7(51234) idle",
        "/var/lib/postgresql/15/main/base/16384",
    ),
    (
        "/usr/bin/python3.11",
        "/usr/bin/python3 /srv/app/worker.py --queue default",
        "/srv/app/cache",
    ),
    (
        "/usr/bin/redis-server",
        "redis-server 127.0.0.1:6379",
        "/var/lib/redis",
    ),
    ("/usr/sbin/rsyslogd", "/usr/sbin/rsyslogd -n -iNONE", "/var/log"),
    (
        "/opt/shop/bin/server",
        "/opt/shop/bin/server --config /etc/shop.toml",
        "/var/lib/shop/sessions",
    ),
];

const TOOLS: [(&str, &str); 5] = [
    (
        "/usr/bin/x86_64-linux-gnu-gcc-12",
        "gcc -O2 -Wall -Iinclude -c -o build/obj/%.o src/%.c",
    ),
    ("/usr/bin/dash", "/bin/sh -c test -f build/%.d && cat build/%.d"),
    ("/usr/bin/git", "git -C /home/alice/project status --porcelain %"),
    ("/usr/bin/sed", "sed -n s/^%: *//p /home/alice/project/versions"),
    (
        "/usr/bin/curl",
        "curl -sS -o /dev/null https://api.example.org/v1/items/%",
    ),
];

/// Programs of builds that run at once.
const RUNNING: usize = 24;

/// `count` events.
pub(crate) fn of_a_busy_host(count: usize) -> Vec<Entry> {
    let mut host = Host::new();
    (0..count).map(|_| Entry::Event(Arc::new(host.event()))).collect()
}

struct Host {
    noise: Noise,
    time: u64,
    next_tgid: u32,
    services: Vec<(Arc<Process>, &'static str)>,
    shell: Arc<Process>,
    /// What a build runs, and what is still to come of it.
    running: Vec<(Arc<Process>, Vec<Body>)>,
    flows: u64,
}

/// xorshift64: the same events each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

impl Host {
    fn new() -> Self {
        let services = SERVICES
            .iter()
            .zip(700..)
            .map(|((executable, args, folder), tgid)| {
                let unit = executable.rsplit('/').next().unwrap_or_default();
                let process = process(tgid, 1, executable, args, &format!("unit:{unit}.service"), 33);
                (Arc::new(process), *folder)
            });
        Self {
            noise: Noise(0x5eed),
            time: 86_400_000_000_000,
            next_tgid: 20_000,
            services: services.collect(),
            shell: Arc::new(process(
                4_711,
                1,
                "/usr/bin/make",
                "make -j8 all",
                "session:alice",
                1000,
            )),
            running: Vec::new(),
            flows: 1 << 20,
        }
    }

    fn event(&mut self) -> Event {
        // Some ten thousand events a second, in bursts.
        self.time += if self.noise.below(20) == 0 {
            self.noise.below(2_000_000)
        } else {
            1_000 + self.noise.below(40_000)
        };
        let (process, parent, body) = if self.noise.below(100) < 55 {
            self.of_a_build()
        } else {
            self.of_a_service()
        };
        let comm = process
            .image
            .executable
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        let mut thread = Thread {
            tid: process.id.tgid,
            ..Thread::default()
        };
        let length = comm.len().min(15);
        thread.comm[..length].copy_from_slice(&comm[..length]);
        Event {
            time: BootTime(self.time),
            wall: WallTime(1_800_000_000_123_456_789 + self.time),
            cpu: self.noise.below(8) as u16,
            process: Some(process),
            parent,
            thread,
            body,
        }
    }

    fn of_a_build(&mut self) -> (Arc<Process>, Option<Arc<Process>>, Body) {
        let parent = Some(Arc::clone(&self.shell));
        if self.running.len() < RUNNING {
            let process = self.begin();
            return (process, parent, Body::Fork);
        }
        let at = self.noise.below(RUNNING as u64) as usize;
        let (process, rest) = &mut self.running[at];
        let process = Arc::clone(process);
        match rest.pop() {
            Some(body) => (process, parent, body),
            None => {
                self.running.swap_remove(at);
                (
                    process,
                    parent,
                    Body::Exit(Exit::Code(u8::from(self.noise.below(50) == 0))),
                )
            }
        }
    }

    /// A program that opens what it needs, writes something and ends.
    fn begin(&mut self) -> Arc<Process> {
        self.next_tgid += 1 + self.noise.below(3) as u32;
        let (executable, args) = TOOLS[self.noise.below(TOOLS.len() as u64) as usize];
        let what = format!("module_{:x}", self.noise.below(1 << 20));
        let args = args.replace('%', &what);
        let mut process = process(self.next_tgid, 4_711, executable, &args, "session:alice", 1000);
        process.id.start = BootTime(self.time);
        let mut rest = Vec::new();
        for _ in 0..4 + self.noise.below(10) {
            let path = match self.noise.below(3) {
                0 => format!("/home/alice/project/build/obj/{what}.o"),
                1 => format!("/tmp/cc{:06x}.s", self.noise.below(1 << 24)),
                _ => format!("/home/alice/project/include/part{}.h", self.noise.below(300)),
            };
            rest.push(self.operation(path));
        }
        rest.push(Body::Exec(Exec {
            filename: executable.as_bytes().into(),
            ..Exec::default()
        }));
        let process = Arc::new(process);
        self.running.push((Arc::clone(&process), rest));
        process
    }

    fn of_a_service(&mut self) -> (Arc<Process>, Option<Arc<Process>>, Body) {
        let (process, folder) = self.services[self.noise.below(SERVICES.len() as u64) as usize].clone();
        let body = match self.noise.below(100) {
            0..55 => {
                let path = match self.noise.below(4) {
                    0 => format!("{folder}/{:016x}", self.noise.next()),
                    1 => format!("{folder}/access.log"),
                    _ => format!(
                        "{folder}/part-{}/{}",
                        self.noise.below(64),
                        self.noise.below(10_000)
                    ),
                };
                self.operation(path)
            }
            55..70 => Body::Connect(self.flow(false)),
            70..85 => {
                let flow = self.flow(true);
                Body::FlowClose(flow, self.totals())
            }
            85..92 => Body::Accept(self.flow(true)),
            _ => {
                let question = DnsMessage {
                    id: self.noise.next() as u16,
                    name: format!("svc-{}.internal.example.org", self.noise.below(400)).into(),
                    kind: "A".into(),
                    ..DnsMessage::default()
                };
                Body::Dns(self.flow(false), Box::new(question))
            }
        };
        (process, None, body)
    }

    fn operation(&mut self, path: String) -> Body {
        let mut pick = self.noise.below(16);
        let (call, signal, _) = CALLS
            .into_iter()
            .find(|(_, _, share)| {
                let is_it = pick < *share;
                pick = pick.wrapping_sub(*share);
                is_it
            })
            .unwrap_or(CALLS[0]);
        let target = if signal == Signal::FileRename {
            format!("{path}.old")
        } else {
            String::new()
        };
        Body::Operation(Box::new(Operation {
            result: 3 + self.noise.below(60) as i64,
            values: [0o102; sensor_common::call::VALUES],
            target: target.into_bytes().into(),
            path: path.into_bytes().into(),
            file: Some(FileId {
                inode: 1_000_000 + self.noise.below(8_000_000),
                device: 8 << 20 | 1,
                mode: 0o100_644,
            }),
            ..Operation::of(signal, Call::of(call).expect("it is in the table"))
        }))
    }

    fn flow(&mut self, inbound: bool) -> Flow {
        self.flows += 1 + self.noise.below(3);
        let ephemeral = 32_768 + self.noise.below(28_000) as u16;
        let other = [10, 0, self.noise.below(4) as u8, self.noise.below(250) as u8];
        let (here, there) = if inbound {
            (443, ephemeral)
        } else {
            (ephemeral, 5432)
        };
        Flow {
            id: self.flows,
            local: SocketAddr::from(([10, 0, 3, 7], here)),
            remote: SocketAddr::from((other, there)),
            remote_name: (!inbound).then(|| format!("svc-{}.internal.example.org", other[3]).into()),
            inbound,
            established: true,
            listener: false,
        }
    }

    fn totals(&mut self) -> FlowTotals {
        FlowTotals {
            duration: Some(Duration::from_nanos(100_000 + self.noise.below(90_000_000))),
            bytes_sent: 200 + self.noise.below(60_000),
            bytes_received: 100 + self.noise.below(4_000),
            segments_sent: 4 + self.noise.below(60) as u32,
            segments_received: 4 + self.noise.below(20) as u32,
            rtt: Duration::from_micros(80 + self.noise.below(900)),
            ..FlowTotals::default()
        }
    }
}

fn process(tgid: u32, parent: u32, executable: &str, args: &str, workload: &str, uid: u32) -> Process {
    let id = |tgid: u32| ProcessId {
        tgid,
        start: BootTime(u64::from(tgid) * 1_234_567),
    };
    let args = args.replace(' ', "\0") + "\0";
    Process {
        id: id(tgid),
        parent: Some(id(parent)),
        image: Arc::new(Image {
            executable: executable.as_bytes().into(),
            args_total: args.len() as u64,
            args: args.into_bytes().into(),
            cwd: b"/home/alice/project"[..].into(),
            inode: 131_072 + u64::from(tgid % 97),
            device: 8 << 20 | 1,
        }),
        credentials: Credentials {
            uid,
            gid: uid,
            euid: uid,
            egid: uid,
            ..Credentials::default()
        },
        workload: Arc::new(Workload {
            name: workload.into(),
            ..Workload::default()
        }),
        namespaces: Namespaces::default(),
        kernel_thread: false,
    }
}
