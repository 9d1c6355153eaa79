DROP FUNCTION durable_refuse(text, text);
DROP TABLE durable_results;
DROP TABLE durable_alarms;
DROP TABLE durable_objects;
