//! `sensor feedback`: an incident was none.

use std::time::Duration;

use sensor_proto::v1::{
    AddExceptionRequest, Exception, ExceptionScope, ListExceptionsRequest, RemoveExceptionRequest,
    agent_client::AgentClient,
};

use super::{connect::SocketArgs, models::said, text::harmless};
use crate::{export::Users, time::WallTime};

/// Say that an incident was none, or take that back.
///
/// What was found in it becomes an exception, which has an author, a scope and an end, and the models learn from it at once.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "what", required = true, multiple = false, args = ["false_positive", "list", "remove"])]
pub struct FeedbackArgs {
    /// Id of the incident, as `sensor events` shows it.
    #[arg(value_name = "INCIDENT", requires = "false_positive")]
    incident: Option<String>,
    /// It was none.
    #[arg(long, requires = "incident")]
    false_positive: bool,
    /// How far that goes.
    #[arg(long, value_enum, default_value_t, requires = "false_positive")]
    scope: Scope,
    /// Why, for whoever reads the list later.
    #[arg(long, value_name = "TEXT", default_value = "", requires = "false_positive")]
    why: String,
    /// Until when it holds, from now on.
    #[arg(long = "for", value_name = "TIME", default_value = "90days", requires = "false_positive",
        value_parser = humantime_serde::re::humantime::parse_duration)]
    holds: Duration,
    /// Show what was said so far.
    #[arg(long)]
    list: bool,
    /// Take an exception back: its id.
    #[arg(long, value_name = "ID")]
    remove: Option<String>,
    /// Which agent to tell.
    #[command(flatten)]
    socket: SocketArgs,
}

/// How far an exception goes.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Scope {
    /// Exactly what was found.
    #[default]
    This,
    /// What the same program of the same subject does, as far as the same models look at it.
    Subject,
    /// The same of any subject of this host.
    Program,
}

/// Tells the agent, and prints what it made of that.
///
/// # Errors
/// If no agent answers, or it knows no such incident or exception.
pub async fn run(args: FeedbackArgs) -> anyhow::Result<()> {
    let mut client = AgentClient::new(args.socket.connect().await?);
    if args.list {
        let listed = client
            .list_exceptions(ListExceptionsRequest {})
            .await
            .map_err(said)?;
        let exceptions = listed.into_inner().exceptions;
        if exceptions.is_empty() {
            println!("no exceptions");
        }
        exceptions
            .iter()
            .for_each(|exception| println!("{}", line(exception)));
        return Ok(());
    }
    if let Some(id) = args.remove {
        let removed = client.remove_exception(RemoveExceptionRequest { id: id.clone() });
        removed.await.map_err(said)?;
        println!(
            "exception {} is taken back; what was learned by it stays learned until `sensor models forget`",
            harmless(&id)
        );
        return Ok(());
    }
    let request = AddExceptionRequest {
        incident_id: args.incident.unwrap_or_default(),
        scope: match args.scope {
            Scope::This => ExceptionScope::Unspecified,
            Scope::Subject => ExceptionScope::Subject,
            Scope::Program => ExceptionScope::Program,
        }
        .into(),
        author: author(),
        why: args.why,
        seconds: args.holds.as_secs().max(1),
    };
    let added = client.add_exception(request).await.map_err(said)?;
    if let Some(exception) = added.into_inner().exception {
        println!("{}", line(&exception));
    }
    Ok(())
}

/// Who logged in, where that is somebody else than they are now: who that is, the agent knows by the socket.
fn author() -> String {
    let now = rustix::process::getuid().as_raw();
    let login = std::fs::read_to_string("/proc/self/loginuid").ok();
    let login = login.and_then(|text| text.trim().parse::<u32>().ok());
    match login.filter(|uid| *uid != u32::MAX && *uid != now) {
        None => String::new(),
        Some(uid) => match Users::default().name(uid) {
            name if name.is_empty() => format!("uid {uid}"),
            name => name,
        },
    }
}

fn line(exception: &Exception) -> String {
    let scope = match exception.scope() {
        ExceptionScope::Unspecified => "this",
        ExceptionScope::Subject => "subject",
        ExceptionScope::Program => "program",
    };
    let why = if exception.why.is_empty() {
        String::new()
    } else {
        format!(": {}", harmless(&exception.why))
    };
    format!(
        "{}  {} of incident {} ({scope}), by {} until {}, held back {} times{why}",
        harmless(&exception.id),
        harmless(&exception.subject),
        harmless(&exception.incident_id),
        harmless(&exception.author),
        WallTime(exception.expires_ns),
        exception.held
    )
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn an_exception_is_told() {
        let exception = Exception {
            id: "00ff".into(),
            incident_id: "abcd".into(),
            scope: ExceptionScope::Subject.into(),
            subject: "unit:nginx.service".into(),
            author: "alice as root".into(),
            why: "we deploy like that".into(),
            expires_ns: 1_000_000_000,
            held: 3,
            ..Exception::default()
        };
        assert_snapshot!(line(&exception), @"00ff  unit:nginx.service of incident abcd (subject), by alice as root until 1970-01-01T00:00:01.000Z, held back 3 times: we deploy like that");
    }
}
