//! From the agent to whoever reads: what is lost is said, and what is stored is stored once.

use std::{collections::HashMap, process::Command};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use prost::Message as _;
use rusqlite::{Connection, OpenFlags};
use sensor_proto::v1::{Batch, Entry, Filter, event};
use sensor_tests::{
    agent::Agent,
    collector::Collector,
    command::{helper, marker, succeed},
    history::events,
    patience::{patience, wait_for},
    stack::Stack,
    stream::{self, Stream},
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("delivery::slow_reader_is_told_and_hurts_nobody", slow_reader),
        case("delivery::filter_passes_what_it_names", filter),
        case(
            "delivery::crash_of_the_collector_loses_and_doubles_nothing",
            collector_crash,
        ),
        case("delivery::collector_knows_its_hosts", hosts),
    ]
}

fn slow_reader() -> Result<()> {
    const CHILDREN: u32 = 2500;
    let agent = Agent::start("[export]\nsubscriber_queue = 2048\n", None)?;
    let slow = stream::unread(&agent.socket(), Filter::default())?;
    let quick = Stream::from_agent(&agent.socket(), Filter::default())?;
    // Every child's events carry these arguments: enough to fill what the connection of the slow one holds.
    let filler = "x".repeat(2000);
    let pid = succeed(helper("fork-storm")?.args([&CHILDREN.to_string(), &filler]))?;

    let id = quick.history(pid)?.complete(1)?;
    let got = quick.got();
    ensure!(got.dropped == 0, "the quick reader lost {} entries", got.dropped);
    let is_child = |event: &&sensor_proto::v1::Event| {
        let parent = event.process.as_ref().and_then(|process| process.parent_id);
        matches!(event.body, Some(event::Body::Fork(_))) && parent == Some(id)
    };
    let children = events(&got.entries).filter(is_child).count();
    ensure!(
        children == CHILDREN as usize,
        "the quick reader got {children} of {CHILDREN} children"
    );
    drop(got);

    let slow = Stream::read(slow);
    let dropped = slow.wait("word of what the slow reader lost", |got| {
        (got.dropped > 0).then_some(got.dropped)
    })?;
    ensure!(
        dropped < u64::from(CHILDREN) * 3,
        "more was lost than there was: {dropped}"
    );
    agent.nothing_lost()
}

fn filter() -> Result<()> {
    let stack = Stack::shared()?;
    let filter = Filter {
        signals: vec!["exit".into()],
        users: vec!["nobody".into()],
        ..Filter::default()
    };
    let stream = Stream::from_agent(&stack.agent.socket(), filter)?;
    succeed(&mut Command::new("/bin/true"))?;
    let pid = succeed(sensor_tests::command::as_nobody(&mut Command::new("/bin/true")))?;
    let history = stream.history(pid)?;
    ensure!(history.order() == ["exit"], "got {:?}", history.order());
    let users: Vec<_> = events(&stream.got().entries)
        .filter_map(|event| Some(event.process.as_ref()?.uid))
        .collect();
    ensure!(users.iter().all(|uid| *uid == 65534), "users {users:?}");
    Ok(())
}

fn collector_crash() -> Result<()> {
    const EACH: u32 = 200;
    let mut collector = Collector::start()?;
    let mut agent = Agent::start("", Some(&collector.address()))?;
    let marker = marker();
    run_marked(&marker, "before", EACH)?;
    collector.crash_and_restart()?;
    run_marked(&marker, "after", EACH)?;
    wait_for(
        "the agent to have delivered everything again",
        patience(30),
        || {
            let uplink = agent.status()?.uplink.unwrap_or_default();
            Ok((uplink.connected && uplink.batches_waiting == 0).then_some(()))
        },
    )?;
    let shed = agent.status()?.uplink.unwrap_or_default().entries_shed;
    ensure!(shed == 0, "{shed} entries were shed");
    agent.stop()?;
    let ended = collector.daemon().stop_within(5)?;
    ensure!(
        ended.success(),
        "the collector ended with {ended} and said:\n{}",
        collector.daemon().messages()
    );

    let stored = stored_execs(&collector, &marker)?;
    for part in ["before", "after"] {
        for number in 0..EACH {
            let count = stored
                .get(&format!("{part}-{number}"))
                .copied()
                .unwrap_or_default();
            ensure!(count == 1, "the exec {part}-{number} is stored {count} times");
        }
    }
    Ok(())
}

fn run_marked(marker: &str, part: &str, count: u32) -> Result<()> {
    for number in 0..count {
        succeed(Command::new("/bin/true").args([marker, &format!("{part}-{number}")]))?;
    }
    Ok(())
}

/// How often the exec of each process with `marker` is in the collector's database, by its second argument.
fn stored_execs(collector: &Collector, marker: &str) -> Result<HashMap<String, u32>> {
    let path = collector.data().join("collector.db");
    let database = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut query =
        database.prepare("SELECT stream, sequence, body FROM batches ORDER BY stream, sequence")?;
    let rows = query.query_map([], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, Vec<u8>>(2)?,
        ))
    })?;
    let (mut counts, mut last) = (HashMap::new(), HashMap::new());
    for row in rows {
        let (stream, sequence, body) = row?;
        let previous = last.insert(stream, sequence).unwrap_or_default();
        ensure!(
            sequence == previous + 1,
            "batch {sequence} of stream {stream} follows {previous}"
        );
        let batch = Batch::decode(body.as_slice()).context("a stored batch")?;
        let entries: Vec<Entry> = batch.into_complete("").collect();
        for number in marked_execs(&entries, marker) {
            *counts.entry(number).or_default() += 1;
        }
    }
    Ok(counts)
}

fn marked_execs(entries: &[Entry], marker: &str) -> Vec<String> {
    let execs = events(entries).filter(|event| matches!(event.body, Some(event::Body::Exec(_))));
    let args = execs.filter_map(|event| event.process.as_ref().map(|process| process.args.as_slice()));
    args.filter_map(|args| {
        if let [_, word, number] = args {
            (word == marker).then(|| number.clone())
        } else {
            None
        }
    })
    .collect()
}

fn hosts() -> Result<()> {
    let stack = Stack::shared()?;
    stack.subscribe()?.fence()?;
    let hosts = stack.collector.hosts()?;
    let name = stack.agent.status()?.host;
    let host = hosts
        .iter()
        .find(|host| host.name == name)
        .with_context(|| format!("no {name:?} in {hosts:?}"))?;
    ensure!(host.connected && host.entries > 0, "{host:?}");
    Ok(())
}
