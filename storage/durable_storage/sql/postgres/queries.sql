-- settings --
-- Durability settings of the server, and whether a pooler stands between it and us: then what we set for our session
-- may not hold, and what is usual there counts.
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
    current_setting('server_encoding') AS encoding, pg_backend_pid() AS backend_pid,
    (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') AS usual_commit;

-- applied_migrations --
-- The schema's history.
SELECT version, name, checksum FROM {schema}.durable_migrations ORDER BY version;

-- read_host --
-- Who owns the row of a shard, and how far it is.
SELECT incarnation, epoch, seq, backend_pid FROM {home}.durable_hosts WHERE host = $1;

-- claim_host --
-- Makes a new incarnation the owner of a shard's row. The lock on the ruler's row orders this before or after a
-- takeover, never in its middle: after one, the old term matches nothing and nobody is made owner.
WITH ruler AS (
    SELECT FROM {home}.durable_controller WHERE $9::bigint IS NULL OR term = $9 FOR SHARE
)
INSERT INTO {home}.durable_hosts AS host (host, node, pid, backend_pid, address, incarnation, epoch, seq)
SELECT $1, $2, $3, $4, $5, $6, $7::bigint, $8 FROM ruler
ON CONFLICT (host) DO UPDATE SET node = $2, pid = $3, backend_pid = $4, address = $5, incarnation = $6,
    epoch = host.epoch + $7, seq = greatest(host.seq, $8), confirmed_at = now()
RETURNING epoch, seq;

-- bump_epoch --
-- Resolves an unknown outcome: whatever statement of ours is still under way matches nothing after this, and the
-- answer says whether it was executed before. Reading alone, with FOR UPDATE too, cannot promise the first.
UPDATE {home}.durable_hosts SET epoch = epoch + 1, backend_pid = $3, confirmed_at = now()
WHERE host = $1 AND incarnation = $2 RETURNING epoch, seq;

-- confirm_host --
-- Confirms an ownership. It writes, because a replica that was left behind would let anybody read.
UPDATE {home}.durable_hosts SET confirmed_at = now() WHERE host = $1 AND incarnation = $2 RETURNING epoch, seq;

-- terminate_backend --
-- Ends the connection of an earlier owner, which may hold the row's lock while its process is stopped. The name
-- makes sure that the process id was not given to somebody else's connection since.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND application_name = $2;

-- load --
-- Objects and their alarms as of one moment: a row per object that has a state, and a row per alarm. OFFSET 0 makes
-- each a lookup by key: joined freely, a plan made while a table was nearly empty reads all of it from then on.
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (object_type, object_id, place)
)
SELECT place, state, version, NULL AS alarm_name, NULL::timestamptz AS scheduled_at, NULL AS payload, 0 AS attempts,
    NULL AS recurrence, NULL::timestamptz AS tick, NULL AS problem, false AS parked
FROM wanted CROSS JOIN LATERAL (
    SELECT state, version FROM {schema}.durable_objects AS stored
    WHERE stored.object_type = wanted.object_type AND stored.object_id = wanted.object_id OFFSET 0
) AS object
UNION ALL
SELECT place, NULL, 0, alarm.*
FROM wanted CROSS JOIN LATERAL (
    SELECT alarm_name, scheduled_at, payload, attempts, recurrence, tick, problem, parked FROM {schema}.durable_alarms AS stored
    WHERE stored.object_type = wanted.object_type AND stored.object_id = wanted.object_id OFFSET 0
) AS alarm;

-- load_results --
-- Unexpired results; OFFSET 0 as in `load`, and it keeps the index by expiry out of it.
SELECT place, found.*
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (object_type, object_id, key, place)
CROSS JOIN LATERAL (
    SELECT stored.key, fingerprint, result, expires_at FROM {schema}.durable_results AS stored
    WHERE stored.key = wanted.key AND stored.object_type = wanted.object_type
    AND stored.object_id = wanted.object_id OFFSET 0
) AS found WHERE found.expires_at > $4;

-- list_ids --
-- A page of ids in byte order, of a range of partitions.
SELECT object_id FROM {schema}.durable_objects
WHERE object_type = $1 AND object_id > $2 AND partition >= $3 AND partition < $4
ORDER BY object_id LIMIT $5;

-- due_alarms --
-- Alarms to be fired, soonest first. Many may be due at one moment, so that nothing else orders them: that would read
-- and sort them all for each page.
SELECT object_type, object_id, alarm_name, scheduled_at FROM {schema}.durable_alarms
WHERE NOT parked AND scheduled_at < $1 AND partition >= $2 AND partition < $3
AND (object_type = ANY ($4::text[]) OR (object_type, alarm_name) IN (SELECT * FROM unnest($5::text[], $6::text[])))
ORDER BY scheduled_at LIMIT $7;

-- list_alarms --
-- A page of alarms by key, of a range of partitions, but for those that would be fired.
SELECT object_type, object_id, alarm_name, scheduled_at, payload, attempts, recurrence, tick, problem, parked
FROM {schema}.durable_alarms
WHERE (object_type, object_id, alarm_name) > ($1, $2, $3) AND partition >= $4 AND partition < $5
AND (parked OR NOT (
    object_type = ANY ($6::text[]) OR (object_type, alarm_name) IN (SELECT * FROM unnest($7::text[], $8::text[]))
))
ORDER BY object_type, object_id, alarm_name LIMIT $9;

-- next_class --
-- The first class with stored objects after the one given, by one look into the index.
SELECT object_type FROM {schema}.durable_objects WHERE object_type > $1 ORDER BY object_type LIMIT 1;

-- count_class --
-- How many objects of a class are stored.
SELECT count(*) FROM {schema}.durable_objects WHERE object_type = $1;

-- scan_class --
-- A page of states in the order of ids: so many rows, or fewer of which all but the last fit into so many bytes.
SELECT object_id, state, version FROM (
    SELECT object_id, state, version,
        sum(octet_length(state)) OVER (ORDER BY object_id) - octet_length(state) AS bytes_before
    FROM {schema}.durable_objects WHERE object_type = $1 AND object_id > $2 ORDER BY object_id LIMIT $3
) AS page WHERE bytes_before < $4 ORDER BY object_id;

-- purge_results --
-- Forgets expired results, a bounded number at a time, leaving those that another shard is at.
WITH expired AS (
    SELECT ctid FROM {schema}.durable_results WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
    FOR UPDATE SKIP LOCKED
), purged AS (
    DELETE FROM {schema}.durable_results USING expired WHERE durable_results.ctid = expired.ctid RETURNING 1
)
SELECT count(*) FROM purged;

-- tenant_schemas --
-- Schemas that hold objects, but for those of another engine: what has owners of its own is no tenant of ours.
SELECT nspname FROM pg_catalog.pg_class AS kept JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
WHERE relname = 'durable_results' AND relkind = 'r' AND (nspname = $1 OR NOT EXISTS (
    SELECT FROM pg_catalog.pg_class AS other
    WHERE other.relnamespace = kept.relnamespace AND other.relname = 'durable_hosts'
))
ORDER BY nspname;

-- read_controller --
-- Who rules, and for how long there was no sign of life, by the server's clock.
SELECT term, node, boot, pid, process_started, address,
    extract(epoch FROM clock_timestamp() - renewed_at)::float8 AS silent_seconds
FROM {home}.durable_controller;

-- seize_controller --
-- Begins a new term, unless somebody else did meanwhile.
UPDATE {home}.durable_controller SET term = greatest(term, $7) + 1, node = $2, boot = $3, pid = $4, process_started = $5,
    address = $6, renewed_at = clock_timestamp() WHERE term = $1 RETURNING term;

-- fence_hosts --
-- Turns all owners away. A statement of its own, so that it sees every row made in the term before.
UPDATE {home}.durable_hosts SET epoch = epoch + 1, incarnation = $1;

-- renew_controller --
-- A sign of life.
UPDATE {home}.durable_controller SET renewed_at = clock_timestamp() WHERE term = $1 AND pid <> 0 RETURNING term;

-- release_controller --
-- Rules no more.
UPDATE {home}.durable_controller SET pid = 0, renewed_at = clock_timestamp() WHERE term = $1;

-- batch_fence --
-- Opens every batch: finds the host row only as the owner's last commit left it. Everything else is joined to it.
UPDATE {home}.durable_hosts SET seq = seq + 1, confirmed_at = now()
WHERE host = $1 AND incarnation = $2 AND epoch = $3 AND seq = $4 RETURNING seq;

-- batch_objects --
-- Part of a batch: inserts or replaces states.
INSERT INTO {schema}.durable_objects (object_type, object_id, partition, version, state)
SELECT batch.* FROM fence, {batch} AS batch
ON CONFLICT (object_type, object_id) DO UPDATE
SET state = excluded.state, version = excluded.version, updated_at = now();

-- batch_deletes --
-- Part of a batch: forgets states.
DELETE FROM {schema}.durable_objects AS stored USING fence, {batch} AS batch (object_type, object_id)
WHERE stored.object_type = batch.object_type AND stored.object_id = batch.object_id;

-- batch_disarms --
-- Part of a batch: disarms the alarms of deleted objects, but for those that the same batch arms anew.
DELETE FROM {schema}.durable_alarms AS stored USING fence, {batch} AS batch (object_type, object_id)
WHERE stored.object_type = batch.object_type AND stored.object_id = batch.object_id
AND (stored.object_type, stored.object_id, stored.alarm_name) NOT IN (SELECT * FROM {kept});

-- batch_clears --
-- Part of a batch: disarms single alarms.
DELETE FROM {schema}.durable_alarms AS stored USING fence, {batch} AS batch (object_type, object_id, alarm_name)
WHERE stored.object_type = batch.object_type AND stored.object_id = batch.object_id
AND stored.alarm_name = batch.alarm_name;

-- batch_alarms --
-- Part of a batch: arms alarms, or re-arms them under the same names.
INSERT INTO {schema}.durable_alarms
    (object_type, object_id, alarm_name, scheduled_at, payload, attempts, recurrence, tick, problem, parked, partition)
SELECT batch.* FROM fence, {batch} AS batch
ON CONFLICT (object_type, object_id, alarm_name) DO UPDATE SET scheduled_at = excluded.scheduled_at,
    payload = excluded.payload, attempts = excluded.attempts, recurrence = excluded.recurrence, tick = excluded.tick,
    problem = excluded.problem, parked = excluded.parked, claimed_at = NULL;

-- batch_results --
-- Part of a batch: keeps first results. Returns fewer rows than it was given when an unexpired one was there.
INSERT INTO {schema}.durable_results AS stored (object_type, object_id, key, fingerprint, result, expires_at)
SELECT batch.* FROM fence, {batch} AS batch
ON CONFLICT (object_type, object_id, key) DO UPDATE
SET fingerprint = excluded.fingerprint, result = excluded.result, expires_at = excluded.expires_at
WHERE stored.expires_at <= $5 RETURNING 1;

-- batch_end --
-- Closes every batch: the new seq, or an error that undoes the whole statement.
SELECT CASE
    WHEN NOT EXISTS (SELECT FROM fence) THEN {schema}.durable_refuse('DE001', 'the host row has another owner')
    ELSE (SELECT seq FROM fence)
END;

-- batch_end_with_results --
-- Closes a batch that keeps results; the number of which it is told.
SELECT CASE
    WHEN NOT EXISTS (SELECT FROM fence) THEN {schema}.durable_refuse('DE001', 'the host row has another owner')
    WHEN (SELECT count(*) FROM results) <> $6 THEN {schema}.durable_refuse('DE002', 'a key has a result already')
    ELSE (SELECT seq FROM fence)
END;
