//! As many events as a collector takes. They are like those of a host that is at work: files for the most part, some programs, some
//! connections, of some dozens of processes.

use std::{
    collections::VecDeque,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use prost::Message as _;
use sensor_proto::v1::{
    Batch, Entry, Event, Exec, Exit, FlowClose, Fork, Operation, Process, ProcessId, Tuple,
    deliver_response::Frame, entry, event,
};
use tokio::{task::JoinSet, time::timeout_at};

use crate::line::Line;

/// Entries in a batch.
pub(crate) const EACH: u64 = 512;

/// Different batches that are sent in turn.
const TEMPLATES: u64 = 64;

/// A process that there is on every host.
pub(crate) const A_PROCESS: &str = "1003@5000003";

/// One that is in one of the batches only.
pub(crate) const RARE_PROCESS: &str = "200007@9000007";

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) events: u64,
    pub(crate) elapsed: Duration,
    pub(crate) acks: Vec<Duration>,
}

impl Outcome {
    pub(crate) fn percentile(&self, part: f64) -> Duration {
        let mut acks = self.acks.clone();
        acks.sort_unstable();
        let at = ((acks.len() as f64 * part) as usize).min(acks.len().saturating_sub(1));
        acks.get(at).copied().unwrap_or_default()
    }
}

/// Batches without their number, encoded once: a number can be written before what there is.
static ENCODED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    (0..TEMPLATES)
        .map(|template| batch(template).encode_to_vec())
        .collect()
});

pub(crate) fn bytes_per_event() -> f64 {
    let bytes: usize = ENCODED.iter().map(Vec::len).sum();
    bytes as f64 / (TEMPLATES * EACH) as f64
}

/// What is delivered.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// From so many connections.
    pub(crate) connections: u32,
    /// So many events a second, all together; `None`: as many as are taken.
    pub(crate) rate: Option<f64>,
    /// Until this is over,
    pub(crate) time: Duration,
    /// or so many events are acknowledged.
    pub(crate) events: u64,
}

impl Load {
    /// When a connection may send what it sends behind `sent` batches.
    fn due(&self, begun: Instant, sent: u64) -> Instant {
        let gap = self
            .rate
            .map_or(0.0, |rate| EACH as f64 * f64::from(self.connections) / rate);
        begun + Duration::from_secs_f64(gap * sent as f64)
    }
}

/// Delivers it.
pub(crate) async fn run(url: &str, load: Load) -> anyhow::Result<Outcome> {
    LazyLock::force(&ENCODED);
    let begun = Instant::now();
    let left = Arc::new(AtomicU64::new(load.events.div_ceil(EACH)));
    let mut tasks = JoinSet::new();
    for number in 0..load.connections {
        let (url, left) = (url.to_owned(), Arc::clone(&left));
        tasks.spawn(async move { deliver(url, format!("host{number}"), begun, load, &left).await });
    }
    let mut outcome = Outcome::default();
    while let Some(task) = tasks.join_next().await {
        let acks = task??;
        outcome.events += acks.len() as u64 * EACH;
        outcome.acks.extend(acks);
    }
    outcome.elapsed = begun.elapsed();
    Ok(outcome)
}

async fn deliver(
    url: String,
    host: String,
    begun: Instant,
    load: Load,
    left: &AtomicU64,
) -> anyhow::Result<Vec<Duration>> {
    let mut line = Line::open(url, host).await?;
    let mut credit = u64::from(line.welcome.credit);
    let (mut sent, mut acknowledged) = (0, 0);
    let mut on_the_way = VecDeque::new();
    let mut acks = Vec::new();
    loop {
        while sent - acknowledged < credit
            && begun.elapsed() < load.time
            && load.due(begun, sent) <= Instant::now()
            && take(left)
        {
            sent += 1;
            line.send(numbered(sent)).await?;
            on_the_way.push_back(Instant::now());
        }
        let is_over = begun.elapsed() >= load.time || left.load(Ordering::Relaxed) == 0;
        if sent == acknowledged && is_over {
            return Ok(acks);
        }
        let due = load.due(begun, sent);
        let wait = if sent - acknowledged < credit && !is_over {
            due.min(begun + load.time)
        } else {
            Instant::now() + Duration::from_secs(60)
        };
        let Ok(answer) = timeout_at(wait.into(), line.answers.message()).await else {
            anyhow::ensure!(wait <= due || is_over, "no acknowledgement for a minute");
            continue;
        };
        let answer = answer?;
        let Some(Frame::Ack(ack)) = answer.and_then(|answer| answer.frame) else {
            anyhow::bail!("no acknowledgement")
        };
        credit = u64::from(ack.credit).max(1);
        while acknowledged < ack.sequence {
            acknowledged += 1;
            acks.push(
                on_the_way
                    .pop_front()
                    .context("an acknowledgement of nothing")?
                    .elapsed(),
            );
        }
    }
}

fn take(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok()
}

fn numbered(sequence: u64) -> Vec<u8> {
    let template = &ENCODED[(sequence % TEMPLATES) as usize];
    let mut bytes = Vec::with_capacity(template.len() + 11);
    prost::encoding::uint64::encode(1, &sequence, &mut bytes);
    bytes.extend_from_slice(template);
    bytes
}

fn batch(template: u64) -> Batch {
    let mut processes: Vec<Process> = (0..24)
        .map(|number| process(1000 + number, 5_000_000, number))
        .collect();
    processes.push(process(200_000 + template as u32, 9_000_000, template as u32));
    Batch {
        sequence: 0,
        entries: (0..EACH).map(|number| entry_of(template, number)).collect(),
        processes,
    }
}

fn process(tgid: u32, start: u64, number: u32) -> Process {
    const PROGRAMS: [&str; 12] = [
        "/usr/sbin/nginx",
        "/usr/bin/python3.11",
        "/usr/lib/postgresql/15/bin/postgres",
        "/usr/bin/bash",
        "/usr/lib/systemd/systemd-journald",
        "/usr/bin/containerd",
        "/usr/sbin/sshd",
        "/usr/bin/node",
        "/usr/bin/git",
        "/usr/bin/curl",
        "/usr/bin/redis-server",
        "/usr/lib/jvm/java-17/bin/java",
    ];
    let executable = PROGRAMS[number as usize % PROGRAMS.len()];
    Process {
        id: Some(ProcessId {
            tgid,
            start_time_ns: start + u64::from(number),
        }),
        parent_id: Some(ProcessId {
            tgid: 1,
            start_time_ns: 1,
        }),
        parent_executable: "/usr/lib/systemd/systemd".to_owned(),
        executable: executable.to_owned(),
        args: vec![
            executable.to_owned(),
            "--config".to_owned(),
            format!("/etc/service{number}/config.toml"),
        ],
        cwd: "/".to_owned(),
        uid: 33,
        gid: 33,
        euid: 33,
        egid: 33,
        user: "www-data".to_owned(),
        cgroup_id: 4711 + u64::from(number),
        cgroup: format!("/system.slice/service{number}.service"),
        workload: format!("service{number}.service"),
        mount_ns: 4_026_531_841,
        pid_ns: 4_026_531_836,
        net_ns: 4_026_531_840,
        executable_inode: 123_456,
        executable_device: 8_388_609,
        ..Process::default()
    }
}

fn entry_of(template: u64, number: u64) -> Entry {
    let at = template * EACH + number;
    let event = Event {
        boot_time_ns: 1_000_000_000_000 + at * 1_000_003,
        time_ns: 1_795_600_000_000_000_000 + at * 1_000_003,
        cpu: (at % 4) as u32,
        process_ref: (at * 7 % 25) as u32 + 1,
        comm: "worker".to_owned(),
        tid: 1000 + (at % 24) as u32,
        body: Some(body(at)),
        ..Event::default()
    };
    Entry {
        host: String::new(),
        body: Some(entry::Body::Event(event)),
    }
}

fn body(at: u64) -> event::Body {
    match at % 20 {
        0 => event::Body::Exec(Exec::default()),
        1 => event::Body::Fork(Fork {}),
        2 => event::Body::Exit(Exit {
            code: Some(0),
            ..Exit::default()
        }),
        3 | 4 => event::Body::FlowClose(FlowClose {
            flow_id: at.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            tuple: Some(Tuple {
                local_address: "10.0.0.5".to_owned(),
                local_port: 30_000 + (at % 20_000) as u32,
                remote_address: format!("10.0.{}.{}", at % 7, at % 251),
                remote_port: 443,
                ..Tuple::default()
            }),
            established: true,
            duration_ns: Some(at * 1000),
            bytes_sent: at * 13 % 100_000,
            bytes_received: at * 29 % 1_000_000,
            segments_sent: 10,
            segments_received: 12,
            rtt_us: 250,
            ..FlowClose::default()
        }),
        _ => event::Body::Operation(Operation {
            signal: "file_open".to_owned(),
            call: "openat".to_owned(),
            result: 7,
            path: format!(
                "/var/lib/service{}/data/{:x}/part-{}.tmp",
                at % 24,
                at * 2_654_435_761 % 4096,
                at % 97
            ),
            inode: 100_000 + at * 31 % 50_000,
            device: 8_388_609,
            mode: 0o100_644,
            ..Operation::default()
        }),
    }
}
