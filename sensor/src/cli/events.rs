//! `sensor events`: follows an agent or a collector.

use std::{
    env,
    io::{self, ErrorKind, IsTerminal, Write},
    path::PathBuf,
    process,
    time::Duration,
};

use anyhow::Context;
use sensor_proto::{
    MESSAGE_BYTES_MAX,
    v1::{
        Entry, Filter, SubscribeRequest, SubscribeResponse, agent_client::AgentClient,
        collector_client::CollectorClient,
    },
};
use tokio::{sync::watch, time::sleep};
use tonic::Streaming;

use super::{
    Output,
    connect::{SocketArgs, collector},
    json::to_json,
    render::{Style, line},
};

/// First and longest time between attempts to connect again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Follow events, signals, incidents and outcomes as they happen.
///
/// Each option that selects may be given several times: one match is enough for each, and all the
/// options that are given must match.
#[derive(Clone, Debug, clap::Args)]
pub struct EventsArgs {
    /// How to write them.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Only these: exec, fork, exit, connect, accept, listen, flow_close, signal, incident, outcome, loss.
    #[arg(long, value_name = "NAME")]
    pub signal: Vec<String>,
    /// Only of these processes: an id, an executable or a prefix of it ending in "*", or a thread's name.
    #[arg(long, value_name = "PROCESS")]
    pub process: Vec<String>,
    /// Only of these cgroups: a path, or a prefix of it ending in "*".
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Only of these users: a name, or an id (real, effective or login).
    #[arg(long, value_name = "USER")]
    pub user: Vec<String>,
    /// Only of these hosts.
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// End after so many entries.
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u64>,
    /// Which agent to follow.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Follow all hosts of a collector instead, https://HOST:PORT.
    #[arg(long, value_name = "ADDR")]
    pub collector: Option<String>,
    /// Directory of your certificate for that, as `sensor enroll --identity` made it.
    #[arg(
        long,
        value_name = "DIR",
        env = "SENSOR_IDENTITY",
        default_value = "/var/lib/sensor"
    )]
    pub identity: PathBuf,
}

/// Why following ended.
enum End {
    /// Whoever asked has enough, or is gone.
    Enough,
    /// The stream broke.
    Broken(String),
}

/// Follows until SIGINT, the limit, or the end of whoever reads standard output.
///
/// # Errors
/// If the filter makes no sense, nobody answers at the first attempt, or standard output fails.
pub async fn run(args: EventsArgs) -> anyhow::Result<()> {
    args.filter().validate()?;
    let mut stop = stop_on_interrupt();
    tokio::select! {
        result = follow(&args) => result,
        _ = stop.wait_for(|stop| *stop) => Ok(()),
    }
}

/// Becomes true on SIGINT. Should standard output be stuck then, the process ends all the same.
fn stop_on_interrupt() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            sender.send_replace(true);
            sleep(Duration::from_millis(200)).await;
            process::exit(0);
        }
        // Without a handler the signal ends the process by itself; the sender must live until then.
        std::future::pending::<()>().await;
    });
    receiver
}

async fn follow(args: &EventsArgs) -> anyhow::Result<()> {
    let mut printer = Printer::new(args);
    let mut stream = args.subscribe().await?;
    loop {
        let mut wait = BACKOFF.0;
        let reason = match printer.print_all(&mut stream).await? {
            End::Enough => return Ok(()),
            End::Broken(reason) => reason,
        };
        eprintln!("sensor events: the stream ended: {reason}; connecting again");
        stream = loop {
            sleep(wait).await;
            match args.subscribe().await {
                Ok(stream) => break stream,
                Err(_) => wait = (wait * 2).min(BACKOFF.1),
            }
        };
        eprintln!("sensor events: connected again; what happened in between was not shown");
    }
}

impl EventsArgs {
    fn filter(&self) -> Filter {
        Filter {
            signals: self.signal.clone(),
            processes: self.process.clone(),
            cgroups: self.cgroup.clone(),
            users: self.user.clone(),
            hosts: self.host.clone(),
        }
    }

    async fn subscribe(&self) -> anyhow::Result<Streaming<SubscribeResponse>> {
        let request = SubscribeRequest {
            filter: Some(self.filter()),
            ..SubscribeRequest::default()
        };
        let response = match &self.collector {
            Some(address) => {
                let client = CollectorClient::new(collector(address, &self.identity).await?);
                client
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .subscribe(request)
                    .await
            }
            None => {
                let client = AgentClient::new(self.socket.connect().await?);
                client
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .subscribe(request)
                    .await
            }
        };
        response
            .map(tonic::Response::into_inner)
            .map_err(|status| anyhow::anyhow!("cannot follow: {}", status.message()))
    }
}

struct Printer {
    output: Output,
    style: Style,
    left: Option<u64>,
}

impl Printer {
    fn new(args: &EventsArgs) -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = Style {
            colour: io::stdout().is_terminal() && !plain,
            host: args.collector.is_some(),
        };
        Self {
            output: args.output,
            style,
            left: args.limit,
        }
    }

    async fn print_all(&mut self, stream: &mut Streaming<SubscribeResponse>) -> anyhow::Result<End> {
        loop {
            if self.left == Some(0) {
                return Ok(End::Enough);
            }
            let response = match stream.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Ok(End::Broken("it was closed at the other end".into())),
                Err(status) => return Ok(End::Broken(status.message().to_owned())),
            };
            if response.dropped > 0 {
                let dropped = response.dropped;
                eprintln!("sensor events: {dropped} entries were dropped: this reader is too slow");
            }
            match self.print(&response.entries) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(End::Enough),
                result => result.context("cannot write to standard output")?,
            }
        }
    }

    fn print(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        for entry in entries {
            match &mut self.left {
                Some(0) => break,
                Some(left) => *left -= 1,
                None => {}
            }
            match self.output {
                Output::Compact => writeln!(out, "{}", line(entry, self.style))?,
                Output::Json => writeln!(
                    out,
                    "{}",
                    to_json(entry, "sensor.v1.Entry").map_err(io::Error::other)?
                )?,
            }
        }
        out.flush()
    }
}
