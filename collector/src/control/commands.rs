//! Commands and bundles in the database.

use std::time::Duration;

use prost::Message as _;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use sensor_proto::{
    action_name, result_name,
    v1::{
        ActionKind, BundleState, Command, CommandAnswer, CommandState, Object, OfferBundleRequest,
        RespondResponse, command::What, command_answer::Answer, object::Is, respond_response,
    },
};

use crate::trust::{
    Database, DatabaseError, audit,
    database::{clock, now},
};

/// Commands that may wait for a host at once.
const WAITING_MAX: i64 = 256;

/// How long a command is kept when it has ended.
const KEPT: Duration = Duration::from_secs(90 * 86_400);

/// How long a command is told again that was told and has no answer.
const AGAIN: Duration = Duration::from_secs(7 * 86_400);

/// Why something is not asked, or a bundle not taken.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself what happened")]
pub enum CommandError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(
        "{WAITING_MAX} commands wait for {host} already; does it ever come? `collector identities` tells"
    )]
    Full { host: String },
    #[error("another command has the id {0:?}; leave it out, and one is made")]
    Another(String),
    #[error("there is no {0}")]
    Unknown(String),
    #[error("nobody asked {0} for this bundle")]
    NotAsked(String),
}

impl From<rusqlite::Error> for CommandError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.into())
    }
}

/// The commands.
#[derive(Clone, Debug)]
pub struct Commands(Database);

const COLUMNS: &str = "host, body, asked_ns, sent_ns, ended_ns, answer";

impl Commands {
    pub(super) fn new(database: Database) -> Self {
        Self(database)
    }

    /// Keeps a command for `host`, unless it is there already, and returns how it stands.
    ///
    /// # Errors
    /// If another has its id, too many wait, or the database fails.
    pub async fn ask(&self, host: String, command: Command) -> Result<CommandState, CommandError> {
        self.0
            .run(move |tx| {
                if let Some(known) = find(tx, &command.id)? {
                    let same = known.host == host
                        && known.command.as_ref().is_some_and(|known| known.what == command.what && known.who == command.who);
                    return if same { Ok(known) } else { Err(CommandError::Another(command.id)) };
                }
                let sql = "SELECT count(*) FROM commands WHERE host = ?1 AND ended_ns IS NULL";
                if tx.query_row(sql, [&host], |row| row.get::<_, i64>(0))? >= WAITING_MAX {
                    return Err(CommandError::Full { host });
                }
                let asked = now();
                tx.execute("DELETE FROM commands WHERE ended_ns < ?1", [asked - KEPT.as_nanos() as i64])?;
                tx.execute(
                    "INSERT INTO commands (id, host, who, why, body, asked_ns, expires_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        command.id,
                        host,
                        command.who,
                        command.why,
                        command.encode_to_vec(),
                        asked,
                        command.expires_ns.cast_signed()
                    ],
                )?;
                audit::add(tx, "asked", &command.who, &format!("agent {host}"), &described(&command))?;
                Ok(CommandState {
                    host,
                    command: Some(command),
                    asked_ns: asked.cast_unsigned(),
                    ..CommandState::default()
                })
            })
            .await
    }

    /// What `host` is to be told: what has no answer. It is noted as told.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn tell(&self, host: String) -> Result<Vec<Command>, CommandError> {
        self.0
            .run(move |tx| {
                expire(tx)?;
                let sql = "SELECT id, body FROM commands WHERE host = ?1 AND ended_ns IS NULL ORDER BY asked_ns, rowid";
                let mut statement = tx.prepare(sql)?;
                let rows = statement.query_map([&host], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
                let mut commands = Vec::new();
                for row in rows {
                    let (id, body) = row?;
                    tx.execute("UPDATE commands SET sent_ns = ifnull(sent_ns, ?2) WHERE id = ?1", params![id, now()])?;
                    commands.extend(Command::decode(&*body).ok());
                }
                Ok(commands)
            })
            .await
    }

    /// Keeps the first answer of `host` to a command of its own; what else it says is passed over.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn answer(&self, host: String, answer: CommandAnswer) -> Result<(), CommandError> {
        self.0
            .run(move |tx| {
                let sql = "UPDATE commands SET ended_ns = ?3, answer = ?4 WHERE id = ?1 AND host = ?2 AND ended_ns IS NULL";
                let changed = tx.execute(sql, params![answer.id, host, now(), answer.encode_to_vec()])?;
                if changed == 1 {
                    let detail = format!("{}: {}", answer.id, outcome(&answer));
                    audit::add(tx, "answered", &format!("agent {host}"), &format!("agent {host}"), &detail)?;
                }
                Ok(())
            })
            .await
    }

    /// Ends what nobody came for in time, and what was never answered.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn expire(&self) -> Result<(), CommandError> {
        self.0.run(|tx| Ok(expire(tx)?)).await
    }

    /// What was asked, the latest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list(
        &self,
        host: String,
        id: String,
        limit: u32,
    ) -> Result<Vec<CommandState>, CommandError> {
        self.0
            .run(move |tx| {
                expire(tx)?;
                let sql = format!(
                    "SELECT {COLUMNS} FROM commands WHERE (?1 = '' OR host = ?1) AND (?2 = '' OR id = ?2)
                     ORDER BY asked_ns DESC, rowid DESC LIMIT ?3"
                );
                let mut statement = tx.prepare(&sql)?;
                let rows = statement.query_map(params![host, id, limit], state)?;
                Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
            })
            .await
    }

    /// Notes that `host` has a bundle, if a command asked it for one.
    ///
    /// # Errors
    /// If none did, or the database fails.
    pub async fn offer(&self, host: String, offer: OfferBundleRequest) -> Result<(), CommandError> {
        self.0
            .run(move |tx| {
                let asked = find(tx, &offer.command)?.filter(|state| state.host == host && collects(state));
                if asked.is_none() {
                    return Err(CommandError::NotAsked(host));
                }
                let taken: i64 = tx.query_row(
                    "SELECT count(*) FROM bundles WHERE command = ?1 AND id <> ?2",
                    params![offer.command, offer.sha256],
                    |row| row.get(0),
                )?;
                if taken > 0 {
                    return Err(CommandError::NotAsked(host));
                }
                tx.execute(
                    "INSERT INTO bundles (id, host, name, size, command, received) VALUES (?1, ?2, ?3, ?4, ?5, 0) ON CONFLICT DO NOTHING",
                    params![offer.sha256, host, offer.name, offer.size.cast_signed(), offer.command],
                )?;
                Ok(())
            })
            .await
    }

    /// Notes that all of a bundle is there and is what was offered.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn received(&self, bundle: BundleState) -> Result<(), CommandError> {
        self.0
            .run(move |tx| {
                let sql =
                    "UPDATE bundles SET received = size, ended_ns = ?2 WHERE id = ?1 AND ended_ns IS NULL";
                if tx.execute(sql, params![bundle.sha256, now()])? == 1 {
                    let who = format!("agent {}", bundle.host);
                    let detail = format!(
                        "{}, {} bytes, SHA-256 {}",
                        bundle.name, bundle.size, bundle.sha256
                    );
                    audit::add(tx, "bundle", &who, &who, &detail)?;
                }
                Ok(())
            })
            .await
    }

    /// Bundles of a host, or of all; those whose SHA-256 begins so.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn bundles(&self, host: String, begins: String) -> Result<Vec<BundleState>, CommandError> {
        self.0
            .run(move |tx| {
                let sql = "SELECT id, host, name, size, received, ended_ns, command FROM bundles
                           WHERE (?1 = '' OR host = ?1) AND substr(id, 1, length(?2)) = ?2 ORDER BY rowid DESC LIMIT 1000";
                let mut statement = tx.prepare(sql)?;
                let rows = statement.query_map(params![host, begins], |row| {
                    Ok(BundleState {
                        sha256: row.get(0)?,
                        host: row.get(1)?,
                        name: row.get(2)?,
                        size: row.get::<_, i64>(3)?.cast_unsigned(),
                        received: row.get::<_, i64>(4)?.cast_unsigned(),
                        ended_ns: row.get::<_, Option<i64>>(5)?.unwrap_or_default().cast_unsigned(),
                        command: row.get(6)?,
                    })
                })?;
                Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
            })
            .await
    }
}

fn find(tx: &Transaction<'_>, id: &str) -> rusqlite::Result<Option<CommandState>> {
    let sql = format!("SELECT {COLUMNS} FROM commands WHERE id = ?1");
    tx.query_row(&sql, [id], state).optional()
}

fn state(row: &Row<'_>) -> rusqlite::Result<CommandState> {
    let time = |value: Option<i64>| value.unwrap_or_default().cast_unsigned();
    Ok(CommandState {
        host: row.get(0)?,
        command: Command::decode(&*row.get::<_, Vec<u8>>(1)?).ok(),
        asked_ns: row.get::<_, i64>(2)?.cast_unsigned(),
        sent_ns: time(row.get(3)?),
        ended_ns: time(row.get(4)?),
        answer: row
            .get::<_, Option<Vec<u8>>>(5)?
            .and_then(|bytes| CommandAnswer::decode(&*bytes).ok()),
    })
}

fn expire(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let sql = "UPDATE commands SET ended_ns = ?1
               WHERE ended_ns IS NULL AND (sent_ns IS NULL AND expires_ns <= ?1 OR expires_ns <= ?1 - ?2)
               RETURNING id, host, expires_ns";
    let mut statement = tx.prepare(sql)?;
    let rows = statement.query_map(params![now(), AGAIN.as_nanos() as i64], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, i64>(2)?,
        ))
    })?;
    for (id, host, expired) in rows.collect::<rusqlite::Result<Vec<_>>>()? {
        let detail = format!("{id}: no answer; it was to be begun before {}", clock(expired));
        audit::add(tx, "expired", "time", &format!("agent {host}"), &detail)?;
    }
    Ok(())
}

fn collects(state: &CommandState) -> bool {
    let what = state.command.as_ref().and_then(|command| command.what.as_ref());
    matches!(what, Some(What::Order(order)) if order.kind() == ActionKind::Collect)
}

fn described(command: &Command) -> String {
    let what = command.what.as_ref().map(in_words).unwrap_or_default();
    let why = if command.why.is_empty() {
        String::new()
    } else {
        format!(": {}", command.why)
    };
    format!(
        "{}: {what}, until {}{why}",
        command.id,
        clock(command.expires_ns.cast_signed())
    )
}

/// What is asked, in words.
pub(crate) fn in_words(what: &What) -> String {
    match what {
        What::Approve(number) => format!("approve {number}"),
        What::Deny(number) => format!("deny {number}"),
        What::Undo(number) => format!("undo {number}"),
        What::Order(order) => {
            let target = order
                .object
                .as_ref()
                .map_or_else(|| format!("process {}", order.pid), object);
            format!(
                "{} {target}{}",
                action_name(order.kind()),
                if order.dry_run {
                    ", only to see what it would hit"
                } else {
                    ""
                }
            )
        }
        What::Reload(_) => "read the configuration again".to_owned(),
        What::Rules(files) => format!("use {} files of rules", files.files.len()),
        What::Snapshot(_) => "show how it is and what runs".to_owned(),
    }
}

/// What is no process, in words.
pub(crate) fn object(object: &Object) -> String {
    match &object.is {
        None => "something that this collector does not know".to_owned(),
        Some(Is::Executable(path) | Is::File(path)) => path.clone(),
        Some(Is::User(uid)) => format!("uid {uid}"),
        Some(Is::Host(_)) => "the host".to_owned(),
        Some(Is::Network(network)) => network.clone(),
    }
}

/// What came of it, in words.
pub(crate) fn outcome(answer: &CommandAnswer) -> String {
    match &answer.answer {
        None => "an answer that this collector does not know".to_owned(),
        Some(Answer::Refused(why)) => format!("refused: {why}"),
        Some(Answer::Failed(why)) => format!("failed: {why}"),
        Some(Answer::Response(RespondResponse { answer })) => match answer {
            None => "an answer that this collector does not know".to_owned(),
            Some(respond_response::Answer::Begun(number)) => format!("begun as number {number}"),
            Some(respond_response::Answer::Plan(plan)) => format!("it would hit: {plan}"),
            Some(respond_response::Answer::Outcome(outcome)) => {
                let result = result_name(outcome.result());
                let detail = if outcome.detail.is_empty() {
                    String::new()
                } else {
                    format!(", {}", outcome.detail)
                };
                format!("{result}{detail} (number {})", outcome.number)
            }
        },
        Some(Answer::Reloaded(reloaded)) => {
            let applied = if reloaded.applied.is_empty() {
                "nothing has changed".to_owned()
            } else {
                reloaded.applied.join(", ")
            };
            format!("in force: {applied}; {}", reloaded.rules)
        }
        Some(Answer::Snapshot(snapshot)) => format!("{} processes", snapshot.processes.len()),
    }
}
