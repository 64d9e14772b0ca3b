//! `collector command`: have something done on a host.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Subcommand;
use sensor_proto::{
    MESSAGE_BYTES_MAX,
    v1::{
        self, ActionKind, AskRequest, CommandState, ListCommandsRequest, Object, Order, ReloadRequest,
        RuleFile, RuleFiles, SnapshotRequest, command::What, command_answer::Answer, object::Is,
        response_client::ResponseClient,
    },
};
use tonic::transport::Channel;

use super::connect::{Place, harmless, said};
use crate::{
    control::{in_words, outcome},
    trust::database::clock,
};

/// How often it is looked for the answer.
const LOOK: Duration = Duration::from_millis(250);

/// Have something done on a host, as far as its configuration allows it ([remote] allow), and print what came of it. What the host does not
/// come for in time expires.
#[derive(Clone, Debug, clap::Args)]
pub struct CommandArgs {
    /// Name of the host.
    host: String,
    #[command(subcommand)]
    what: Wanted,
    /// Why, for the audit on both ends.
    #[arg(long, default_value = "", global = true)]
    why: String,
    /// How long it may wait for the host to begin it, 7 days at most.
    #[arg(long, value_name = "TIME", default_value = "1h", global = true, value_parser = humantime_serde::re::humantime::parse_duration)]
    valid: Duration,
    /// How long to wait here for the answer; 0s: not at all. It comes all the same: `collector commands`.
    #[arg(long, value_name = "TIME", default_value = "30s", global = true, value_parser = humantime_serde::re::humantime::parse_duration)]
    wait: Duration,
    /// An id of your own: what has the same is asked and done once.
    #[arg(long, value_name = "ID", default_value = "", global = true)]
    id: String,
    /// Say what would be hit, and do nothing.
    #[arg(long, global = true)]
    dry_run: bool,
    /// Which collector.
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Debug, Subcommand)]
enum Wanted {
    /// Have done what waits there under this number.
    Approve { number: u64 },
    /// Don't have it done.
    Deny { number: u64 },
    /// Undo what was done.
    Undo { number: u64 },
    /// End a process.
    Kill {
        pid: u32,
        /// And all that descends from it.
        #[arg(long)]
        tree: bool,
    },
    /// Stop a process.
    Suspend { pid: u32 },
    /// Let it go on.
    Resume { pid: u32 },
    /// Let a process, and what descends from it, reach nobody over a network.
    Disconnect { pid: u32 },
    /// Make a forensic bundle of a process, which comes here: `collector bundles`.
    Collect { pid: u32 },
    /// Stop an executable, by its path, or a network.
    Block {
        what: String,
        #[arg(long = "for", value_name = "TIME", value_parser = humantime_serde::re::humantime::parse_duration)]
        lasts: Option<Duration>,
    },
    /// Cut the host off from all networks but this collector.
    Isolate {
        #[arg(long = "for", value_name = "TIME", value_parser = humantime_serde::re::humantime::parse_duration)]
        lasts: Option<Duration>,
    },
    /// End a user's sessions and lock the account.
    Revoke { uid: u32 },
    /// Take a file away to where nobody can run it.
    Quarantine { file: String },
    /// Have the configuration read again.
    Reload,
    /// Use these rules beside those of the host's own configuration, instead of those that came like this before; without any: none.
    Rules {
        /// Sigma rules, *.yml.
        files: Vec<PathBuf>,
    },
    /// How the agent is and what runs.
    Status,
}

/// Asks, waits, and prints the answer. What the host refused or could not do ends with 1.
///
/// # Errors
/// If no collector answers, or it does not take the command.
pub async fn run(args: CommandArgs) -> anyhow::Result<ExitCode> {
    let channel = args.place.connect().await?;
    let mut client = ResponseClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let command = v1::Command {
        id: args.id.clone(),
        why: args.why.clone(),
        what: Some(wanted(args.what, args.dry_run)?),
        ..v1::Command::default()
    };
    let request = AskRequest {
        host: args.host,
        command: Some(command),
        seconds: args.valid.as_secs().max(1),
    };
    let asked = client
        .ask(request)
        .await
        .map_err(|status| said(&status))?
        .into_inner()
        .state
        .unwrap_or_default();
    let state = answered(&mut client, asked, args.wait).await?;
    println!("{}", line(&state));
    if let Some(Answer::Snapshot(snapshot)) = state.answer.as_ref().and_then(|answer| answer.answer.as_ref())
    {
        print!("{}", shown(snapshot));
    }
    Ok(
        match state.answer.as_ref().and_then(|answer| answer.answer.as_ref()) {
            Some(Answer::Refused(_) | Answer::Failed(_)) => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        },
    )
}

/// How a command stands when it has ended, or when the time is over.
async fn answered(
    client: &mut ResponseClient<Channel>,
    mut state: CommandState,
    wait: Duration,
) -> anyhow::Result<CommandState> {
    let until = Instant::now() + wait;
    let id = state
        .command
        .as_ref()
        .map(|command| command.id.clone())
        .unwrap_or_default();
    while state.ended_ns == 0 && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        let request = ListCommandsRequest {
            id: id.clone(),
            ..ListCommandsRequest::default()
        };
        let listed = client
            .list_commands(request)
            .await
            .map_err(|status| said(&status))?;
        state = listed.into_inner().commands.into_iter().next().unwrap_or(state);
    }
    Ok(state)
}

fn wanted(what: Wanted, dry_run: bool) -> anyhow::Result<What> {
    let order = |kind: ActionKind, pid, is: Option<Is>, lasts: Option<Duration>| {
        What::Order(Order {
            kind: kind.into(),
            pid,
            dry_run,
            object: is.map(|is| Object { is: Some(is) }),
            seconds: lasts.map_or(0, |lasts| lasts.as_secs().max(1)),
            ..Order::default()
        })
    };
    Ok(match what {
        Wanted::Approve { number } => What::Approve(number),
        Wanted::Deny { number } => What::Deny(number),
        Wanted::Undo { number } => What::Undo(number),
        Wanted::Kill { pid, tree: true } => order(ActionKind::KillTree, pid, None, None),
        Wanted::Kill { pid, tree: false } => order(ActionKind::Kill, pid, None, None),
        Wanted::Suspend { pid } => order(ActionKind::Suspend, pid, None, None),
        Wanted::Resume { pid } => order(ActionKind::Resume, pid, None, None),
        Wanted::Disconnect { pid } => order(ActionKind::Disconnect, pid, None, None),
        Wanted::Collect { pid } => order(ActionKind::Collect, pid, None, None),
        Wanted::Block { what, lasts } => {
            let is = if what.starts_with('/') {
                Is::Executable(what)
            } else {
                Is::Network(what)
            };
            order(ActionKind::Block, 0, Some(is), lasts)
        }
        Wanted::Isolate { lasts } => order(ActionKind::Isolate, 0, Some(Is::Host(true)), lasts),
        Wanted::Revoke { uid } => order(ActionKind::Revoke, 0, Some(Is::User(uid)), None),
        Wanted::Quarantine { file } => order(ActionKind::Quarantine, 0, Some(Is::File(file)), None),
        Wanted::Reload => What::Reload(ReloadRequest {}),
        Wanted::Rules { files } => What::Rules(RuleFiles {
            files: files
                .iter()
                .map(|path| rule(path))
                .collect::<anyhow::Result<_>>()?,
        }),
        Wanted::Status => What::Snapshot(SnapshotRequest {}),
    })
}

fn rule(path: &Path) -> anyhow::Result<RuleFile> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the rules {}", path.display()))?;
    Ok(RuleFile {
        name: name.to_owned(),
        text,
    })
}

/// Lists what was asked of hosts.
#[derive(Clone, Debug, clap::Args)]
pub struct CommandsArgs {
    /// Only of this host.
    #[arg(default_value = "")]
    host: String,
    /// At most so many, the latest first.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Which collector.
    #[command(flatten)]
    place: Place,
}

/// Prints a line for each.
///
/// # Errors
/// If no collector answers.
pub async fn list(args: CommandsArgs) -> anyhow::Result<()> {
    let channel = args.place.connect().await?;
    let mut client = ResponseClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let request = ListCommandsRequest {
        host: args.host,
        limit: args.limit,
        ..ListCommandsRequest::default()
    };
    let listed = client
        .list_commands(request)
        .await
        .map_err(|status| said(&status))?
        .into_inner();
    listed
        .commands
        .iter()
        .for_each(|state| println!("{}", line(state)));
    Ok(())
}

fn line(state: &CommandState) -> String {
    let command = state.command.clone().unwrap_or_default();
    let what = command.what.as_ref().map(in_words).unwrap_or_default();
    let came = match (&state.answer, state.ended_ns, state.sent_ns) {
        (Some(answer), ..) if answer.bundle.is_empty() => outcome(answer),
        (Some(answer), ..) => format!("{}; the bundle is {}", outcome(answer), answer.bundle),
        (None, 0, 0) => format!(
            "waits for the host, until {}",
            clock(command.expires_ns.cast_signed())
        ),
        (None, 0, _) => "the host has it, and has not answered".to_owned(),
        (None, ..) => "expired: the host did not come for it in time".to_owned(),
    };
    let asked = clock(state.asked_ns.cast_signed());
    harmless(&format!(
        "{} {asked} {}: {what}, by {}: {came}",
        command.id, state.host, command.who
    ))
}

fn shown(snapshot: &v1::Snapshot) -> String {
    let status = snapshot.status.clone().unwrap_or_default();
    let mut text = harmless(&format!(
        "sensor {} on {}, respond mode {}, {} incidents",
        status.version, status.kernel, status.respond_mode, status.incidents
    ));
    text.push('\n');
    let mut processes: Vec<_> = snapshot.processes.iter().collect();
    processes.sort_by_key(|process| process.id.map(|id| id.tgid));
    for process in processes {
        let pid = process.id.map_or(0, |id| id.tgid);
        text.push_str(&harmless(&format!(
            "{pid:>8} {} {}",
            process.user, process.executable
        )));
        text.push('\n');
    }
    if snapshot.left_out > 0 {
        text.push_str(&format!("and {} processes more\n", snapshot.left_out));
    }
    text
}

#[cfg(test)]
mod tests {
    use sensor_proto::v1::CommandAnswer;

    use super::*;

    #[test]
    fn lines() {
        let state = |sent_ns, ended_ns, answer: Option<Answer>| CommandState {
            host: "web1".into(),
            command: Some(v1::Command {
                id: "c1".into(),
                who: "responder alice".into(),
                expires_ns: 3_600_000_000_000,
                what: Some(wanted(Wanted::Kill { pid: 7, tree: true }, false).expect("an order")),
                ..v1::Command::default()
            }),
            asked_ns: 1_000_000_000,
            sent_ns,
            ended_ns,
            answer: answer.map(|answer| CommandAnswer {
                answer: Some(answer),
                ..CommandAnswer::default()
            }),
        };
        insta::assert_snapshot!(line(&state(0, 0, None)), @"c1 1970-01-01 00:00:01Z web1: kill_tree process 7, by responder alice: waits for the host, until 1970-01-01 01:00:00Z");
        insta::assert_snapshot!(line(&state(1, 0, None)), @"c1 1970-01-01 00:00:01Z web1: kill_tree process 7, by responder alice: the host has it, and has not answered");
        insta::assert_snapshot!(line(&state(0, 1, None)), @"c1 1970-01-01 00:00:01Z web1: kill_tree process 7, by responder alice: expired: the host did not come for it in time");
        let refused = Answer::Refused("this host does not allow it".into());
        insta::assert_snapshot!(line(&state(1, 1, Some(refused))), @"c1 1970-01-01 00:00:01Z web1: kill_tree process 7, by responder alice: refused: this host does not allow it");
    }
}
