DROP TABLE durable_controller;
DROP TABLE durable_hosts;
