DROP TABLE durable_siblings;
DROP TABLE durable_hosts;
DROP TABLE durable_results;
DROP TABLE durable_alarms;
DROP TABLE durable_objects;
