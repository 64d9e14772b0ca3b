//! What agents would do if somebody approved it, as they tell it in the stream: an outcome that asks, then one that says what came of it.

use std::cmp::Reverse;

use prost::Message as _;
use rusqlite::{Connection, Transaction, params};
use sensor_proto::v1::{Approval, Entry, ListApprovalsRequest, Outcome, Result as Became, entry};
use sensor_storage::now;

use super::as_far_as_it_goes;

/// Most in one answer.
const ANSWER_MAX: u32 = 1000;

/// Most that are kept, of one host and of all; the oldest go first. They stay in the lake.
const KEPT_OF_HOST: i64 = 1_000;
const KEPT: i64 = 100_000;

/// Of an outcome that is longer than this, only what is needed to decide is kept. Agents' own are far shorter.
const ROW_BYTES_MAX: usize = 16 << 10;

/// Notes what is asked, and what came of what was asked, among the entries that an agent delivered.
pub(super) fn note(transaction: &Transaction<'_>, host: &str, entries: &[Entry]) -> rusqlite::Result<()> {
    let mut asked = false;
    for entry in entries {
        let Some(entry::Body::Outcome(outcome)) = &entry.body else {
            continue;
        };
        if outcome.result() == Became::Asked {
            ask(transaction, host, outcome)?;
            asked = true;
        } else {
            transaction
                .prepare_cached(
                    "UPDATE approvals SET outcome = ?3 WHERE host = ?1 AND number = ?2 AND outcome IS NULL",
                )?
                .execute(params![host, outcome.number.cast_signed(), row(outcome)])?;
        }
    }
    if asked {
        transaction
            .prepare_cached(
                "DELETE FROM approvals WHERE rowid IN
                 (SELECT rowid FROM approvals WHERE host = ?1 ORDER BY asked_ns DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![host, KEPT_OF_HOST])?;
        // What is decided goes first.
        transaction
            .prepare_cached(
                "DELETE FROM approvals WHERE rowid IN
                 (SELECT rowid FROM approvals ORDER BY outcome IS NULL, asked_ns
                  LIMIT max(0, (SELECT count(*) FROM approvals) - ?1))",
            )?
            .execute([KEPT])?;
    }
    Ok(())
}

/// An agent that asks under a number that is there already, or is lower than one that is undecided, has begun anew: what it meant before
/// cannot be approved any more. A time that is yet to come would keep it before all others.
fn ask(transaction: &Transaction<'_>, host: &str, asked: &Outcome) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM approvals WHERE host = ?1 AND number > ?2 AND outcome IS NULL")?
        .execute(params![host, asked.number.cast_signed()])?;
    transaction
        .prepare_cached(
            "INSERT INTO approvals (host, number, asked_ns, asked) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (host, number) DO UPDATE SET asked_ns = ?3, asked = ?4, outcome = NULL",
        )?
        .execute(params![
            host,
            asked.number.cast_signed(),
            i64::try_from(asked.time_ns).unwrap_or(i64::MAX).min(now()),
            row(asked)
        ])?;
    Ok(())
}

/// An outcome as it is kept.
fn row(outcome: &Outcome) -> Vec<u8> {
    if outcome.encoded_len() <= ROW_BYTES_MAX {
        return outcome.encode_to_vec();
    }
    Outcome {
        result: outcome.result,
        detail: "it is too long to be listed; the host itself tells it".to_owned(),
        time_ns: outcome.time_ns,
        number: outcome.number,
        ..Outcome::default()
    }
    .encode_to_vec()
}

/// Those that are asked for, the latest of each host first: none keeps those of others from being told.
pub(super) fn list(
    connection: &Connection,
    request: &ListApprovalsRequest,
) -> rusqlite::Result<Vec<Approval>> {
    let limit = match request.limit {
        0 => ANSWER_MAX,
        limit => limit.min(ANSWER_MAX),
    };
    let mut statement = connection.prepare_cached(
        "SELECT host, asked, outcome FROM approvals
         WHERE (outcome IS NULL OR ?1) AND (?2 = '' OR host = ?2)
         ORDER BY row_number() OVER (PARTITION BY host ORDER BY asked_ns DESC, number DESC), asked_ns DESC LIMIT ?3",
    )?;
    // What is there was encoded here.
    let read = |bytes: Vec<u8>| Outcome::decode(&*bytes).ok();
    let rows = statement.query_map(params![request.decided, request.host, limit], |row| {
        Ok(Approval {
            host: row.get(0)?,
            asked: read(row.get(1)?),
            outcome: row.get::<_, Option<Vec<u8>>>(2)?.and_then(read),
        })
    })?;
    let mut approvals = as_far_as_it_goes(rows)?;
    approvals
        .sort_by_key(|approval| Reverse(approval.asked.as_ref().map(|asked| (asked.time_ns, asked.number))));
    Ok(approvals)
}
