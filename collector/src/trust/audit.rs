//! What was done about who may come, and what was asked of hosts: rows that nobody changes unseen.
//!
//! Each row has the SHA-256 over the digest before it and all that it says, each text with its length before it. A row that was
//! changed, taken out or put in breaks the chain at its place. A row is in the transaction of what it tells. Refusals are strangers'
//! doing, so [`REFUSALS`] of them are written in a minute at most, and the next says how many were left out.

use rusqlite::{OptionalExtension as _, Transaction, params};
use sensor_proto::v1::AuditLine;
use sha2::{Digest as _, Sha256};

use super::database::now;

/// Refusals of strangers that are written in a minute.
pub const REFUSALS: i64 = 30;

/// Longest text of a row in bytes.
const TEXT_MAX: usize = 2_048;

/// Rows of one answer.
pub const PAGE: usize = 256;

/// Adds a row.
///
/// # Errors
/// If SQLite fails.
pub fn add(
    transaction: &Transaction<'_>,
    what: &str,
    who: &str,
    about: &str,
    detail: &str,
) -> rusqlite::Result<()> {
    let last = transaction
        .prepare_cached("SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    let (number, previous) = last.unwrap_or_default();
    let mut line = AuditLine {
        number: number.cast_unsigned() + 1,
        time_ns: now().cast_unsigned(),
        what: what.to_owned(),
        who: bounded(who),
        about: bounded(about),
        detail: bounded(detail),
        digest: Vec::new(),
    };
    line.digest = digest(&previous, &line);
    tracing::info!(
        what,
        who = line.who,
        about = line.about,
        "audit {}: {}",
        line.number,
        line.detail
    );
    transaction
        .prepare_cached(
            "INSERT INTO audit (number, time_ns, what, who, about, detail, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            line.number.cast_signed(),
            line.time_ns.cast_signed(),
            line.what,
            line.who,
            line.about,
            line.detail,
            line.digest
        ])?;
    Ok(())
}

/// Adds the refusal of a stranger, unless there were too many of late.
///
/// # Errors
/// If SQLite fails.
pub fn refuse(transaction: &Transaction<'_>, who: &str, about: &str, detail: &str) -> rusqlite::Result<()> {
    let since = now() - 60_000_000_000;
    let recent: i64 = transaction
        .prepare_cached("SELECT count(*) FROM audit WHERE what = 'refused' AND time_ns > ?1")?
        .query_row([since], |row| row.get(0))?;
    match recent {
        ..REFUSALS => add(transaction, "refused", who, about, detail),
        REFUSALS => {
            let detail =
                format!("{detail}; more than {REFUSALS} refusals in a minute: others are not written down");
            add(transaction, "refused", who, about, &detail)
        }
        _ => Ok(()),
    }
}

/// Rows after `after`, at most [`PAGE`] of them.
///
/// # Errors
/// If SQLite fails.
pub fn page(transaction: &Transaction<'_>, after: u64) -> rusqlite::Result<Vec<AuditLine>> {
    let sql = "SELECT number, time_ns, what, who, about, detail, digest FROM audit WHERE number > ?1 ORDER BY number LIMIT ?2";
    let mut statement = transaction.prepare_cached(sql)?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![after, PAGE as i64], |row| {
        Ok(AuditLine {
            number: row.get::<_, i64>(0)?.cast_unsigned(),
            time_ns: row.get::<_, i64>(1)?.cast_unsigned(),
            what: row.get(2)?,
            who: row.get(3)?,
            about: row.get(4)?,
            detail: row.get(5)?,
            digest: row.get(6)?,
        })
    })?;
    rows.collect()
}

/// Follows the chain.
#[derive(Debug, Default)]
pub struct Chain {
    last: Vec<u8>,
    number: u64,
}

impl Chain {
    /// The next row.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn follow(&mut self, line: &AuditLine) -> Result<(), String> {
        let expected = self.number + 1;
        if line.number != expected {
            return Err(format!(
                "line {expected} is missing: {} comes in its place",
                line.number
            ));
        }
        if digest(&self.last, line) != line.digest {
            return Err(format!(
                "line {expected} is not what was written there; what comes before it is intact"
            ));
        }
        self.number = line.number;
        self.last.clone_from(&line.digest);
        Ok(())
    }
}

fn digest(previous: &[u8], line: &AuditLine) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(line.number.to_be_bytes());
    hash.update(line.time_ns.to_be_bytes());
    for text in [&line.what, &line.who, &line.about, &line.detail] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().to_vec()
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{Database, DatabaseError};

    fn filled(count: usize) -> (tempfile::TempDir, Database) {
        let home = tempfile::tempdir().expect("a directory");
        let database = Database::open(home.path()).expect("opens");
        for number in 0..count {
            let done: Result<(), DatabaseError> = database.now(|tx| {
                Ok(add(
                    tx,
                    "invited",
                    "root",
                    &format!("agent web{number}"),
                    "until tomorrow",
                )?)
            });
            done.expect("adds");
        }
        (home, database)
    }

    fn check(database: &Database) -> Result<(), String> {
        let lines: Result<Vec<_>, DatabaseError> = database.now(|tx| Ok(page(tx, 0)?));
        let mut chain = Chain::default();
        lines
            .expect("reads")
            .iter()
            .try_for_each(|line| chain.follow(line))
    }

    #[test]
    fn a_row_that_was_changed_or_taken_out_shows() {
        for (sql, message) in [
            ("SELECT 1", None),
            (
                "UPDATE audit SET about = 'agent db1' WHERE number = 2",
                Some("line 2 is not what was written there; what comes before it is intact"),
            ),
            (
                "UPDATE audit SET time_ns = time_ns + 1 WHERE number = 3",
                Some("line 3 is not what was written there; what comes before it is intact"),
            ),
            (
                "DELETE FROM audit WHERE number = 2",
                Some("line 2 is missing: 3 comes in its place"),
            ),
        ] {
            let (_home, database) = filled(3);
            let done: Result<(), DatabaseError> = database.now(|tx| Ok(tx.execute_batch(sql)?));
            done.expect("changes");
            assert_eq!(check(&database).err().as_deref(), message, "{sql}");
        }
    }

    #[test]
    fn refusals_are_bounded() {
        let (_home, database) = filled(1);
        for _ in 0..200 {
            let done: Result<(), DatabaseError> =
                database.now(|tx| Ok(refuse(tx, "10.0.0.1", "", "no such token")?));
            done.expect("refuses");
        }
        let lines: Result<Vec<_>, DatabaseError> = database.now(|tx| Ok(page(tx, 0)?));
        assert_eq!(lines.expect("reads").len() as i64, 1 + REFUSALS + 1);
        assert_eq!(check(&database), Ok(()));
    }
}
