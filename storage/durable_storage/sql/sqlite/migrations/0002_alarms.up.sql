-- Alarms that are armed again by a rule, and those that failed too often: parked, kept, and not fired.
ALTER TABLE durable_alarms ADD COLUMN recurrence TEXT;
ALTER TABLE durable_alarms ADD COLUMN tick INTEGER;
ALTER TABLE durable_alarms ADD COLUMN problem TEXT;
ALTER TABLE durable_alarms ADD COLUMN parked INTEGER NOT NULL DEFAULT 0;

-- A file is one shard's, so the time is all that is looked for; the key that an entry ends with is the rest.
DROP INDEX durable_alarms_due;
CREATE INDEX durable_alarms_due ON durable_alarms (scheduled_at) WHERE NOT parked;
