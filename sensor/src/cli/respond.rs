//! `sensor respond`: decide about what waits, undo what was done, or have something done.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Subcommand;
use sensor_proto::v1::{
    ActionKind, ListResponsesRequest, ListResponsesResponse, Object, Order, Proposal, RespondRequest,
    agent_client::AgentClient, object::Is, respond_request::Wish, respond_response::Answer,
};

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
    /// Which agent to ask.
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List what waits for a person.
    Pending {
        /// How to write it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List what was done since the agent began, and what came of it: at most the last 256.
    History {
        /// How to write it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List what the kernel refuses now, for how long yet, and how often it has.
    Holding {
        /// How to write it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Have it done.
    Approve(Decision),
    /// Don't have it done.
    Deny(Decision),
    /// Undo what was done.
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

/// Asks the agent and prints its answer.
///
/// # Errors
/// If no agent answers, or it does not do it.
pub async fn run(args: RespondArgs) -> anyhow::Result<()> {
    let mut client = AgentClient::new(args.socket.connect().await?);
    let (wish, why) = match args.command {
        Command::Pending { output } => return list(&mut client, output, pending).await,
        Command::History { output } => return list(&mut client, output, history).await,
        Command::Holding { output } => return list(&mut client, output, holding).await,
        Command::Approve(decision) => (Wish::Approve(decision.number), decision.why),
        Command::Deny(decision) => (Wish::Deny(decision.number), decision.why),
        Command::Undo(decision) => (Wish::Undo(decision.number), decision.why),
        Command::Kill { tree: true, target } => order(ActionKind::KillTree, target),
        Command::Kill { tree: false, target } => order(ActionKind::Kill, target),
        Command::Suspend(target) => order(ActionKind::Suspend, target),
        Command::Resume(target) => order(ActionKind::Resume, target),
        Command::Collect(target) => order(ActionKind::Collect, target),
        Command::Disconnect { target, span } => {
            demand(ActionKind::Disconnect, target.pid, None, span.lasts, target.how)
        }
        Command::Block { what, span, how } => {
            let is = match what.starts_with('/') {
                true => Is::Executable(what),
                false => Is::Network(what),
            };
            demand(ActionKind::Block, 0, Some(is), span.lasts, how)
        }
        Command::Isolate { span, how } => {
            demand(ActionKind::Isolate, 0, Some(Is::Host(true)), span.lasts, how)
        }
        Command::Revoke { user, how } => {
            demand(ActionKind::Revoke, 0, Some(Is::User(uid_of(&user)?)), None, how)
        }
        Command::Quarantine { file, how } => {
            let path = file.to_str().context(
                "the path is not UTF-8; `sensor forensics` takes a bundle of such a file's process",
            )?;
            demand(
                ActionKind::Quarantine,
                0,
                Some(Is::File(path.to_owned())),
                None,
                how,
            )
        }
    };
    let request = RespondRequest {
        wish: Some(wish),
        why,
    };
    let response = client.respond(request).await;
    let response = response.map_err(|status| anyhow::anyhow!("{}", harmless(status.message())))?;
    match response.into_inner().answer {
        Some(Answer::Outcome(outcome)) => println!("{}: {}", outcome.number, became(&outcome)),
        Some(Answer::Begun(number)) => {
            println!("{number}: begun; `sensor respond history` tells what came of it");
        }
        Some(Answer::Plan(plan)) => println!("{}", harmless(&plan)),
        None => {
            anyhow::bail!("the agent is newer than this command and gave an answer that it does not know")
        }
    }
    Ok(())
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
    client: &mut AgentClient<tonic::transport::Channel>,
    output: Output,
    render: fn(&ListResponsesResponse) -> String,
) -> anyhow::Result<()> {
    let response = client.list_responses(ListResponsesRequest {}).await;
    let response = response
        .map_err(|status| anyhow::anyhow!("{}", harmless(status.message())))?
        .into_inner();
    match output {
        Output::Compact => print!("{}", render(&response)),
        Output::Json => println!("{}", to_json(&response, "sensor.v1.ListResponsesResponse")?),
    }
    Ok(())
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
        return "nothing is refused\n".to_owned();
    }
    let lines = responses.holding.iter().map(|hold| {
        let left = Duration::from_secs(hold.ends_in_ns / 1_000_000_000);
        format!(
            "{}: ends in {}, has stopped {}\n",
            short(&hold.what, 200),
            humantime_serde::re::humantime::format_duration(left),
            hold.hits
        )
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
    use sensor_proto::v1::{Action, Hold, Outcome, Process, ProcessId, Result};

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
            holding: vec![Hold {
                what: "executable /tmp/x".to_owned(),
                ends_in_ns: 3_600_000_000_000,
                hits: 3,
            }],
        };
        assert_snapshot!(pending(&responses), @r#"12: kill with descendants [7] /bin/sh, because nginx.service started /bin/sh\x1b[31m; asked, since respond.mode is "ask"; lapses in 1m 1s"#);
        assert_snapshot!(history(&responses), @"00:00:01.000Z 12: kill with descendants [7]: denied, known maintenance (1f, after 1.5 ms) by root (uid 0)");
        assert_snapshot!(holding(&responses), @"executable /tmp/x: ends in 1h, has stopped 3");
        assert_snapshot!(pending(&ListResponsesResponse::default()), @"nothing waits");
    }
}
