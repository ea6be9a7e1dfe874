-- A database of schema version 4, as automl-compress made it at commit 5a7db17: its tables and rows.

CREATE TABLE automl_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	PRIMARY KEY (version_num)
);
CREATE TABLE automl_schema (
	version INTEGER NOT NULL, 
	created TIMESTAMP WITH TIME ZONE NOT NULL, 
	PRIMARY KEY (version)
);
CREATE TABLE study (
	id SERIAL NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	config JSON NOT NULL, 
	code_version TEXT NOT NULL, 
	environment JSON NOT NULL, 
	created TIMESTAMP WITH TIME ZONE NOT NULL, 
	seal VARCHAR(64), 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
CREATE TABLE lease (
	study_id INTEGER NOT NULL, 
	token VARCHAR(32) NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	machine VARCHAR(100) NOT NULL, 
	pid BIGINT NOT NULL, 
	born VARCHAR(40) NOT NULL, 
	acquired TIMESTAMP WITH TIME ZONE NOT NULL, 
	expires TIMESTAMP WITH TIME ZONE NOT NULL, 
	length_s DOUBLE PRECISION DEFAULT '60' NOT NULL, 
	PRIMARY KEY (study_id), 
	FOREIGN KEY(study_id) REFERENCES study (id)
);
CREATE TABLE trial (
	id SERIAL NOT NULL, 
	study_id INTEGER NOT NULL, 
	agent VARCHAR(100) NOT NULL, 
	seed BIGINT NOT NULL, 
	number INTEGER NOT NULL, 
	point TEXT NOT NULL, 
	point_key VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT, 
	started TIMESTAMP WITH TIME ZONE NOT NULL, 
	attempts INTEGER NOT NULL, 
	finished TIMESTAMP WITH TIME ZONE, 
	wall_s DOUBLE PRECISION CHECK (wall_s BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308), 
	finish_order INTEGER, 
	repeat_of INTEGER, 
	projected TIMESTAMP WITH TIME ZONE, 
	PRIMARY KEY (id), 
	UNIQUE (study_id, agent, seed, number), 
	UNIQUE (study_id, agent, seed, finish_order), 
	FOREIGN KEY(study_id) REFERENCES study (id), 
	FOREIGN KEY(repeat_of) REFERENCES trial (id)
);
CREATE INDEX trial_point ON trial (study_id, point_key);
CREATE TABLE artifact (
	id SERIAL NOT NULL, 
	study_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	kind VARCHAR(100) NOT NULL, 
	path TEXT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	created TIMESTAMP WITH TIME ZONE NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(study_id) REFERENCES study (id), 
	FOREIGN KEY(trial_id) REFERENCES trial (id)
);
CREATE INDEX ix_artifact_study_id ON artifact (study_id);
CREATE TABLE attempt (
	id SERIAL NOT NULL, 
	trial_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	counted BOOLEAN NOT NULL, 
	ended TIMESTAMP WITH TIME ZONE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (trial_id, number), 
	FOREIGN KEY(trial_id) REFERENCES trial (id)
);
CREATE TABLE measurement (
	id BIGSERIAL NOT NULL, 
	trial_id INTEGER NOT NULL, 
	metric VARCHAR(200) NOT NULL, 
	step BIGINT NOT NULL, 
	value DOUBLE PRECISION NOT NULL CHECK (value BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308), 
	unit VARCHAR(100) NOT NULL, 
	n BIGINT NOT NULL, 
	spread DOUBLE PRECISION CHECK (spread BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308), 
	device VARCHAR(200) NOT NULL, 
	phase VARCHAR(16) DEFAULT 'search' NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(trial_id) REFERENCES trial (id)
);
CREATE INDEX ix_measurement_trial_id ON measurement (trial_id);
INSERT INTO automl_alembic_version (version_num) VALUES ('v4');
INSERT INTO automl_schema (version, created) VALUES (4, '2026-11-29T09:38:07.820304+00:00');
INSERT INTO study (id, name, config, code_version, environment, created, seal) VALUES (1, 'digits', '{"knobs": [{"name": "stem", "levels": [2, 4, 6, 8], "unit": "channels"}, {"name": "block.conv1", "levels": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], "unit": "channels"}, {"name": "bits", "levels": [2, 4, 8], "unit": "bits"}], "goal": {"metric": "accuracy", "direction": "maximize"}, "limits": {"macs": 1000.0}}', 'abc123', '{"torch": "2.13.0"}', '2026-11-28T14:59:16.616190+00:00', NULL);
INSERT INTO study (id, name, config, code_version, environment, created, seal) VALUES (2, 'empty', '{"knobs": [{"name": "stem", "levels": [2, 4, 6, 8], "unit": "channels"}, {"name": "block.conv1", "levels": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], "unit": "channels"}, {"name": "bits", "levels": [2, 4, 8], "unit": "bits"}], "goal": {"metric": "accuracy", "direction": "maximize"}, "limits": {"macs": 1000.0}}', 'abc123', '{"torch": "2.13.0"}', '2026-11-28T14:59:16.628246+00:00', NULL);
SELECT setval(pg_get_serial_sequence('study', 'id'), 2);
INSERT INTO trial (id, study_id, agent, seed, number, point, point_key, state, reason, started, attempts, finished, wall_s, finish_order, repeat_of, projected) VALUES (1, 1, 'amc', 0, 0, '{"bits":8,"block.conv1":3,"stem":4}', '154f0ca65325c5a8', 'done', NULL, '2026-11-28T14:59:16.632183+00:00', 1, '2026-11-28T14:59:16.646791+00:00', 0.25, 1, NULL, NULL);
INSERT INTO trial (id, study_id, agent, seed, number, point, point_key, state, reason, started, attempts, finished, wall_s, finish_order, repeat_of, projected) VALUES (2, 1, 'amc', 0, 1, '{"bits":4,"block.conv1":16,"stem":8}', 'e398123ceebe00a1', 'failed', 'out of memory 日本', '2026-11-28T14:59:16.688062+00:00', 1, '2026-11-28T14:59:16.696181+00:00', 0.0, 2, NULL, NULL);
INSERT INTO trial (id, study_id, agent, seed, number, point, point_key, state, reason, started, attempts, finished, wall_s, finish_order, repeat_of, projected) VALUES (3, 1, 'amc', 0, 2, '{"bits":8,"block.conv1":3,"stem":2}', '7ea77c6112c21e07', 'infeasible', 'macs 2000 > 1000', '2026-11-28T14:59:16.708013+00:00', 1, '2026-11-28T14:59:16.720207+00:00', 0.0, 3, NULL, NULL);
INSERT INTO trial (id, study_id, agent, seed, number, point, point_key, state, reason, started, attempts, finished, wall_s, finish_order, repeat_of, projected) VALUES (4, 1, 'random', 0, 0, '{"bits":8,"block.conv1":3,"stem":4}', '154f0ca65325c5a8', 'done', NULL, '2026-11-28T14:59:16.732113+00:00', 1, '2026-11-28T14:59:16.736020+00:00', 0.25, 1, 1, NULL);
INSERT INTO trial (id, study_id, agent, seed, number, point, point_key, state, reason, started, attempts, finished, wall_s, finish_order, repeat_of, projected) VALUES (5, 1, 'random', 0, 1, '{"bits":8,"block.conv1":3,"stem":6}', '69e9fc0677eae92e', 'running', NULL, '2026-11-28T14:59:16.756088+00:00', 2, NULL, NULL, NULL, NULL, NULL);
SELECT setval(pg_get_serial_sequence('trial', 'id'), 5);
INSERT INTO artifact (id, study_id, trial_id, kind, path, sha256, created) VALUES (1, 1, 1, 'onnx', 'winner/größe.onnx', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '2026-11-28T14:59:16.767879+00:00');
SELECT setval(pg_get_serial_sequence('artifact', 'id'), 1);
INSERT INTO attempt (id, trial_id, number, reason, counted, ended) VALUES (1, 5, 1, 'the process that ran it ended', false, '2026-11-28T14:59:16.756088+00:00');
SELECT setval(pg_get_serial_sequence('attempt', 'id'), 1);
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (1, 1, 'accuracy', 0, 0.30000000000000004, 'fraction', 500, 0.01, '', 'search');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (2, 1, 'macs', 0, 900.0, '', 1, NULL, '', 'search');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (3, 1, 'noise', 0, 0.5, '', 1, NULL, '', 'agent');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (4, 1, 'accuracy', 0, 0.4, '', 500, 0.02, '', 'refitted');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (5, 1, 'loss', 0, 1.5, '', 500, NULL, '', 'refitted');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (6, 1, 'loss', 1, 2.0, '', 1000, NULL, '', 'training');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (7, 1, 's', 1, 1.5, 's', 1, NULL, '', 'training');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (8, 1, 'validation_accuracy', 1, 0.25, '', 1, NULL, '', 'training');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (9, 1, 'loss', 2, 1.0, '', 1000, NULL, '', 'training');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (10, 1, 's', 2, 3.0, 's', 1, NULL, '', 'training');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (11, 1, 'validation_accuracy', 2, 0.5, '', 1, NULL, '', 'training');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (12, 1, 'accuracy', 0, 0.5, '', 500, 0.02, '', 'final');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (13, 1, 'macs', 0, 900.0, 'MAC', 1, NULL, '', 'final');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (14, 1, 'latency_ratio', 0, 0.625, '', 20, 0.01, 'a processor, 1 thread', 'certificate');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (15, 1, 'accuracy', 0, 0.48, '', 1000, 0.01, '', 'test');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (16, 1, 'loss', 0, 1.25, '', 1000, NULL, '', 'test');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (17, 1, 'latency_ms', 0, 1.5, 'ms', 15, 0.1, 'a processor, 1 thread', 'latency');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (18, 1, 'latency_ratio', 0, 0.75, '', 15, 0.01, 'a processor, 1 thread', 'latency');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (19, 1, 'peak_activation_bytes', 0, 4096.0, 'B', 1, NULL, '', 'latency');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (20, 3, 'macs', 0, 2000.0, '', 1, NULL, '', 'search');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (21, 4, 'accuracy', 0, 0.30000000000000004, 'fraction', 500, 0.01, '', 'search');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device, phase) VALUES (22, 4, 'macs', 0, 900.0, '', 1, NULL, '', 'search');
SELECT setval(pg_get_serial_sequence('measurement', 'id'), 22);
