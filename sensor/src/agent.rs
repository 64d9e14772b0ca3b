//! The agent, composed: capture → host → detect → respond → export.
//!
//! The stages run on one thread of their own, so that nothing slow can hold up the way from the ring to the response.
//! Whatever waits for others (subscribers, the collector) runs on the runtime's threads and reads from the hub.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::event::{EventfdFlags, eventfd};
use sensor_behaviour::novelty::Veil;
use sensor_trust::OnConnecting;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    admin::{Admin, AdminError},
    book::{Book, Keeping},
    capture::{self, Capture, FlowTimes, LoadError, RingSizes},
    cli::json::to_json,
    config::Config,
    detect::{Detector, Incident},
    enroll,
    export::{
        Converter, Entry, Hub, LocalError, LocalServer, LocalService, OutputError, Outputs, Spool, Uplink,
        UplinkConfig, UplinkError, Users, spool,
    },
    fleet::Neighbours,
    host::{CgroupMount, Host, Listener, Profiles, Profiling, WallClock},
    knowledge::Knowledge,
    links::OwnLinks,
    mute::{Board, Mutes},
    orders::Orders,
    pipeline::{Command, Pipeline, Stages, Vitals},
    preflight::{self, Unfit},
    privacy::{KeyError, Policy},
    reload::{self, Reloader},
    remote::{Remote, Wiring},
    respond::{Person, Responder, Step, Tell},
    rules::RuleSet,
    session::Sessions,
    status::AgentStatus,
    time::{BootTime, WallTime},
};

/// Longest time that a record waits which does not wake the agent itself.
const INTERVAL: Duration = Duration::from_millis(50);

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself what happened")]
pub enum AgentError {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Privacy(#[from] KeyError),
    #[error("cannot start the agent's thread: {0}")]
    Thread(#[source] io::Error),
}

/// Runs the agent until `stop` is over; then everything detaches, and what waits is delivered.
///
/// # Errors
/// If this host cannot be watched, or the socket or the collector's address cannot be used. What fails later is
/// logged and retried.
pub async fn run(
    config: Config,
    read: reload::Read,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    preflight::require()?;
    let local = LocalServer::bind(&config.export.socket)?;
    let admin = match config.export.admin {
        Some(address) => Some(Admin::bind(address).await?),
        None => None,
    };
    let hub = Hub::new(config.export.subscriber_queue);
    let links = Arc::new(OwnLinks::default());
    let name = host_name(&config);
    let users = Arc::new(Users::default());
    let policy = Policy::new(&config.privacy)?;
    let veil = policy.veil();
    let converter = Converter::new(name.clone(), Arc::clone(&users)).with_policy(policy);
    let on_connecting = note_links(&links);
    let uplink = uplink(&config, &name, &hub, &converter, &on_connecting)?;
    let monitor = uplink.as_ref().map(Uplink::monitor);
    let outputs = Outputs::start(
        &config.export.outputs,
        &hub,
        &converter,
        seed(&name),
        &on_connecting,
    )?;

    let (commands, orders) = mpsc::channel();
    let rules = rules(&config);
    let in_use = reload::RulesInUse::of(&rules);
    let (book, keeping, open): (Book, Keeping, _) =
        Book::open(state_directory(&config), converter.clone()).map_err(AgentError::Thread)?;
    let beginning = Beginning {
        rules,
        tell: telling(converter.clone()),
        book: book.clone(),
        open,
    };
    let (pipeline, status) = start(&config, name, &hub, links, users, beginning, orders)?;
    let orders = Orders::new(commands);
    let reloader = Arc::new(Reloader::new(config.clone(), in_use, read, orders.clone()));
    announce(&config, &status);
    let service = LocalService {
        hub: hub.clone(),
        converter,
        status: Arc::new(status),
        uplink: monitor,
        outputs: outputs.monitor(),
        reloader: Some(Arc::clone(&reloader)),
        orders: Some(orders),
        book: Some(book),
        heard: Arc::default(),
    };
    let comparing = tokio::spawn(comparing(&config, &service, &on_connecting, veil));
    let listening = tokio::spawn(remote(&config, &service, &on_connecting));
    let looking = admin.map(|admin| tokio::spawn(admin.serve(service.clone())));
    let serving = tokio::spawn(local.serve(service));
    let delivering = tokio::spawn(async move {
        if let Some(uplink) = uplink {
            uplink.run().await;
        }
    });

    let reloading = tokio::spawn(reload_on_hangup(reloader));
    let renewing = tokio::spawn(renewal(&config, on_connecting));

    stop.await;
    reloading.abort();
    renewing.abort();
    listening.abort();
    comparing.abort();
    if let Some(looking) = looking {
        looking.abort();
    }
    tracing::info!("stopping");
    let stopped = tokio::task::spawn_blocking(move || pipeline.stop()).await;
    if !matches!(stopped, Ok(Ok(()))) {
        tracing::error!("the agent's thread has ended in a panic");
    }
    hub.close();
    let _ = delivering.await;
    outputs.finish().await;
    let served = match serving.await {
        Ok(result) => result.map_err(AgentError::from),
        Err(error) => {
            tracing::error!("the local service has ended in a panic: {error}");
            Ok(())
        }
    };
    // Whoever writes into the book has ended by now.
    let _ = tokio::task::spawn_blocking(|| keeping.finish()).await;
    served
}

/// Makes of an event the line that may be kept of it.
fn telling(converter: Converter) -> Arc<Tell> {
    Arc::new(move |event| {
        let entry = converter.entry(&Entry::Event(Arc::clone(event)));
        to_json(&entry, "sensor.v1.Entry").unwrap_or_default()
    })
}

/// What detection begins with: rules, and what agents before this one have kept of incidents.
struct Beginning {
    rules: RuleSet,
    /// Makes of an event the line that may be kept of it.
    tell: Arc<Tell>,
    book: Book,
    open: Vec<Incident>,
}

fn uplink(
    config: &Config,
    host: &str,
    hub: &Hub,
    converter: &Converter,
    on_connecting: &OnConnecting,
) -> Result<Option<Uplink>, UplinkError> {
    if config.uplink.collector.is_empty() {
        return Ok(None);
    }
    let (bytes, place) = (config.uplink.queue_bytes, state_directory(config));
    let place = place.map(|state| state.join(spool::FILE));
    let open = move || match place {
        Some(place) => Spool::open(&place, bytes),
        None => Spool::in_memory(bytes.min(spool::MEMORY)),
    };
    Uplink::new(
        UplinkConfig {
            choice: config.uplink.choice(),
            security: config.security(),
            ..UplinkConfig::new(&config.uplink.collector, seed(host))
        },
        hub,
        converter.clone(),
        open,
        Arc::clone(on_connecting),
    )
    .map(Some)
}

/// What the agent's own connections carry is not reported: each is noted before it is made.
fn note_links(links: &Arc<OwnLinks>) -> OnConnecting {
    let links = Arc::clone(links);
    Arc::new(move |link| links.add(link.local_port, link.remote))
}

/// Of what is scattered in time, so that a fleet does not do it at once: the nanosecond tells hosts apart that have one name and one start.
fn seed(host: &str) -> u64 {
    host.bytes().fold(WallTime::now().0, |seed, byte| {
        seed.rotate_left(5) ^ u64::from(byte)
    })
}

/// Does what the collector asks and this host allows, as long as it runs.
fn remote(
    config: &Config,
    service: &LocalService,
    on_connecting: &OnConnecting,
) -> impl Future<Output = ()> + use<> {
    let remote = match (config.uplink.collector.parse(), state_directory(config)) {
        (Ok(address), Some(state)) if !config.remote.allow.is_empty() => Some(Remote::new(Wiring {
            address,
            security: config.security(),
            on_connecting: Arc::clone(on_connecting),
            allow: config.remote.allow.clone(),
            service: service.clone(),
            state: state.to_owned(),
        })),
        _ => None,
    };
    async move {
        match remote {
            Some(Ok(remote)) => remote.run().await,
            Some(Err(error)) => tracing::warn!("{error}"),
            None => {}
        }
    }
}

/// Compares what is normal here with what is on other hosts, as long as it runs.
fn comparing(
    config: &Config,
    service: &LocalService,
    on_connecting: &OnConnecting,
    veil: Option<Veil>,
) -> impl Future<Output = ()> + use<> {
    let neighbours = match (config.uplink.collector.parse(), service.orders.clone()) {
        (Ok(address), Some(orders)) => Some(Neighbours {
            address,
            security: config.security(),
            on_connecting: Arc::clone(on_connecting),
            orders,
            veil,
            interval: config.detect.fleet_interval,
        }),
        _ => None,
    };
    let (heard, seed) = (Arc::clone(&service.heard), seed(service.converter.host()));
    async move {
        if let Some(neighbours) = neighbours {
            neighbours.run(&heard, (seed % 1_024) as f64 / 1_024.0).await;
        }
    }
}

/// Renews this host's certificate as long as it runs.
fn renewal(config: &Config, on_connecting: OnConnecting) -> impl Future<Output = ()> + use<> {
    let (address, security) = (config.uplink.collector.parse(), config.security());
    async move {
        if let Ok(address) = address {
            enroll::keep_fresh(&address, &security, &on_connecting).await;
        }
    }
}

/// SIGHUP is the old way to say `sensor reload`.
async fn reload_on_hangup(reloader: Arc<Reloader>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        tracing::warn!("cannot listen for SIGHUP; `sensor reload` still works");
        return;
    };
    while hangups.recv().await.is_some() {
        if let Err(error) = reloader.reload("SIGHUP".into()).await {
            tracing::warn!("{error}");
        }
    }
}

/// The thread of the stages.
struct Running {
    thread: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
    wake: OwnedFd,
}

impl Running {
    /// Lets it finish what is in the rings, and waits for it.
    fn stop(self) -> std::thread::Result<()> {
        self.stopping.store(true, Ordering::Release);
        // An eventfd takes eight bytes; it cannot be full after one.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        self.thread.join()
    }
}

/// The rules that the configuration asks for; what is wrong with others is told, and stops nobody.
fn rules(config: &Config) -> RuleSet {
    const TOLD: usize = 20;
    let rules = RuleSet::load(&config.rules);
    for fault in rules.errors().take(TOLD) {
        tracing::warn!("a rule is left out: {fault}");
    }
    let more = rules.errors().count().saturating_sub(TOLD);
    if more > 0 {
        tracing::warn!("and {more} rules more; `sensor rules check` shows all");
    }
    rules
}

/// Attaches first and looks at what runs already second, so that nothing is missed between the two.
fn start(
    config: &Config,
    host_name: String,
    hub: &Hub,
    links: Arc<OwnLinks>,
    users: Arc<Users>,
    beginning: Beginning,
    orders: mpsc::Receiver<Command>,
) -> Result<(Running, AgentStatus), AgentError> {
    let cgroups = CgroupMount::detect()
        .inspect_err(|error| tracing::warn!("{error}"))
        .ok();
    let mut capture = Capture::start(&capture_options(config, cgroups.as_ref()))?;
    let clock = WallClock::new(BootTime::now(), WallTime::now());
    let mut host = Host::new(config.host.limits(), cgroups.clone(), clock);
    host.take_snapshot(config.host.max_processes);
    let profiles = profiles(config, &mut capture, cgroups, &host);
    capture.add_listeners(host.listeners().iter().map(Listener::to_kernel));

    let mut detector = Detector::new(&config.detect, &host_name).with_users(Arc::clone(&users));
    let knowledge = state_directory(config).and_then(|state| Knowledge::resume(state, &mut detector));
    detector.seed(host.tree(), BootTime::now());
    let vitals = Arc::new(Vitals::default());
    vitals.note_rules(&beginning.rules);
    vitals.note_mode(config.respond.mode);
    detector.reopen(beginning.open, host.tree());

    let mut sessions = Sessions::new(&config.session, users);
    sessions.know(host.tree());
    let board = Arc::new(Board::new(capture.mute_counts()));
    let mut mutes = Mutes::new(Arc::clone(&board));
    mutes
        .apply(&config.capture, capture.filters())
        .map_err(LoadError::Map)?;

    let births = capture.take_births();
    let mut responder = Responder::new(&config.respond, state_directory(config)).with_births(births);
    if let Some(state) = state_directory(config) {
        responder.resume(state, host.tree());
    }
    responder.set_rules(&beginning.rules);
    detector.set_rules(beginning.rules);
    responder.begin(config, &host_name, beginning.tell);
    let began = Person {
        name: "start".into(),
        why: format!(
            "sensor {} began; {}",
            env!("CARGO_PKG_VERSION"),
            config.in_words()
        ),
    };
    responder.write_down(Step::Configured, &began);
    let report = profiles.as_ref().map(Profiles::report).unwrap_or_default();
    let status = AgentStatus::new(host_name, &capture, Arc::clone(&vitals), board, report);
    let mut stages = Stages {
        host,
        profiles,
        detector,
        knowledge,
        responder,
        book: Some(beginning.book),
        protected: capture.take_protected(),
        sessions,
        hub: hub.clone(),
        accounts: capture.accounts(),
        links,
        vitals,
        mutes,
    };
    stages.protect_running();
    let running = spawn(Pipeline::new(capture, stages, orders)).map_err(AgentError::Thread)?;
    Ok((running, status))
}

/// Begins with the workloads that run already.
fn profiles(
    config: &Config,
    capture: &mut Capture,
    cgroups: Option<CgroupMount>,
    host: &Host,
) -> Option<Profiles> {
    let sequences = capture.take_sequences()?;
    let (profiling, learning) = (config.capture.sequences, config.capture.sequence_learning);
    let state = state_directory(config);
    let mut profiles = Profiles::new(profiling, learning, sequences, cgroups, state);
    let now = BootTime::now();
    for process in host.tree().iter().filter(|process| !process.kernel_thread) {
        profiles.consider(&process.workload, now);
    }
    Some(profiles)
}

/// Where what outlives the agent is kept, if anywhere.
fn state_directory(config: &Config) -> Option<&Path> {
    Some(config.host.state.as_path()).filter(|state| !state.as_os_str().is_empty())
}

fn spawn(pipeline: Pipeline) -> io::Result<Running> {
    let stopping = Arc::new(AtomicBool::new(false));
    let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
    let alarm = pipeline.alarm(wake.as_fd())?;
    let stop = Arc::clone(&stopping);
    let thread = std::thread::Builder::new()
        .name("pipeline".to_owned())
        .spawn(move || pipeline.run(&alarm, || stop.load(Ordering::Acquire)))?;
    Ok(Running {
        thread,
        stopping,
        wake,
    })
}

fn capture_options<'a>(config: &Config, cgroups: Option<&'a CgroupMount>) -> capture::Options<'a> {
    let capture = &config.capture;
    capture::Options {
        rings: RingSizes {
            critical: capture.ring_bytes_critical,
            bulk: capture.ring_bytes_bulk,
        },
        watermark: u64::from(capture.watermark_bytes),
        interval: INTERVAL,
        reorder_window: capture.reorder_window,
        cgroup_controller: cgroups.and_then(CgroupMount::controller),
        calls: capture.calls,
        flows: FlowTimes {
            idle: capture.udp_pause,
            active: capture.flow_interval,
        },
        sequences: capture.sequences != Profiling::Off,
        max_rung: capture.max_rung,
        agent_tgid: std::process::id(),
    }
}

/// Under which name this host is known.
pub(crate) fn host_name(config: &Config) -> String {
    if config.host.name.is_empty() {
        return rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    config.host.name.clone()
}

fn announce(config: &Config, status: &AgentStatus) {
    let degraded = status.degraded();
    if !degraded.is_empty() {
        tracing::warn!(
            "not at its best on this kernel: {}; `sensor doctor` tells more",
            degraded.join(", ")
        );
    }
    tracing::info!(
        "watching; local service on {}, {}",
        config.export.socket.display(),
        match config.uplink.collector.as_str() {
            "" => "no collector configured".to_owned(),
            collector => format!("delivering to {collector}"),
        }
    );
}
