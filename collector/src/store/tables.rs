//! The tables, as a list of steps from one version of the schema to the next.
//!
//! Numbers that may exceed what SQLite's signed integers hold (`epoch`) are stored bit for bit.

/// What makes each version of the schema of the one before.
pub(super) const MIGRATIONS: [&str; 4] = [
    "
CREATE TABLE hosts (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    agent_version TEXT NOT NULL,
    last_seen_ns INTEGER NOT NULL,
    entries INTEGER NOT NULL
) STRICT;
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    host INTEGER NOT NULL REFERENCES hosts (id),
    epoch INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    UNIQUE (host, epoch)
) STRICT;
CREATE TABLE batches (
    stream INTEGER NOT NULL REFERENCES streams (id),
    sequence INTEGER NOT NULL,
    received_ns INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (stream, sequence)
) STRICT;
",
    // Positions, and the lake. That sequences are unique is seen to by `streams.stored`; an index would cost each batch a page.
    "
ALTER TABLE batches RENAME TO unplaced;
CREATE TABLE batches (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES streams (id),
    sequence INTEGER NOT NULL,
    received_ns INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
INSERT INTO batches
    SELECT 1 + sum(entries) OVER (ORDER BY rowid) - entries, stream, sequence, received_ns, entries, body FROM unplaced;
CREATE TABLE positions (
    next INTEGER NOT NULL,
    floor INTEGER NOT NULL
) STRICT;
INSERT INTO positions SELECT coalesce(max(position + entries), 1), 1 FROM batches;
DROP TABLE unplaced;
CREATE TABLE runs (
    first INTEGER PRIMARY KEY,
    past INTEGER NOT NULL,
    day INTEGER NOT NULL,
    level INTEGER NOT NULL
) STRICT;
CREATE TABLE files (
    run INTEGER NOT NULL REFERENCES runs (first),
    class TEXT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (run, class)
) STRICT;
",
    // Incidents, and whether an agent that is not here has said that it goes.
    "
ALTER TABLE hosts ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;
CREATE TABLE incidents (
    host TEXT NOT NULL,
    id TEXT NOT NULL,
    updated_ns INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    open INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (host, id)
) STRICT;
CREATE INDEX incidents_by_time ON incidents (updated_ns);
",
    // What hosts would do if somebody approved it, and what came of it.
    "
CREATE TABLE approvals (
    host TEXT NOT NULL,
    number INTEGER NOT NULL,
    asked_ns INTEGER NOT NULL,
    asked BLOB NOT NULL,
    outcome BLOB,
    PRIMARY KEY (host, number)
) STRICT;
CREATE INDEX approvals_by_time ON approvals (asked_ns);
",
];
