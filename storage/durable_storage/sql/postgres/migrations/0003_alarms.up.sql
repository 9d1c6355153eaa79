-- Alarms that are armed again by a rule, and those that failed too often: parked, kept, and not fired.
ALTER TABLE durable_alarms
    ADD COLUMN recurrence text,
    ADD COLUMN tick timestamptz,
    ADD COLUMN problem text,
    ADD COLUMN parked boolean NOT NULL DEFAULT false;

-- By time first: whoever looks for what is due reads that and nothing else, however many partitions it looks at.
DROP INDEX durable_alarms_due;
CREATE INDEX durable_alarms_due ON durable_alarms (scheduled_at, partition) WHERE NOT parked;
