-- advance_fence --
-- Opens every commit: finds the host row only as its last commit left it, so that a replaced owner writes nothing.
UPDATE durable_hosts SET epoch = ?, seq = ?, confirmed_at = ? WHERE host = ? AND incarnation = ? AND seq = ?;

-- claim_host --
-- Makes a new incarnation the owner of the file.
INSERT INTO durable_hosts (host, node, pid, address, incarnation, epoch, seq, confirmed_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (host) DO UPDATE SET node = excluded.node, pid = excluded.pid, address = excluded.address,
    incarnation = excluded.incarnation, epoch = excluded.epoch, seq = excluded.seq,
    confirmed_at = excluded.confirmed_at;

-- read_host --
-- Who owns the file, and how far it is.
SELECT host, node, pid, incarnation, epoch, seq FROM durable_hosts;

-- fence_hosts --
-- Turns every owner of the file away: used by a supervisor that takes over, and before a re-split.
UPDATE durable_hosts SET epoch = epoch + 1, incarnation = randomblob(16);

-- read_siblings --
-- How far the files of the shard's other tenants were at the last write to this one.
SELECT prefix, seq FROM durable_siblings;

-- note_sibling --
-- Notes how far the file of another tenant is.
INSERT INTO durable_siblings (prefix, seq) VALUES (?, ?) ON CONFLICT (prefix) DO UPDATE SET seq = excluded.seq;

-- forget_siblings --
-- Forgets what was known of other files: a new owner begins a new chain of evidence.
DELETE FROM durable_siblings;

-- store_object --
-- Inserts or replaces a state.
INSERT INTO durable_objects (object_type, object_id, partition, version, state, inserted_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
ON CONFLICT (object_type, object_id) DO UPDATE SET state = ?5, version = ?4, updated_at = ?6;

-- delete_object --
-- Forgets a state.
DELETE FROM durable_objects WHERE object_type = ? AND object_id = ?;

-- delete_alarms --
-- Disarms all alarms of an object.
DELETE FROM durable_alarms WHERE object_type = ? AND object_id = ?;

-- clear_alarm --
-- Disarms one alarm.
DELETE FROM durable_alarms WHERE object_type = ? AND object_id = ? AND alarm_name = ?;

-- set_alarm --
-- Arms an alarm, or re-arms it under the same name.
INSERT INTO durable_alarms
    (object_type, object_id, alarm_name, partition, scheduled_at, payload, attempts, recurrence, tick, problem, parked)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (object_type, object_id, alarm_name) DO UPDATE
SET scheduled_at = ?5, payload = ?6, attempts = ?7, recurrence = ?8, tick = ?9, problem = ?10, parked = ?11,
    claimed_at = NULL;

-- store_result --
-- Keeps the first result of a key; changes no row when an unexpired one is there.
INSERT INTO durable_results (object_type, object_id, key, fingerprint, result, expires_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (object_type, object_id, key) DO UPDATE SET fingerprint = ?4, result = ?5, expires_at = ?6
WHERE durable_results.expires_at <= ?7;

-- load_objects --
-- Objects of one class by a JSON array of ids, with their alarms, as a single row: the interpreter changes hands for
-- each row that is fetched, and a busy event loop is slow to give it back (docs/decisions/cold-loads.md). The states
-- are one text, to be cut by their lengths; what is longer than ?3, be it a state or a payload, is left out of it.
SELECT * FROM (
    SELECT json_group_array(wanted.key), json_group_array(version), json_group_array(octet_length(state)),
        CAST(group_concat(CASE WHEN octet_length(state) <= ?3 THEN state ELSE '' END, '') AS BLOB)
    FROM json_each(?2) AS wanted CROSS JOIN durable_objects AS stored
    WHERE stored.object_type = ?1 AND stored.object_id = wanted.value
), (
    SELECT CAST(json_group_array(json_array(
        wanted.key, octet_length(payload) > ?3, alarm_name, scheduled_at,
        CASE WHEN octet_length(payload) <= ?3 THEN payload END, attempts, recurrence, tick, problem, parked
    )) AS BLOB)
    FROM json_each(?2) AS wanted CROSS JOIN durable_alarms AS stored
    WHERE stored.object_type = ?1 AND stored.object_id = wanted.value
);

-- load_object --
-- One object's state.
SELECT CAST(state AS BLOB), version FROM durable_objects WHERE object_type = ? AND object_id = ?;

-- load_alarms --
-- One object's alarms.
SELECT alarm_name, scheduled_at, CAST(payload AS BLOB), attempts, recurrence, tick, problem, parked FROM durable_alarms
WHERE object_type = ? AND object_id = ?;

-- due_alarms --
-- Alarms to be fired, soonest first, in the order of an index that no plan may pass over for another one.
SELECT object_type, object_id, alarm_name, scheduled_at FROM durable_alarms INDEXED BY durable_alarms_due
WHERE NOT parked AND scheduled_at < ?1 AND (
    object_type IN (SELECT value FROM json_each(?2))
    OR (object_type, alarm_name) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?3))
)
ORDER BY scheduled_at LIMIT ?4;

-- list_alarms --
-- A page of alarms by key, but for those that would be fired.
SELECT object_type, object_id, alarm_name, scheduled_at, CAST(payload AS BLOB), attempts, recurrence, tick, problem,
    parked
FROM durable_alarms
WHERE (object_type, object_id, alarm_name) > (?1, ?2, ?3) AND (parked OR NOT (
    object_type IN (SELECT value FROM json_each(?4))
    OR (object_type, alarm_name) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?5))
))
ORDER BY object_type, object_id, alarm_name LIMIT ?6;

-- load_result --
-- An unexpired result.
SELECT key, fingerprint, result, expires_at FROM durable_results
WHERE object_type = ? AND object_id = ? AND key = ? AND expires_at > ?;

-- list_ids --
-- A page of ids in byte order.
SELECT object_id FROM durable_objects WHERE object_type = ? AND object_id > ? ORDER BY object_id LIMIT ?;

-- next_class --
-- The first class with stored objects after the one given, by one look into the index.
SELECT object_type FROM durable_objects WHERE object_type > ?1 ORDER BY object_type LIMIT 1;

-- count_class --
-- How many objects of a class are stored.
SELECT count(*) FROM durable_objects WHERE object_type = ?1;

-- scan_class --
-- A page of states in the order of ids: so many rows, or fewer of which all but the last fit into so many bytes.
SELECT object_id, CAST(state AS BLOB), version FROM (
    SELECT object_id, state, version,
        sum(octet_length(state)) OVER (ORDER BY object_id) - octet_length(state) AS bytes_before
    FROM durable_objects WHERE object_type = ?1 AND object_id > ?2 ORDER BY object_id LIMIT ?3
) AS page WHERE bytes_before < ?4 ORDER BY object_id;

-- purge_results --
-- Forgets expired results, a bounded number at a time.
DELETE FROM durable_results WHERE (object_type, object_id, key) IN (
    SELECT object_type, object_id, key FROM durable_results WHERE expires_at <= ? ORDER BY expires_at LIMIT ?
);

-- copy_objects --
-- Re-split: the objects of a range of partitions from an attached file.
INSERT INTO durable_objects SELECT * FROM source.durable_objects WHERE partition >= ? AND partition < ?;

-- copy_alarms --
-- Re-split: the alarms of a range of partitions from an attached file.
INSERT INTO durable_alarms SELECT * FROM source.durable_alarms WHERE partition >= ? AND partition < ?;

-- copy_results --
-- Re-split: results carry no partition, so it is computed by a function that the connection defines.
INSERT INTO durable_results SELECT * FROM source.durable_results
WHERE durable_partition(object_type, object_id) BETWEEN ? AND ? - 1;

-- batch_view --
-- What a batch of states and results is inserted into: the owner, its count before and after, and the rows as JSON.
CREATE TEMP VIEW IF NOT EXISTS durable_batch AS
SELECT '' AS host, x'' AS incarnation, 0 AS known, 0 AS epoch, 0 AS seq, 0 AS at, '' AS objects, '' AS results;

-- batch_trigger --
-- Does what `advance_fence`, and a `store_object` or `store_result` for each row, do inside a single statement and so in
-- a single commit.
CREATE TEMP TRIGGER IF NOT EXISTS durable_commit INSTEAD OF INSERT ON durable_batch BEGIN
    UPDATE durable_hosts SET epoch = NEW.epoch, seq = NEW.seq, confirmed_at = NEW.at
    WHERE host = NEW.host AND incarnation = NEW.incarnation AND seq = NEW.known;
    SELECT RAISE(ABORT, 'the file has another owner') WHERE changes() <> 1;
    INSERT INTO durable_objects (object_type, object_id, partition, version, state, inserted_at, updated_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, NEW.at, NEW.at
    FROM json_each(NEW.objects) WHERE true
    ON CONFLICT (object_type, object_id) DO UPDATE
    SET state = excluded.state, version = excluded.version, updated_at = excluded.updated_at;
    INSERT INTO durable_results (object_type, object_id, key, fingerprint, result, expires_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5
    FROM json_each(NEW.results) WHERE true
    ON CONFLICT (object_type, object_id, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, result = excluded.result, expires_at = excluded.expires_at
    WHERE durable_results.expires_at <= NEW.at;
    SELECT RAISE(ABORT, 'a key has a result already') WHERE changes() <> json_array_length(NEW.results);
END;

-- commit_batch --
-- Fence, rows and commit at once.
INSERT INTO durable_batch VALUES (?, ?, ?, ?, ?, ?, ?, ?);
