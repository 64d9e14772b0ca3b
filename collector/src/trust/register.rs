//! Tokens, certificates and revocations: what is asked of them, and what is written down.

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension as _, Transaction, params};
use sensor_proto::v1::{AuditLine, IdentityState};
use sensor_trust::{Fingerprint, Identity, Secret, Token};

use super::{
    Authority, AuthorityError, Database, DatabaseError, Revocations, audit,
    authority::Issued,
    database::{clock, nanoseconds, now},
};

/// Tokens that may wait at once.
const TOKENS_MAX: i64 = 100_000;

/// How long it is remembered that a token was used or has lapsed: whoever tries it meanwhile is told so.
const TOKEN_MEMORY: Duration = Duration::from_secs(30 * 86_400);

/// Longest time that a token may be good.
pub const VALID_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Why somebody gets no certificate, or nothing of what they asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself what happened")]
pub enum RegisterError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("no such token was given by this collector; ask for one: `collector enroll`")]
    Unknown,
    #[error(
        "the token of {identity} was used already, {at} from {from}; if that was not you, revoke it: `collector revoke`, and ask for another"
    )]
    Used {
        identity: String,
        at: String,
        from: String,
    },
    #[error("the token of {identity} has lapsed {at}; ask for another: `collector enroll`")]
    Lapsed { identity: String, at: String },
    #[error("{TOKENS_MAX} tokens wait already; let them lapse first")]
    Full,
    #[error("{0} is revoked")]
    Revoked(Identity),
    #[error(
        "{0} is revoked, and any certificate that your authority gave them before would be good again if they enrolled: \
         if all of those have ended, or none is in wrong hands, say --lift-revocation"
    )]
    StillOut(Identity),
    #[error(
        "{0} has {VALID_CERTIFICATES_MAX} valid certificates already and gets no more; let them end, or revoke all of them: `collector revoke`"
    )]
    Greedy(Identity),
    #[error(
        "nothing is known of {0}, neither a certificate nor a token; is the name right? `collector identities` lists all"
    )]
    Nobody(Identity),
}

impl From<rusqlite::Error> for RegisterError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.into())
    }
}

/// What a token turned out to be.
enum Redeemed {
    Good(Identity),
    Refused(RegisterError),
}

/// Certificates that one may have at once: two follow each other, and an answer may be lost now and then.
const VALID_CERTIFICATES_MAX: i64 = 16;

/// Who was revoked.
#[derive(Debug, Default)]
pub struct Revoking {
    /// Their certificates that would have been valid yet.
    pub serials: Vec<Box<str>>,
}

/// The register.
#[derive(Clone, Debug)]
pub struct Register {
    /// The database, in which others keep what belongs to the same.
    pub database: Database,
}

impl Register {
    /// In this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Who is let in no more, to begin with.
    ///
    /// # Errors
    /// If the database fails.
    pub fn revocations(&self) -> Result<Revocations, DatabaseError> {
        let revocations = Revocations::default();
        self.database.now(|tx| {
            let mut statement = tx.prepare("SELECT role, name FROM revoked")?;
            let rows =
                statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            for row in rows {
                let (role, name) = row?;
                if let Some(identity) = identity(&role, &name) {
                    revocations.add(identity, []);
                }
            }
            let sql = "SELECT serial FROM certificates WHERE revoked_ns IS NOT NULL AND ends_ns > ?1";
            let mut statement = tx.prepare(sql)?;
            let serials = statement.query_map([now()], |row| row.get::<_, String>(0))?;
            for serial in serials {
                revocations.add_serial(serial?.into());
            }
            Ok::<_, DatabaseError>(())
        })?;
        Ok(revocations)
    }

    /// Makes a token, which `who` asked for. `may_lift`: also for somebody who is revoked, which ends when they enrol with it. Tokens from
    /// before somebody was revoked are taken back then.
    ///
    /// # Errors
    /// If it would have to lift what it may not, too many wait, or the database fails.
    pub async fn invite(
        &self,
        identity: Identity,
        valid: Duration,
        authority: Fingerprint,
        who: String,
        may_lift: bool,
    ) -> Result<(Token, SystemTime), RegisterError> {
        let secret = Secret::random().map_err(AuthorityError::from)?;
        let ends = SystemTime::now() + valid.min(VALID_MAX);
        let digest = secret.digest();
        self.database
            .run(move |tx| {
                tx.execute(
                    "DELETE FROM tokens WHERE expires_ns < ?1",
                    [now() - TOKEN_MEMORY.as_nanos() as i64],
                )?;
                let lifts = is_revoked(tx, &identity)?;
                if lifts && !may_lift {
                    return Err(RegisterError::StillOut(identity));
                }
                let sql = "SELECT count(*) FROM tokens WHERE used_ns IS NULL AND expires_ns > ?1";
                if tx.query_row(sql, [now()], |row| row.get::<_, i64>(0))? >= TOKENS_MAX {
                    return Err(RegisterError::Full);
                }
                tx.execute(
                    "INSERT INTO tokens (digest, role, name, expires_ns) VALUES (?1, ?2, ?3, ?4)",
                    params![
                        digest,
                        identity.role.name(),
                        identity.name.as_str(),
                        nanoseconds(ends)
                    ],
                )?;
                let lifts = if lifts { "; it lifts the revocation" } else { "" };
                let detail = format!("a token, good until {}{lifts}", clock(nanoseconds(ends)));
                audit::add(tx, "invited", &who, &identity.to_string(), &detail)?;
                Ok(())
            })
            .await?;
        Ok((Token { secret, authority }, ends))
    }

    /// Takes a token and gives what `certify` makes for whom it is of. The token is used up by it, and not if `certify` fails.
    ///
    /// # Errors
    /// If the token is not good; that is in the audit.
    pub async fn enroll(
        &self,
        secret: Secret,
        from: String,
        certify: impl FnOnce(&Identity) -> Result<Issued, AuthorityError> + Send + 'static,
    ) -> Result<(Identity, Issued), RegisterError> {
        self.database
            .run(move |tx| {
                let identity = match redeem(tx, &secret, &from)? {
                    Redeemed::Good(identity) => identity,
                    Redeemed::Refused(error) => return Ok(Err(error)),
                };
                let issued = certify(&identity)?;
                keep(tx, &identity, &issued)?;
                tx.execute(
                    "DELETE FROM revoked WHERE role = ?1 AND name = ?2",
                    params![identity.role.name(), identity.name.as_str()],
                )?;
                audit::add(tx, "enrolled", &from, &identity.to_string(), &described(&issued))?;
                Ok::<_, RegisterError>(Ok((identity, issued)))
            })
            .await?
    }

    /// Notes the next certificate of somebody, unless they were revoked meanwhile.
    ///
    /// # Errors
    /// If they were, or the database fails.
    pub async fn renew(&self, identity: Identity, issued: Issued) -> Result<Issued, RegisterError> {
        self.database
            .run(move |tx| {
                if is_revoked(tx, &identity)? {
                    return Err(RegisterError::Revoked(identity));
                }
                let sql = "SELECT count(*) FROM certificates
                           WHERE role = ?1 AND name = ?2 AND revoked_ns IS NULL AND ends_ns > ?3";
                let valid: i64 = tx.query_row(
                    sql,
                    params![identity.role.name(), identity.name.as_str(), now()],
                    |row| row.get(0),
                )?;
                if valid >= VALID_CERTIFICATES_MAX {
                    return Err(RegisterError::Greedy(identity));
                }
                keep(tx, &identity, &issued)?;
                let who = identity.to_string();
                audit::add(tx, "renewed", &who, &who, &described(&issued))?;
                Ok(issued)
            })
            .await
    }

    /// Notes that somebody is let in no more, and takes back what waits for them. `strict`: only if they are known.
    ///
    /// # Errors
    /// If nobody knows them, or the database fails.
    pub async fn revoke(
        &self,
        identity: Identity,
        who: String,
        why: String,
        strict: bool,
    ) -> Result<Revoking, RegisterError> {
        self.database
            .run(move |tx| {
                let (role, name) = (identity.role.name(), identity.name.as_str());
                let sql = "SELECT (SELECT count(*) FROM certificates WHERE role = ?1 AND name = ?2)
                                + (SELECT count(*) FROM tokens WHERE role = ?1 AND name = ?2)";
                let known: i64 = tx.query_row(sql, params![role, name], |row| row.get(0))?;
                if strict && known == 0 {
                    return Err(RegisterError::Nobody(identity));
                }
                let sql = "UPDATE certificates SET revoked_ns = ?3
                           WHERE role = ?1 AND name = ?2 AND revoked_ns IS NULL AND ends_ns > ?3 RETURNING serial";
                let mut statement = tx.prepare(sql)?;
                let serials = statement.query_map(params![role, name, now()], |row| row.get::<_, String>(0))?;
                let serials: Vec<Box<str>> = serials.map(|serial| serial.map(Into::into)).collect::<Result<_, _>>()?;
                tx.execute("DELETE FROM tokens WHERE role = ?1 AND name = ?2 AND used_ns IS NULL", params![role, name])?;
                tx.execute(
                    "INSERT INTO revoked (role, name, since_ns) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                    params![role, name, now()],
                )?;
                let detail = format!("{} certificates{}", serials.len(), because(&why));
                audit::add(tx, "revoked", &who, &identity.to_string(), &detail)?;
                Ok(Revoking { serials })
            })
            .await
    }

    /// Notes that somebody was refused.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn refuse(&self, who: String, about: String, detail: String) -> Result<(), RegisterError> {
        self.database
            .run(move |tx| Ok(audit::refuse(tx, &who, &about, &detail)?))
            .await
    }

    /// Everybody who is known; connections are for the caller to say.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn identities(&self) -> Result<Vec<IdentityState>, RegisterError> {
        self.database.run(|tx| Ok(identities(tx)?)).await
    }

    /// What was done, after a line.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn audit(&self, after: u64) -> Result<Vec<AuditLine>, RegisterError> {
        self.database.run(move |tx| Ok(audit::page(tx, after)?)).await
    }
}

fn is_revoked(tx: &Transaction<'_>, identity: &Identity) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM revoked WHERE role = ?1 AND name = ?2";
    let found = tx.query_row(sql, params![identity.role.name(), identity.name.as_str()], |_| {
        Ok(())
    });
    Ok(found.optional()?.is_some())
}

fn redeem(tx: &Transaction<'_>, secret: &Secret, from: &str) -> Result<Redeemed, RegisterError> {
    type Row = (String, String, i64, Option<i64>, Option<String>);
    let sql = "SELECT role, name, expires_ns, used_ns, used_from FROM tokens WHERE digest = ?1";
    let found = tx.query_row(sql, [secret.digest()], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
    });
    let found: Option<Row> = found.optional()?;
    let Some((role, name, expires, used, used_from)) = found else {
        audit::refuse(tx, from, "", &RegisterError::Unknown.to_string())?;
        return Ok(Redeemed::Refused(RegisterError::Unknown));
    };
    let Some(identity) = identity(&role, &name) else {
        return Ok(Redeemed::Refused(RegisterError::Unknown));
    };
    let refused = match used {
        Some(at) => RegisterError::Used {
            identity: identity.to_string(),
            at: clock(at),
            from: used_from.unwrap_or_default(),
        },
        None if expires <= now() => RegisterError::Lapsed {
            identity: identity.to_string(),
            at: clock(expires),
        },
        None => {
            let sql = "UPDATE tokens SET used_ns = ?2, used_from = ?3 WHERE digest = ?1";
            tx.execute(sql, params![secret.digest(), now(), from])?;
            return Ok(Redeemed::Good(identity));
        }
    };
    audit::refuse(tx, from, &identity.to_string(), &refused.to_string())?;
    Ok(Redeemed::Refused(refused))
}

fn keep(tx: &Transaction<'_>, identity: &Identity, issued: &Issued) -> rusqlite::Result<()> {
    tx.execute(
        "DELETE FROM certificates WHERE ends_ns < ?1 AND role = ?2 AND name = ?3",
        params![
            now() - TOKEN_MEMORY.as_nanos() as i64,
            identity.role.name(),
            identity.name.as_str()
        ],
    )?;
    tx.execute(
        "INSERT INTO certificates (serial, role, name, ends_ns) VALUES (?1, ?2, ?3, ?4)",
        params![
            &*issued.certificate.serial,
            identity.role.name(),
            identity.name.as_str(),
            nanoseconds(issued.certificate.ends)
        ],
    )?;
    Ok(())
}

fn identities(tx: &Transaction<'_>) -> rusqlite::Result<Vec<IdentityState>> {
    let sql = "
        WITH known AS (
            SELECT role, name FROM certificates UNION SELECT role, name FROM tokens WHERE used_ns IS NULL AND expires_ns > ?1
            UNION SELECT role, name FROM revoked)
        SELECT role, name,
            (SELECT max(ends_ns) FROM certificates c WHERE c.role = k.role AND c.name = k.name AND revoked_ns IS NULL),
            (SELECT since_ns FROM revoked r WHERE r.role = k.role AND r.name = k.name),
            (SELECT max(expires_ns) FROM tokens t WHERE t.role = k.role AND t.name = k.name AND used_ns IS NULL AND expires_ns > ?1)
        FROM known k ORDER BY role, name";
    let mut statement = tx.prepare(sql)?;
    let time = |value: Option<i64>| value.unwrap_or_default().cast_unsigned();
    let rows = statement.query_map([now()], |row| {
        Ok(IdentityState {
            role: row.get(0)?,
            name: row.get(1)?,
            certificate_ends_ns: time(row.get(2)?),
            revoked_ns: time(row.get(3)?),
            invited_until_ns: time(row.get(4)?),
            connections: 0,
        })
    })?;
    rows.collect()
}

fn identity(role: &str, name: &str) -> Option<Identity> {
    Some(Identity {
        role: role.parse().ok()?,
        name: name.parse().ok()?,
    })
}

fn described(issued: &Issued) -> String {
    let about = &issued.certificate;
    format!(
        "certificate {}, valid until {}",
        about.serial,
        clock(nanoseconds(about.ends))
    )
}

fn because(why: &str) -> String {
    match why {
        "" => String::new(),
        why => format!(": {why}"),
    }
}

/// What the register gives through the authority.
pub(super) fn certifying(
    authority: std::sync::Arc<Authority>,
    key: sensor_trust::request::Requested,
    lifetime: Duration,
) -> impl FnOnce(&Identity) -> Result<Issued, AuthorityError> + Send + 'static {
    move |identity| authority.certify(identity, &key, lifetime)
}
