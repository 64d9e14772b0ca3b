//! From the agent to whoever reads: what is lost is said, and what is stored is stored once.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use sensor_proto::v1::{Filter, event};
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
    let mut trials = vec![
        case("delivery::slow_reader_is_told_and_hurts_nobody", slow_reader),
        case("delivery::filter_passes_what_it_names", filter),
        case(
            "delivery::crash_of_the_collector_loses_and_doubles_nothing",
            collector_crash,
        ),
        case("delivery::collector_knows_its_hosts", hosts),
        case("delivery::metrics_and_health_are_answered", looked_after),
    ];
    // The clock of a machine that others use is not set.
    if std::env::var_os("SENSOR_TEST_VM").is_some() {
        trials.push(case("clock::steps_lose_and_double_nothing", clock_steps));
    }
    trials
}

fn looked_after() -> Result<()> {
    // Taken for a moment: nobody else gets it so soon.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let agent = Agent::start(&format!("[export]\nadmin = \"{address}\"\n"), None)?;
    let ask = |path: &str| -> Result<String> {
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    for (path, says) in [("/healthz", "alive"), ("/readyz", "ready")] {
        let answer = ask(path)?;
        ensure!(
            answer.starts_with("HTTP/1.1 200") && answer.trim_end().ends_with(says),
            "{path}: {answer}"
        );
    }
    succeed(&mut Command::new("/bin/true"))?;
    let sample = "sensor_events_total{signal=\"exec\",became=\"delivered\"} ";
    wait_for("an exec to be counted", patience(10), || {
        let page = ask("/metrics")?;
        let count = page.lines().find_map(|line| line.strip_prefix(sample));
        Ok(count.is_some_and(|count| count != "0").then_some(()))
    })?;
    ensure!(ask("/other")?.starts_with("HTTP/1.1 404"), "another path");
    agent.nothing_lost()
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
    each_is_stored_once(&mut agent, &mut collector, &marker, &["before", "after"], EACH)
}

/// The clock of this machine, moved until this is dropped.
struct Moved {
    began: Instant,
    at: Timespec,
}

impl Moved {
    fn by(seconds: i64) -> Result<Self> {
        let moved = Self {
            began: Instant::now(),
            at: clock_gettime(ClockId::Realtime),
        };
        moved.set(seconds)?;
        Ok(moved)
    }

    /// So many seconds from where it would be.
    fn set(&self, seconds: i64) -> Result<()> {
        let passed = i64::try_from(self.began.elapsed().as_secs())?;
        let time = Timespec {
            tv_sec: self.at.tv_sec + passed + seconds,
            ..self.at
        };
        Ok(clock_settime(ClockId::Realtime, time)?)
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        let _ = self.set(0);
    }
}

fn clock_steps() -> Result<()> {
    const EACH: u32 = 20;
    const DAY: i64 = 86_400;
    let mut collector = Collector::start()?;
    let mut agent = Agent::start("", Some(&collector.address()))?;
    let marker = marker();
    run_marked(&marker, "before", EACH)?;
    let clock = Moved::by(DAY)?;
    run_marked(&marker, "ahead", EACH)?;
    let name = agent.status()?.host;
    wait_for(
        "the collector to say that the clock was moved",
        patience(30),
        || {
            let hosts = collector.hosts()?;
            let host = hosts.into_iter().find(|host| host.name == name);
            Ok(host.filter(|host| host.why.contains("clock")))
        },
    )?;
    clock.set(-DAY)?;
    run_marked(&marker, "behind", EACH)?;
    // What is begun at one time goes on at another.
    collector.crash_and_restart()?;
    run_marked(&marker, "restarted", EACH)?;
    drop(clock);
    run_marked(&marker, "after", EACH)?;
    let parts = ["before", "ahead", "behind", "restarted", "after"];
    each_is_stored_once(&mut agent, &mut collector, &marker, &parts, EACH)
}

/// Lets both end, and counts.
fn each_is_stored_once(
    agent: &mut Agent,
    collector: &mut Collector,
    marker: &str,
    parts: &[&str],
    each: u32,
) -> Result<()> {
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

    let stored = stored_execs(collector, marker)?;
    for part in parts {
        for number in 0..each {
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

/// How often the exec of each process with `marker` is in what the collector keeps, by its second argument.
fn stored_execs(collector: &Collector, marker: &str) -> Result<HashMap<String, u32>> {
    #[derive(serde::Deserialize)]
    struct Row {
        arguments: String,
        count: u32,
    }
    let sql = format!(
        "SELECT arguments, count(*) AS count FROM events
         WHERE signal = 'exec' AND arguments LIKE '/bin/true {marker} %' GROUP BY arguments"
    );
    let answer = collector.query(&sql)?;
    let rows = answer.lines().map(|line| {
        let Row { arguments, count } = serde_json::from_str(line)?;
        let number = arguments.rsplit(' ').next().unwrap_or_default();
        Ok((number.to_owned(), count))
    });
    rows.collect()
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
