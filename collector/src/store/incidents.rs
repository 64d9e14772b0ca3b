//! Incidents of all hosts, each as it was last told.

use prost::Message as _;
use rusqlite::{Connection, Transaction, params};
use sensor_proto::v1::{Ending, Entry, HostIncident, Incident, ListFleetIncidentsRequest, entry};
use sensor_storage::now;

use super::as_far_as_it_goes;
use crate::fleet::incidents::PREFIX;

/// Most incidents in one answer.
const ANSWER_MAX: u32 = 1000;

/// Most incidents that are kept, of one host and of all; those that have not been heard of for the longest go first. They stay in the lake.
const KEPT_OF_HOST: i64 = 10_000;
const KEPT: i64 = 100_000;

/// Longest id. Agents' own are far shorter.
const ID_BYTES_MAX: usize = 256;

/// Of an incident that is longer than this, only how it stands is kept.
const ROW_BYTES_MAX: usize = 64 << 10;

/// Notes the incidents among the entries that an agent delivered. What only the collector says is not believed of an agent.
pub(super) fn note(transaction: &Transaction<'_>, host: &str, entries: &[Entry]) -> rusqlite::Result<()> {
    let mut noted = false;
    for entry in entries {
        if let Some(entry::Body::Incident(incident)) = &entry.body
            && !incident.id.starts_with(PREFIX)
            && incident.id.len() <= ID_BYTES_MAX
        {
            put(transaction, host, incident)?;
            noted = true;
        }
    }
    if noted {
        transaction
            .prepare_cached(
                "DELETE FROM incidents WHERE rowid IN
                 (SELECT rowid FROM incidents WHERE host = ?1 ORDER BY updated_ns DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![host, KEPT_OF_HOST])?;
        transaction
            .prepare_cached(
                "DELETE FROM incidents WHERE rowid IN (SELECT rowid FROM incidents ORDER BY updated_ns DESC LIMIT -1 OFFSET ?1)",
            )?
            .execute([KEPT])?;
    }
    Ok(())
}

/// Notes one. A time that is yet to come would keep it before all others.
pub(super) fn put(transaction: &Transaction<'_>, host: &str, incident: &Incident) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO incidents (host, id, updated_ns, severity, open, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (host, id) DO UPDATE SET updated_ns = ?3, severity = ?4, open = ?5, body = ?6",
        )?
        .execute(params![
            host,
            incident.id,
            i64::try_from(incident.updated_ns).unwrap_or(i64::MAX).min(now()),
            incident.severity,
            incident.ended.is_none(),
            row(incident)
        ])?;
    Ok(())
}

/// An incident as it is kept. All of it is in the lake.
fn row(incident: &Incident) -> Vec<u8> {
    let mut incident = incident.clone();
    if incident.encoded_len() > ROW_BYTES_MAX {
        incident.signals.clear();
        incident.outcomes.clear();
        incident.processes.clear();
    }
    if incident.encoded_len() > ROW_BYTES_MAX {
        incident = Incident {
            id: incident.id,
            opened_ns: incident.opened_ns,
            updated_ns: incident.updated_ns,
            severity: incident.severity,
            summary: "it is too long to be listed; the lake has it".to_owned(),
            count: incident.count,
            ended: incident.ended.map(|ended| Ending {
                reason: ended.reason,
                ..Ending::default()
            }),
            ..Incident::default()
        };
    }
    incident.encode_to_vec()
}

/// Those that are asked for, the latest first.
pub(super) fn list(
    connection: &Connection,
    request: &ListFleetIncidentsRequest,
) -> rusqlite::Result<Vec<HostIncident>> {
    let limit = match request.limit {
        0 => ANSWER_MAX,
        limit => limit.min(ANSWER_MAX),
    };
    let mut statement = connection.prepare_cached(
        "SELECT host, body FROM incidents
         WHERE (open OR NOT ?1) AND (?2 = '' OR host = ?2) AND severity >= ?3
         ORDER BY updated_ns DESC LIMIT ?4",
    )?;
    let rows = statement.query_map(
        params![request.open, request.host, request.severity, limit],
        |row| {
            let body: Vec<u8> = row.get(1)?;
            Ok(HostIncident {
                host: row.get(0)?,
                // What is there was encoded here.
                incident: Incident::decode(&*body).ok(),
            })
        },
    )?;
    as_far_as_it_goes(rows)
}
