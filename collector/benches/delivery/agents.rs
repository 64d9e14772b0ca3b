//! Many agents with 20 events a second each, in a batch a second.

use std::time::{Duration, Instant};

use prost::Message as _;
use sensor_proto::v1::{
    Batch, Entry, Event, Fork, Process, ProcessId, deliver_response::Frame, entry, event,
};
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};

use crate::{line::Line, load::Outcome};

const EVENTS: u64 = 20;

pub(crate) async fn run(url: &str, agents: u32, time: Duration) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..agents {
        let url = url.to_owned();
        // Not all in the same moment.
        let offset = Duration::from_secs(1) * number / agents;
        tasks.spawn(async move {
            sleep(offset).await;
            deliver(url, format!("agent{number}"), begun, time).await
        });
    }
    let mut outcome = Outcome::default();
    while let Some(task) = tasks.join_next().await {
        let acks = task??;
        outcome.events += acks.len() as u64 * EVENTS;
        outcome.acks.extend(acks);
    }
    outcome.elapsed = begun.elapsed();
    Ok(outcome)
}

async fn deliver(url: String, host: String, begun: Instant, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let mut line = Line::open(url, host).await?;
    let mut second = interval(Duration::from_secs(1));
    let mut acks = Vec::new();
    for sequence in 1.. {
        second.tick().await;
        if begun.elapsed() >= time {
            break;
        }
        let sent = Instant::now();
        line.send(batch(sequence).encode_to_vec()).await?;
        loop {
            match line.answers.message().await?.and_then(|answer| answer.frame) {
                Some(Frame::Ack(ack)) if ack.sequence == sequence => break,
                Some(Frame::Ack(_)) => {}
                _ => anyhow::bail!("no acknowledgement"),
            }
        }
        acks.push(sent.elapsed());
    }
    Ok(acks)
}

fn batch(sequence: u64) -> Batch {
    let process = Process {
        id: Some(ProcessId {
            tgid: 100,
            start_time_ns: 5,
        }),
        executable: "/usr/bin/program".to_owned(),
        args: vec!["program".to_owned(), "-v".to_owned()],
        cgroup: "/system.slice/program.service".to_owned(),
        ..Process::default()
    };
    let entry_of = |number: u64| Entry {
        host: String::new(),
        body: Some(entry::Body::Event(Event {
            boot_time_ns: (sequence * EVENTS + number) * 1_000_000,
            time_ns: 1_795_600_000_000_000_000 + (sequence * EVENTS + number) * 1_000_000,
            process_ref: 1,
            body: Some(event::Body::Fork(Fork {})),
            ..Event::default()
        })),
    };
    Batch {
        sequence,
        entries: (0..EVENTS).map(entry_of).collect(),
        processes: vec![process],
    }
}
