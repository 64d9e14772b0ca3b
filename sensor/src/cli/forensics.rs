//! `sensor forensics`: take the evidence of a process, and tell whether a bundle is what was taken.

use std::{
    collections::BTreeSet,
    fs::File,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use rustix::fs::OFlags;
use sensor_proto::v1::{
    ActionKind, BundleOptions, GetIncidentRequest, Order, Result as Became, agent_client::AgentClient,
    respond_request::Wish, respond_response::Answer,
};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Channel;

use super::{
    connect::SocketArgs,
    respond,
    run::ConfigArgs,
    text::{bytes, harmless, short},
};
use crate::{
    agent::host_name,
    config::Config,
    forensics::{
        Bundle, DIRECTORY, HostKey, LIMITS, Manifest, Options, Paused, PublicKey, Region, Report, Request,
        collect, told, verify,
    },
    host::{ProcessId, proc::ProcDir},
    respond::Guard,
    time::BootTime,
};

/// Take the evidence of a process into one signed file, or tell whether such a file is what was taken.
#[derive(Clone, Debug, clap::Args)]
pub struct ForensicsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Take it: executable, maps, open files, sockets, arguments and environment without secrets, relatives. The process stands
    /// still meanwhile.
    Collect(CollectArgs),
    /// Tell whether a bundle is what was taken, and if not, which part of it.
    Verify(VerifyArgs),
    /// Print the public key of this host, to be kept elsewhere for `verify --key`.
    Key {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Place {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where the key is kept, instead of where the configuration says that the agent keeps what outlives it.
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
struct CollectArgs {
    /// Process id, or the id of an incident, whose process it is about: as much of its beginning as tells it from others.
    #[arg(value_name = "PID|INCIDENT")]
    target: String,
    /// Where to put the bundle: your own directory, writable for nobody else. Then it is made without the agent, which knows what the process did before
    /// and has an audit [default: `forensics` in the agent's state directory].
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
    /// Memory to take, raw, secrets and all.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "REGIONS")]
    memory: Vec<Region>,
    /// Bytes of memory at most, such as 64M.
    #[arg(long, value_name = "BYTES", value_parser = size, default_value = "64M")]
    memory_limit: u64,
    /// Bytes of the bundle at most, uncompressed: 1M to 4G.
    #[arg(long, value_name = "BYTES", value_parser = limit, default_value = "256M")]
    limit: u64,
    /// Seconds that the process may stand still; a bundle that takes longer is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    time_limit: u64,
    /// Let the process run on meanwhile.
    #[arg(long)]
    no_pause: bool,
    /// Why, for the manifest.
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    place: Place,
    /// Which agent to ask about an incident.
    #[command(flatten)]
    socket: SocketArgs,
    /// Say what came of it for programs: one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct VerifyArgs {
    /// The bundle.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The host's public key, as `sensor forensics key` prints it, or a file that has it. Without it a bundle may be whole and somebody else's.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Say what is wrong for programs: one JSON object.
    #[arg(long)]
    json: bool,
}

/// Does it. A bundle that is not what was taken ends with 1, what cannot be done with an error.
///
/// # Errors
/// If it cannot be done.
pub async fn run(args: ForensicsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Collect(args) => collect_it(args).await,
        Command::Verify(args) => verify_it(&args),
        Command::Key { place } => {
            println!("{}", HostKey::open(&place.state(&place.config()?))?.public());
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Place {
    fn config(&self) -> anyhow::Result<Config> {
        Ok(self.config.load()?)
    }

    fn state(&self, config: &Config) -> PathBuf {
        self.state.clone().unwrap_or_else(|| config.host.state.clone())
    }
}

/// Has the agent do it, which knows what the process did before and keeps an audit; without one, or where the bundle is to go elsewhere, does it alone.
async fn collect_it(args: CollectArgs) -> anyhow::Result<ExitCode> {
    let (id, incident) = suspect(&args).await?;
    if args.output.is_none() {
        match args.socket.connect().await {
            Ok(agent) => return have_collected(&args, &mut AgentClient::new(agent), id, incident).await,
            Err(error) => eprintln!("sensor: {error:#}"),
        }
    }
    eprintln!("sensor: without an agent the bundle has no events, and is in no audit");
    collect_alone(args, id, incident).await?;
    Ok(ExitCode::SUCCESS)
}

/// By the agent.
async fn have_collected(
    args: &CollectArgs,
    agent: &mut AgentClient<Channel>,
    id: ProcessId,
    incident: String,
) -> anyhow::Result<ExitCode> {
    const QUEUED: u64 = 30;
    let order = Order {
        kind: ActionKind::Collect.into(),
        pid: id.tgid,
        start_time_ns: id.start.0,
        incident_id: incident,
        bundle: Some(BundleOptions {
            memory: args
                .memory
                .iter()
                .map(|region| region.name().to_owned())
                .collect(),
            memory_limit: args.memory_limit,
            limit: args.limit,
            seconds: args.time_limit,
            no_pause: args.no_pause,
        }),
        ..Order::default()
    };
    let wait = Duration::from_secs(args.time_limit + QUEUED);
    let answer = respond::ask(agent, Wish::Order(order), args.why.clone(), wait).await?;
    let Answer::Outcome(outcome) = &answer else {
        println!("{}", respond::said(&answer));
        return Ok(ExitCode::from(respond::NOT_YET));
    };
    if outcome.result() != Became::Done {
        bail!("{}", harmless(&outcome.detail));
    }
    // Where paths have pseudonyms it is not found by its own.
    let made = told(&outcome.detail).and_then(|(path, size, sha256)| {
        let report = verify(File::open(path).ok()?, None).ok()?;
        Some(Bundle {
            path: path.into(),
            sha256: sha256.to_owned(),
            size,
            manifest: report.manifest?,
        })
    });
    match made {
        Some(bundle) => println!("{}", collected(&bundle, args.json)?),
        None => println!("{}", harmless(&outcome.detail)),
    }
    Ok(ExitCode::SUCCESS)
}

async fn collect_alone(args: CollectArgs, id: ProcessId, incident: String) -> anyhow::Result<()> {
    let config = args.place.config()?;
    let state = args.place.state(&config);
    let key = HostKey::open(&state)?;
    let directory = args.output.clone().unwrap_or_else(|| state.join(DIRECTORY));
    let stop = Arc::new(AtomicBool::new(false));
    let request = Request {
        target: id,
        who: who(),
        why: args.why.clone(),
        incident,
        host: host_name(&config),
        events: None,
        options: options(&args),
        stop: Arc::clone(&stop),
    };
    let guard = Guard::new(&config.respond);
    let work = move || {
        collect(request, &directory, &key, |executable| {
            guard.check_member(id.tgid, executable)
        })
    };
    let work = tokio::task::spawn_blocking(work);
    give_up_on_signals(stop)?;
    let bundle = work.await??;
    println!("{}", collected(&bundle, args.json)?);
    Ok(())
}

/// Whoever ends this command must not leave the process stopped.
fn give_up_on_signals(stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let mut signals = signal(kind)?;
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            signals.recv().await;
            stop.store(true, Ordering::Relaxed);
        });
    }
    Ok(())
}

/// The process that is meant, and the incident that it is meant by. An id of an incident has sixteen digits, so what is a number and shorter is a process id.
async fn suspect(args: &CollectArgs) -> anyhow::Result<(ProcessId, String)> {
    if let Ok(pid) = args.target.parse() {
        return Ok((running(pid)?, String::new()));
    }
    let mut client = AgentClient::new(args.socket.connect().await?);
    let request = GetIncidentRequest {
        id: args.target.clone(),
    };
    let incident = client.get_incident(request).await;
    let incident = incident.map_err(|status| anyhow::anyhow!("{}", harmless(status.message())))?;
    let incident = incident.into_inner();
    let id = incident.process.and_then(|process| process.id);
    let id = id.context("nobody knows which process the incident is about")?;
    let id = ProcessId {
        tgid: id.tgid,
        start: BootTime(id.start_time_ns),
    };
    Ok((id, incident.id))
}

fn running(pid: u32) -> anyhow::Result<ProcessId> {
    let stat = ProcDir::open(pid).ok().and_then(|process| process.stat());
    let stat = stat.with_context(|| format!("there is no process {pid}"))?;
    Ok(ProcessId {
        tgid: pid,
        start: stat.start,
    })
}

/// Who runs this, and as whom they came in.
fn who() -> String {
    let credentials = ProcDir::open(std::process::id())
        .ok()
        .and_then(|process| process.credentials());
    let uid = rustix::process::getuid().as_raw();
    match credentials.and_then(|credentials| credentials.login_uid) {
        Some(login) if login != uid => format!("uid {uid}, logged in as uid {login}"),
        _ => format!("uid {uid}"),
    }
}

fn options(args: &CollectArgs) -> Options {
    Options {
        memory: args.memory.iter().copied().collect::<BTreeSet<_>>(),
        limit: args.limit,
        memory_limit: args.memory_limit,
        time_limit: Duration::from_secs(args.time_limit),
        pause: !args.no_pause,
        ..Options::default()
    }
}

fn collected(bundle: &Bundle, json: bool) -> anyhow::Result<String> {
    let manifest = &bundle.manifest;
    if json {
        let path = bundle.path.to_string_lossy();
        let line =
            json!({ "path": path, "sha256": bundle.sha256, "size": bundle.size, "manifest": manifest });
        return Ok(line.to_string());
    }
    let mut text = format!(
        "{}\n  {}, SHA-256 {}\n  {}",
        harmless(&bundle.path.to_string_lossy()),
        bytes(bundle.size),
        bundle.sha256,
        of_what(manifest)
    );
    for missing in &manifest.missing {
        text.push_str(&format!(
            "\n  missing: {}: {}",
            short(&missing.what, 100),
            short(&missing.why, 200)
        ));
    }
    for part in &manifest.parts {
        if let Some(truncated) = &part.truncated {
            text.push_str(&format!(
                "\n  not whole: {}: {}",
                short(&part.name, 100),
                short(truncated, 200)
            ));
        }
    }
    Ok(text)
}

fn of_what(manifest: &Manifest) -> String {
    let paused = match &manifest.paused {
        Paused::Stopped => "it was paused".to_owned(),
        Paused::Before => "it was stopped, and is left so".to_owned(),
        Paused::Running => "it was to be paused and ran on: parts may not fit together".to_owned(),
        Paused::Not(why) => format!("it ran on, since {}", short(why, 200)),
    };
    format!(
        "process {} on {}, {}{}; {} parts, {}; {paused}",
        manifest.target.pid,
        short(&manifest.host, 64),
        short(&manifest.target.executable, 200),
        if manifest.target.deleted { " (deleted)" } else { "" },
        manifest.parts.len(),
        bytes(manifest.total)
    )
}

fn verify_it(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let key = args.key.as_deref().map(public_key).transpose()?;
    let name = harmless(&args.file.to_string_lossy()).into_owned();
    // A pipe that nobody writes to would be waited for.
    let mut options = File::options();
    let opened = options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(&args.file);
    let file = opened.with_context(|| format!("cannot open {name}"))?;
    if !file.metadata()?.is_file() {
        bail!("{name} is not a file");
    }
    let report = verify(file, key.as_ref()).with_context(|| format!("cannot read {name}"))?;
    println!("{}", verified(&name, &report, key.as_ref(), args.json));
    Ok(match report.findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn public_key(text: &str) -> anyhow::Result<PublicKey> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let path = Path::new(text);
    let content = std::fs::read_to_string(path).with_context(|| {
        format!(
            "{:?} is neither a key nor a file that can be read",
            harmless(text)
        )
    })?;
    content.parse().with_context(|| format!("{}", path.display()))
}

fn verified(name: &str, report: &Report, key: Option<&PublicKey>, json: bool) -> String {
    let intact = report.findings.is_empty();
    let said: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    if json {
        let line = json!({
            "intact": intact,
            "key": report.key.map(|key| key.to_string()),
            "key_checked": key.is_some(),
            "sha256": report.sha256,
            "size": report.size,
            "findings": report.findings.iter().zip(&said).map(|(finding, text)| {
                let mut finding = json!(finding);
                finding["text"] = text.clone().into();
                finding
            }).collect::<Vec<_>>(),
            "manifest": report.manifest,
        });
        return line.to_string();
    }
    let mut text = format!("{name}: {}", if intact { "intact" } else { "NOT what was taken" });
    for finding in &said {
        text.push_str(&format!("\n  {}", short(finding, 300)));
    }
    if let Some(manifest) = &report.manifest {
        text.push_str(&format!("\n  {}", of_what(manifest)));
    }
    text.push_str(&format!("\n  {}, SHA-256 {}", bytes(report.size), report.sha256));
    if let Some(signer) = report.key {
        let checked = match key {
            Some(key) if *key == signer => "the one that was named",
            Some(_) => "not the one that was named",
            None => "whose it is was not checked: name the host's key with --key",
        };
        text.push_str(&format!("\n  signed with {signer}, {checked}"));
    }
    text
}

/// `64M`: bytes, or with K, M or G as many times 1024, 1024² or 1024³.
fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) => (digits, &text[digits.len()..]),
        None => (text, ""),
    };
    let factor = match unit {
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => 1,
    };
    let number: Option<u64> = digits.parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(factor));
    bytes.ok_or_else(|| "it must be a number of bytes, such as 1048576 or 64M".to_owned())
}

fn limit(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if LIMITS.contains(&bytes) {
        Ok(bytes)
    } else {
        Err("allowed are 1M to 4G".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::forensics::{Finding, Missing, Part, Target};

    fn manifest() -> Manifest {
        Manifest {
            version: 1,
            sensor: "0.1.0".into(),
            host: "web\u{1b}[1".into(),
            kernel: "6.12".into(),
            began_ns: 1,
            ended_ns: 2,
            who: "uid 0".into(),
            why: String::new(),
            incident: String::new(),
            target: Target {
                pid: 7,
                start_ns: 1,
                executable: "/tmp/x\n".into(),
                deleted: true,
            },
            paused: Paused::Not("/usr/sbin/sshd is on the protected list".into()),
            parts: vec![Part {
                name: "executable".into(),
                size: 4,
                sha256: "00".into(),
                truncated: Some("the first 4 of 5 bytes".into()),
            }],
            total: 4,
            missing: vec![Missing {
                what: "events.jsonl".into(),
                why: "no agent was asked for them".into(),
            }],
            memory: Vec::new(),
            key: String::new(),
        }
    }

    #[test]
    fn what_was_collected_and_what_is_missing() {
        let bundle = Bundle {
            path: "/x/web-7.tar.zst".into(),
            sha256: "ab".into(),
            size: 1_500,
            manifest: manifest(),
        };
        assert_snapshot!(collected(&bundle, false).unwrap(), @r"
        /x/web-7.tar.zst
          1.5 kB, SHA-256 ab
          process 7 on web\x1b[1, /tmp/x\n (deleted); 1 parts, 4 B; it ran on, since /usr/sbin/sshd is on the protected list
          missing: events.jsonl: no agent was asked for them
          not whole: executable: the first 4 of 5 bytes
        ");
        let value: serde_json::Value = serde_json::from_str(&collected(&bundle, true).unwrap()).unwrap();
        assert_eq!(value["manifest"]["paused"]["state"], "not");
    }

    #[test]
    fn what_is_wrong_with_a_bundle() {
        let report = Report {
            findings: vec![
                Finding::SealBroken,
                Finding::Altered {
                    part: "exe\u{1b}[31m".into(),
                },
            ],
            manifest: Some(manifest()),
            key: None,
            sha256: "ab".into(),
            size: 1_500,
        };
        assert_snapshot!(verified("x", &report, None, false), @r"
        x: NOT what was taken
          the file is not what was sealed: at least one byte was changed
          exe\x1b[31m was altered
          process 7 on web\x1b[1, /tmp/x\n (deleted); 1 parts, 4 B; it ran on, since /usr/sbin/sshd is on the protected list
          1.5 kB, SHA-256 ab
        ");
        let value: serde_json::Value = serde_json::from_str(&verified("x", &report, None, true)).unwrap();
        assert_eq!(value["intact"], false);
        assert_eq!(value["findings"][1]["finding"], "altered");
        assert_eq!(value["findings"][1]["part"], "exe\u{1b}[31m");
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        for (text, bytes) in [
            ("0", Ok(0)),
            ("12", Ok(12)),
            ("3K", Ok(3072)),
            ("2G", Ok(2 << 30)),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
        for text in ["", "M", "1T", "-1", "1.5M", "99999999999999G", "é"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(limit("1023K").is_err() && limit("5G").is_err() && limit("4G").is_ok());
    }
}
