-- A database of schema version 1, as automl-compress 0.1.0 made it (commit 3820031): its tables and rows.

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
	PRIMARY KEY (id), 
	UNIQUE (name)
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
	PRIMARY KEY (id), 
	FOREIGN KEY(trial_id) REFERENCES trial (id)
);
CREATE INDEX ix_measurement_trial_id ON measurement (trial_id);
INSERT INTO automl_schema (version, created) VALUES (1, '2026-11-22 06:15:50.454049+00:00');
INSERT INTO study (id, name, config, code_version, environment, created) VALUES (1, 'digits', '{"knobs": [{"name": "stem", "levels": [2, 4, 6, 8], "unit": "channels"}, {"name": "block.conv1", "levels": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], "unit": "channels"}, {"name": "bits", "levels": [2, 4, 8], "unit": "bits"}], "goal": {"metric": "accuracy", "direction": "maximize"}, "limits": {"macs": 1000.0}}', 'abc123', '{"torch": "2.13.0"}', '2026-11-22 06:15:50.467410+00:00');
INSERT INTO study (id, name, config, code_version, environment, created) VALUES (2, 'empty', '{"knobs": [{"name": "stem", "levels": [2, 4, 6, 8], "unit": "channels"}, {"name": "block.conv1", "levels": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], "unit": "channels"}, {"name": "bits", "levels": [2, 4, 8], "unit": "bits"}], "goal": {"metric": "accuracy", "direction": "maximize"}, "limits": {"macs": 1000.0}}', 'abc123', '{"torch": "2.13.0"}', '2026-11-22 06:15:50.527284+00:00');
INSERT INTO trial (id, study_id, agent, seed, number, point, point_key, state, reason, started, attempts, finished, wall_s, finish_order, repeat_of) VALUES (1, 1, 'amc', 0, 0, '{"bits":8,"block.conv1":3,"stem":4}', '154f0ca65325c5a8', 'done', NULL, '2026-11-22 06:15:50.471375+00:00', 1, '2026-11-22 06:15:50.478365+00:00', 0.25, 1, NULL);
INSERT INTO trial (id, study_id, agent, seed, number, point, point_key, state, reason, started, attempts, finished, wall_s, finish_order, repeat_of) VALUES (2, 1, 'amc', 0, 1, '{"bits":4,"block.conv1":16,"stem":8}', 'e398123ceebe00a1', 'failed', 'out of memory 日本', '2026-11-22 06:15:50.491310+00:00', 1, '2026-11-22 06:15:50.496268+00:00', 0.0, 2, NULL);
INSERT INTO trial (id, study_id, agent, seed, number, point, point_key, state, reason, started, attempts, finished, wall_s, finish_order, repeat_of) VALUES (3, 1, 'amc', 0, 2, '{"bits":8,"block.conv1":3,"stem":2}', '7ea77c6112c21e07', 'infeasible', 'macs 2000 > 1000', '2026-11-22 06:15:50.499265+00:00', 1, '2026-11-22 06:15:50.504005+00:00', 0.0, 3, NULL);
INSERT INTO trial (id, study_id, agent, seed, number, point, point_key, state, reason, started, attempts, finished, wall_s, finish_order, repeat_of) VALUES (4, 1, 'random', 0, 0, '{"bits":8,"block.conv1":3,"stem":4}', '154f0ca65325c5a8', 'done', NULL, '2026-11-22 06:15:50.507243+00:00', 1, '2026-11-22 06:15:50.512297+00:00', 0.25, 1, 1);
INSERT INTO trial (id, study_id, agent, seed, number, point, point_key, state, reason, started, attempts, finished, wall_s, finish_order, repeat_of) VALUES (5, 1, 'random', 0, 1, '{"bits":8,"block.conv1":3,"stem":6}', '69e9fc0677eae92e', 'running', NULL, '2026-11-22 06:15:50.519609+00:00', 2, NULL, NULL, NULL, NULL);
INSERT INTO artifact (id, study_id, trial_id, kind, path, sha256, created) VALUES (1, 1, 1, 'onnx', 'winner/größe.onnx', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '2026-11-22 06:15:50.523178+00:00');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device) VALUES (1, 1, 'accuracy', 0, 0.30000000000000004, 'fraction', 500, 0.01, '');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device) VALUES (2, 1, 'macs', 0, 900.0, '', 1, NULL, '');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device) VALUES (3, 1, 'agent/noise', 0, 0.5, '', 1, NULL, '');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device) VALUES (4, 3, 'macs', 0, 2000.0, '', 1, NULL, '');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device) VALUES (5, 4, 'accuracy', 0, 0.30000000000000004, 'fraction', 500, 0.01, '');
INSERT INTO measurement (id, trial_id, metric, step, value, unit, n, spread, device) VALUES (6, 4, 'macs', 0, 900.0, '', 1, NULL, '');
SELECT setval(pg_get_serial_sequence('study', 'id'), (SELECT max(id) FROM study));
SELECT setval(pg_get_serial_sequence('trial', 'id'), (SELECT max(id) FROM trial));
SELECT setval(pg_get_serial_sequence('measurement', 'id'), (SELECT max(id) FROM measurement));
SELECT setval(pg_get_serial_sequence('artifact', 'id'), (SELECT max(id) FROM artifact));
