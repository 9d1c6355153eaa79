-- No alarm is lost: one that was parked is armed from here on, one that recurs is armed for its next time only.
DROP INDEX durable_alarms_due;
CREATE INDEX durable_alarms_due ON durable_alarms (partition, scheduled_at);

ALTER TABLE durable_alarms DROP COLUMN parked, DROP COLUMN problem, DROP COLUMN tick, DROP COLUMN recurrence;
