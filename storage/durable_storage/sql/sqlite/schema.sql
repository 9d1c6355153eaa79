-- The sum of all migrations, to be read. tests/migration compares the two.

-- The history of this file (written by the migrations themselves).
CREATE TABLE durable_migrations (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL -- seconds since 1970
) STRICT;

-- Objects: the state is the exact JSON text that the engine wrote.
CREATE TABLE durable_objects (
    object_type TEXT NOT NULL,
    object_id TEXT NOT NULL,
    partition INTEGER NOT NULL,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    inserted_at INTEGER NOT NULL, -- times are microseconds since 1970, UTC
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (object_type, object_id)
) STRICT;

-- Alarms that are armed, or parked after they failed too often; attempts counts failed firings.
CREATE TABLE durable_alarms (
    object_type TEXT NOT NULL,
    object_id TEXT NOT NULL,
    alarm_name TEXT NOT NULL,
    partition INTEGER NOT NULL,
    scheduled_at INTEGER NOT NULL,
    payload TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    claimed_at INTEGER,
    recurrence TEXT,
    tick INTEGER,
    problem TEXT,
    parked INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (object_type, object_id, alarm_name)
) STRICT, WITHOUT ROWID;

-- A file is one shard's, so the time is all that is looked for; the key that an entry ends with is the rest.
CREATE INDEX durable_alarms_due ON durable_alarms (scheduled_at) WHERE NOT parked;

-- First results of calls that carried an idempotency key. The key leads the index: those that clients make by
-- themselves count upwards, and appending to an index costs a fraction of inserting all over it.
CREATE TABLE durable_results (
    object_type TEXT NOT NULL,
    object_id TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint INTEGER NOT NULL,
    result BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (key, object_type, object_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX durable_results_expiry ON durable_results (expires_at);

-- The one owner of this file, and the last commit that touched it.
CREATE TABLE durable_hosts (
    host TEXT PRIMARY KEY,
    node TEXT NOT NULL,
    pid INTEGER NOT NULL,
    address TEXT NOT NULL,
    incarnation BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    confirmed_at INTEGER NOT NULL
) STRICT;

-- How far the shard's files of other tenants were when this one was last written: a loss in one shows in another.
CREATE TABLE durable_siblings (
    prefix TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT;
