-- only without a prefix
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
