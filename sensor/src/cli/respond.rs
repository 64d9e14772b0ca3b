//! `sensor respond`: decide about what waits, undo what was done, or have something done.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Subcommand;
use sensor_proto::v1::{
    ActionKind, ListResponsesRequest, ListResponsesResponse, Object, Order, Outcome, Proposal,
    RespondRequest, RespondResponse, Result as Became, agent_client::AgentClient, object::Is,
    respond_request::Wish, respond_response::Answer,
};
use tonic::transport::Channel;

use super::{
    Output,
    connect::SocketArgs,
    json::to_json,
    render::{action_name, became, clock, directed_at},
    text::{harmless, short},
};

/// Decide about what waits for a person, undo what was done, or have something done. Every step is in the audit.
#[derive(Clone, Debug, clap::Args)]
pub struct RespondArgs {
    #[command(subcommand)]
    command: Command,
    /// How to write what came of it, or the list.
    #[arg(short, long, value_enum, default_value_t, global = true)]
    output: Output,
    /// How long to wait for what takes its time; it goes on all the same.
    #[arg(long, value_name = "TIME", default_value = "10s", global = true, value_parser = humantime_serde::re::humantime::parse_duration)]
    wait: Duration,
    /// Which agent to ask.
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List what waits for a person.
    Pending,
    /// List what was done, by agents before this one too, and what came of it: the last 256.
    History,
    /// List what holds until it is undone or its time is over: what the kernel refuses, for how long yet, and how often it has; who is
    /// stopped or locked out; what is in quarantine. With the number by which each is undone.
    Holding,
    /// Have it done.
    Approve(Decision),
    /// Don't have it done.
    Deny(Decision),
    /// Undo what was done under a number.
    Undo(Decision),
    /// End a process.
    Kill {
        /// And all that descends from it.
        #[arg(long)]
        tree: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Stop a process: it runs no further, and can be looked at.
    Suspend(Target),
    /// Let a stopped process go on.
    Resume(Target),
    /// Let a process, and what descends from it, reach nobody over a network, for a time.
    Disconnect {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        span: Span,
    },
    /// Have the kernel stop an executable from running, or anybody from reaching a network, for a time.
    Block {
        /// Path of an executable, or an address or network such as 192.0.2.0/24.
        what: String,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        how: How,
    },
    /// Cut this host off from all networks but its collector, loopback and what `respond.isolate_allow` lists, for a time.
    Isolate {
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        how: How,
    },
    /// End a user's login sessions, lock the account, and let nothing of that login run any more.
    Revoke {
        /// User id, or name.
        user: String,
        #[command(flatten)]
        how: How,
    },
    /// Take a file away to where nobody can run it.
    Quarantine {
        /// Absolute path.
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Make a forensic bundle of a process, which is paused meanwhile.
    Collect(Target),
    /// Let a disconnected process reach networks again.
    Reconnect(Target),
    /// Let an executable run, or a network be reached, again.
    Unblock {
        /// Path of an executable, or an address or network.
        what: String,
        #[command(flatten)]
        how: How,
    },
    /// Connect this host again.
    Release {
        #[command(flatten)]
        how: How,
    },
    /// Unlock a revoked user's account, and let the login run programs again.
    Reinstate {
        /// User id, or name.
        user: String,
        #[command(flatten)]
        how: How,
    },
    /// Put a file back that is in quarantine: the latest that was taken from there. `undo` puts back an earlier one.
    Restore {
        /// Absolute path.
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Decision {
    /// What `sensor respond pending` or `history` shows it under.
    number: u64,
    /// Why, for the audit.
    #[arg(long, default_value = "")]
    why: String,
}

#[derive(Clone, Debug, clap::Args)]
struct Target {
    /// Process id.
    pid: u32,
    #[command(flatten)]
    how: How,
}

#[derive(Clone, Debug, clap::Args)]
struct Span {
    /// For how long, such as 30m or 12h; then it ends by itself. Without it: as the agent's configuration says.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime_serde::re::humantime::parse_duration)]
    lasts: Option<Duration>,
}

#[derive(Clone, Debug, clap::Args)]
struct How {
    /// Why, for the audit.
    #[arg(long, default_value = "")]
    why: String,
    /// Say what would be hit, and whether the guard would let it; do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What a command ends with whose outcome is not known yet.
pub(super) const NOT_YET: u8 = 3;

/// Asks the agent and prints its answer. What was not done ends with 1, what is not known yet with 3.
///
/// # Errors
/// If no agent answers, or it does not know what is meant.
pub async fn run(args: RespondArgs) -> anyhow::Result<ExitCode> {
    let mut client = AgentClient::new(args.socket.connect().await?);
    let output = args.output;
    let (wish, why) = match args.command {
        Command::Pending => return list(&mut client, output, pending).await,
        Command::History => return list(&mut client, output, history).await,
        Command::Holding => return list(&mut client, output, holding).await,
        command => wanted(command)?,
    };
    let is_denial = matches!(wish, Wish::Deny(_));
    let answer = ask(&mut client, wish, why, args.wait).await?;
    match output {
        Output::Compact => println!("{}", said(&answer)),
        Output::Json => {
            let response = RespondResponse {
                answer: Some(answer.clone()),
            };
            println!("{}", to_json(&response, "sensor.v1.RespondResponse")?);
        }
    }
    Ok(match answer {
        Answer::Outcome(outcome) => match outcome.result() {
            Became::Done => ExitCode::SUCCESS,
            Became::Denied if is_denial => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        },
        Answer::Begun(_) => ExitCode::from(NOT_YET),
        Answer::Plan(_) => ExitCode::SUCCESS,
    })
}

fn wanted(command: Command) -> anyhow::Result<(Wish, String)> {
    Ok(match command {
        Command::Pending | Command::History | Command::Holding => anyhow::bail!("lists are no wishes"),
        Command::Approve(decision) => (Wish::Approve(decision.number), decision.why),
        Command::Deny(decision) => (Wish::Deny(decision.number), decision.why),
        Command::Undo(decision) => (Wish::Undo(decision.number), decision.why),
        Command::Kill { tree: true, target } => order(ActionKind::KillTree, target),
        Command::Kill { tree: false, target } => order(ActionKind::Kill, target),
        Command::Suspend(target) => order(ActionKind::Suspend, target),
        Command::Resume(target) => order(ActionKind::Resume, target),
        Command::Collect(target) => order(ActionKind::Collect, target),
        Command::Reconnect(target) => order(ActionKind::Reconnect, target),
        Command::Disconnect { target, span } => {
            demand(ActionKind::Disconnect, target.pid, None, span.lasts, target.how)
        }
        Command::Block { what, span, how } => {
            demand(ActionKind::Block, 0, Some(blockable(what)), span.lasts, how)
        }
        Command::Unblock { what, how } => demand(ActionKind::Unblock, 0, Some(blockable(what)), None, how),
        Command::Isolate { span, how } => {
            demand(ActionKind::Isolate, 0, Some(Is::Host(true)), span.lasts, how)
        }
        Command::Release { how } => demand(ActionKind::Release, 0, Some(Is::Host(true)), None, how),
        Command::Revoke { user, how } => {
            demand(ActionKind::Revoke, 0, Some(Is::User(uid_of(&user)?)), None, how)
        }
        Command::Reinstate { user, how } => demand(
            ActionKind::Reinstate,
            0,
            Some(Is::User(uid_of(&user)?)),
            None,
            how,
        ),
        Command::Quarantine { file, how } => {
            demand(ActionKind::Quarantine, 0, Some(file_named(&file)?), None, how)
        }
        Command::Restore { file, how } => demand(ActionKind::Restore, 0, Some(file_named(&file)?), None, how),
    })
}

fn blockable(what: String) -> Is {
    match what.starts_with('/') {
        true => Is::Executable(what),
        false => Is::Network(what),
    }
}

fn file_named(file: &Path) -> anyhow::Result<Is> {
    let path = file.to_str();
    let path =
        path.context("the path is not UTF-8; `sensor forensics` takes a bundle of such a file's process")?;
    Ok(Is::File(path.to_owned()))
}

/// Has a wish fulfilled, and waits for what comes of it.
///
/// # Errors
/// If the agent does not answer, or does not know what is meant.
pub(super) async fn ask(
    client: &mut AgentClient<Channel>,
    wish: Wish,
    why: String,
    wait: Duration,
) -> anyhow::Result<Answer> {
    const LOOK: Duration = Duration::from_millis(50);
    let request = RespondRequest {
        wish: Some(wish),
        why,
    };
    let response = client.respond(request).await;
    let response = response.map_err(|status| anyhow::anyhow!("{}", harmless(status.message())))?;
    let answer = response.into_inner().answer;
    let answer =
        answer.context("the agent is newer than this command and gave an answer that it does not know")?;
    let Answer::Begun(number) = answer else {
        return Ok(answer);
    };
    let is_it = |outcome: &Outcome| {
        outcome.number == number && !matches!(outcome.result(), Became::Asked | Became::Stopped)
    };
    let until = Instant::now() + wait;
    while Instant::now() < until {
        let history = listed(client).await?.history;
        if let Some(outcome) = history.into_iter().rev().find(is_it) {
            return Ok(Answer::Outcome(outcome));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(Answer::Begun(number))
}

pub(super) fn said(answer: &Answer) -> String {
    match answer {
        Answer::Outcome(outcome) => format!("{}: {}", outcome.number, became(outcome)),
        Answer::Begun(number) => format!("{number}: begun; `sensor respond history` tells what came of it"),
        Answer::Plan(plan) => harmless(plan).into_owned(),
    }
}

fn order(kind: ActionKind, target: Target) -> (Wish, String) {
    demand(kind, target.pid, None, None, target.how)
}

fn demand(kind: ActionKind, pid: u32, is: Option<Is>, lasts: Option<Duration>, how: How) -> (Wish, String) {
    let order = Order {
        kind: kind.into(),
        pid,
        dry_run: how.dry_run,
        object: is.map(|is| Object { is: Some(is) }),
        seconds: lasts.map_or(0, |lasts| lasts.as_secs().max(1)),
        ..Order::default()
    };
    (Wish::Order(order), how.why)
}

fn uid_of(user: &str) -> anyhow::Result<u32> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    let accounts =
        std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd; give the user's id")?;
    let uid = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        (name == user).then_some(uid)
    });
    uid.with_context(|| format!("no account in /etc/passwd is called {user:?}; give the user's id"))
}

async fn list(
    client: &mut AgentClient<Channel>,
    output: Output,
    render: fn(&ListResponsesResponse) -> String,
) -> anyhow::Result<ExitCode> {
    let response = listed(client).await?;
    match output {
        Output::Compact => print!("{}", render(&response)),
        Output::Json => println!("{}", to_json(&response, "sensor.v1.ListResponsesResponse")?),
    }
    Ok(ExitCode::SUCCESS)
}

async fn listed(client: &mut AgentClient<Channel>) -> anyhow::Result<ListResponsesResponse> {
    let response = client.list_responses(ListResponsesRequest {}).await;
    let response = response.map_err(|status| anyhow::anyhow!("{}", harmless(status.message())))?;
    Ok(response.into_inner())
}

fn pending(responses: &ListResponsesResponse) -> String {
    if responses.pending.is_empty() {
        return "nothing waits\n".to_owned();
    }
    responses.pending.iter().map(waiting).collect()
}

/// One proposal: what, to whom, why, why it waits, and for how long.
fn waiting(proposal: &Proposal) -> String {
    let action = proposal.action.as_ref();
    let kind = action.map_or("?", |action| action_name(action.kind()));
    let target = action.map_or_else(String::new, directed_at);
    let executable = proposal
        .process
        .as_ref()
        .map_or("", |process| process.executable.as_str());
    let left = Duration::from_secs(proposal.lapses_in_ns / 1_000_000_000);
    format!(
        "{}: {kind} {target} {}, because {}; asked, since {}; lapses in {}\n",
        proposal.number,
        short(executable, 200),
        short(action.map_or("", |action| &action.reason), 400),
        short(&proposal.because, 200),
        humantime_serde::re::humantime::format_duration(left)
    )
}

fn holding(responses: &ListResponsesResponse) -> String {
    if responses.holding.is_empty() {
        return "nothing is held\n".to_owned();
    }
    let lines = responses.holding.iter().map(|hold| {
        let by = match hold.number {
            0 => "rule or configuration".to_owned(),
            number => number.to_string(),
        };
        let mut line = format!("{by}: {}", short(&hold.what, 200));
        if hold.ends_in_ns > 0 {
            let left = Duration::from_secs(hold.ends_in_ns / 1_000_000_000);
            line.push_str(&format!(
                "; ends in {}, has stopped {}",
                humantime_serde::re::humantime::format_duration(left),
                hold.hits
            ));
        }
        line + "\n"
    });
    lines.collect()
}

fn history(responses: &ListResponsesResponse) -> String {
    if responses.history.is_empty() {
        return "nothing was done\n".to_owned();
    }
    let lines = responses.history.iter().map(|outcome| {
        format!(
            "{} {}: {} by {}\n",
            clock(outcome.time_ns),
            outcome.number,
            became(outcome),
            short(&outcome.who, 64)
        )
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use sensor_proto::v1::{Action, Hold, Process, ProcessId, Result};

    use super::*;

    fn action() -> Action {
        Action {
            kind: ActionKind::KillTree.into(),
            target: Some(ProcessId {
                tgid: 7,
                ..ProcessId::default()
            }),
            incident_id: "1f".to_owned(),
            reason: "nginx.service started /bin/sh\u{1b}[31m".to_owned(),
            ..Action::default()
        }
    }

    #[test]
    fn what_waits_and_what_was() {
        let responses = ListResponsesResponse {
            pending: vec![Proposal {
                number: 12,
                action: Some(action()),
                process: Some(Process {
                    executable: "/bin/sh".to_owned(),
                    ..Process::default()
                }),
                because: "respond.mode is \"ask\"".to_owned(),
                lapses_in_ns: 61_500_000_000,
            }],
            history: vec![Outcome {
                number: 12,
                action: Some(action()),
                result: Result::Denied.into(),
                detail: "known maintenance".to_owned(),
                who: "root (uid 0)".to_owned(),
                time_ns: 1_000_000_000,
                latency_ns: 1_500_000,
                ..Outcome::default()
            }],
            holding: vec![
                Hold {
                    what: "executable /tmp/x".to_owned(),
                    ends_in_ns: 3_600_000_000_000,
                    hits: 3,
                    number: 12,
                },
                Hold {
                    what: "file /tmp/\u{1b}x, in quarantine".to_owned(),
                    number: 14,
                    ..Hold::default()
                },
                Hold {
                    what: "executable /tmp/y".to_owned(),
                    ends_in_ns: 1_000_000_000,
                    ..Hold::default()
                },
            ],
        };
        assert_snapshot!(pending(&responses), @r#"12: kill with descendants [7] /bin/sh, because nginx.service started /bin/sh\x1b[31m; asked, since respond.mode is "ask"; lapses in 1m 1s"#);
        assert_snapshot!(history(&responses), @"00:00:01.000Z 12: kill with descendants [7]: denied, known maintenance (1f, after 1.5 ms) by root (uid 0)");
        assert_snapshot!(holding(&responses), @r"
        12: executable /tmp/x; ends in 1h, has stopped 3
        14: file /tmp/\x1bx, in quarantine
        rule or configuration: executable /tmp/y; ends in 1s, has stopped 0
        ");
        assert_snapshot!(pending(&ListResponsesResponse::default()), @"nothing waits");
    }
}
