-- The sum of all migrations, to be read. tests/migration compares the two.

-- The history of this schema (written by the migrations themselves).
CREATE TABLE durable_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Objects: the state is the exact JSON text that the engine wrote (docs/decisions/storage-format.md).
-- Half-full pages let an update stay on its page, without a new index entry.
CREATE TABLE durable_objects (
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    partition smallint NOT NULL,
    version bigint NOT NULL,
    state text NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (object_type, object_id)
) WITH (fillfactor = 70);

-- Alarms that are armed, or parked after they failed too often; attempts counts failed firings.
CREATE TABLE durable_alarms (
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    alarm_name text COLLATE "C" NOT NULL,
    partition smallint NOT NULL,
    scheduled_at timestamptz NOT NULL,
    payload text,
    attempts integer NOT NULL DEFAULT 0,
    claimed_at timestamptz,
    recurrence text,
    tick timestamptz,
    problem text,
    parked boolean NOT NULL DEFAULT false,
    PRIMARY KEY (object_type, object_id, alarm_name)
);

-- By time first: whoever looks for what is due reads that and nothing else, however many partitions it looks at.
CREATE INDEX durable_alarms_due ON durable_alarms (scheduled_at, partition) WHERE NOT parked;

-- First results of calls that carried an idempotency key. The key leads the index: those that clients make by
-- themselves count upwards, and appending to an index costs a fraction of inserting all over it.
CREATE TABLE durable_results (
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    fingerprint bigint NOT NULL,
    result bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (key, object_type, object_id)
);

CREATE INDEX durable_results_expiry ON durable_results (expires_at);

-- Ends a statement from within, so that nothing of it exists.
CREATE FUNCTION durable_refuse(code text, message text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message;
END
$$;

-- Owners: one row per shard. Every commit finds it as the last one left it, and advances seq.
-- Nearly empty pages keep the versions of a row that changes with each commit on one page.
CREATE TABLE durable_hosts (
    host text COLLATE "C" PRIMARY KEY,
    node text NOT NULL,
    pid integer NOT NULL,
    backend_pid integer NOT NULL,
    address text NOT NULL,
    incarnation uuid NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    confirmed_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- The supervisor that rules the store; pid 0 is nobody.
CREATE TABLE durable_controller (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    term bigint NOT NULL,
    node text NOT NULL,
    boot text NOT NULL,
    pid integer NOT NULL,
    process_started bigint NOT NULL,
    address text NOT NULL,
    renewed_at timestamptz NOT NULL
) WITH (fillfactor = 10);

INSERT INTO durable_controller (term, node, boot, pid, process_started, address, renewed_at)
VALUES (0, '', '', 0, 0, '', now());
