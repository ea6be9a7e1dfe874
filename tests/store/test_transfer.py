"""Studies go from one database to another and lose nothing; a file that is damaged leaves no trace."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3

import numpy as np
import pytest

from agents import TrialState
from automl.store import (
    Rule,
    StoreError,
    StudyExistsError,
    StudyNotFoundError,
    backup_sqlite,
    conclude_study,
    conclusion,
    export_studies,
    import_studies,
    open_store,
)
from automl.types import Measurement, Outcome, Phase
from tests.kits.stores import CONFIG, add_trial, new_study, outcome, point

DOUBLES = [0.1 + 0.2, 5e-324, -1.7976931348623157e308, 1 / 3, 2.0**53 + 2]  # SQLite has no -0.0


def fill(store, rng: np.random.Generator, trials: int) -> None:
    """Two studies with every kind of trial, opened and closed in any order, and all that can belong to them."""
    for name in ("größe_日本", "b"):
        config = {**CONFIG, "text": 'naïve "quoted" 🗜', "float": float(rng.choice(DOUBLES)), "nested": [1, None, {}]}
        study = new_study(store, name, config)
        opened, done = {}, []
        numbers = dict.fromkeys([("amc", 2**40), ("amc", 0), ("random", -1)], 0)
        while len(done) < trials or opened:
            if len(done) + len(opened) < trials and (not opened or rng.random() < 0.5):
                lane = list(numbers)[rng.integers(3)]
                levels = point(int(rng.integers(1, 5)) * 2, int(rng.integers(1, 17)))
                trial = store.open_trial(study.id, *lane, numbers[lane], levels)
                numbers[lane] += 1
                opened[trial.id] = trial
                if rng.random() < 0.3:
                    store.reopen_trial(trial.id)
                continue
            trial = opened.pop(int(rng.choice(list(opened))))
            measured = [
                Measurement(f"m{i} µ", float(rng.choice(DOUBLES)), "µs", 2**40, float(rng.choice(DOUBLES)), "cpu", i)
                for i in range(rng.integers(4))
            ]
            kind = rng.integers(5)
            if kind == 0:
                store.fail_attempt(trial.id, "died, \x00\n'日本'", max_attempts=2)
                done.append(store.fail_attempt(trial.id, "died again", max_attempts=2))
            elif kind == 1 and done:
                # Also of one that was opened later.
                of = done[rng.integers(len(done))].id
                done.append(store.close_trial(trial.id, Outcome.done(measured), repeat_of=of))
            else:
                end = [Outcome.done(measured, 1 / 3), Outcome.stopped("late", measured), Outcome.infeasible("x")]
                done.append(store.close_trial(trial.id, end[kind % 3]))
            if rng.random() < 0.3:
                store.add_measurements(done[0].id, [Measurement("accuracy", float(rng.random()), phase=Phase.TEST)])
                store.add_diagnostics(done[-1].id, {"noise": float(rng.random())})
                store.add_artifact(study.id, done[-1].id, "onnx", "ü/model.onnx", "a" * 64)
        store.add_artifact(study.id, None, "picture", "kept.png", "b" * 64)
        rules = [Rule(f"m{i} <= 50%", f"m{i}", Phase.FINAL, "at most", float(rng.choice(DOUBLES)), 0.5) for i in (0, 1)]
        for trial in done[-2:]:
            conclude_study(store, trial.id, rules, ["unsteady 🗜", "a second line"])
        store.open_trial(study.id, "left", 0, 0, point())
    new_study(store, "empty")


def content(store) -> list:
    """All that a store tells of its studies, without ids."""
    told = []
    for study in store.studies():
        trials = store.trials(study.id)
        names = {t.id: (t.agent, t.seed, t.number) for t in trials}
        told.append((study.name, study.config, study.code_version, study.environment, study.created))
        for t in sorted(trials, key=lambda t: t.id):
            told.append((names[t.id], t.point, t.state, t.reason, t.started, t.finished, repr(t.wall_s)))
            told.append((t.finish_order, names.get(t.repeat_of), repr(t.measurements), t.attempts, t.diagnostics))
        told.append([(names[a.trial_id], a.number, a.reason, a.counted, a.ended) for a in store.attempts(study.id)])
        told.append([(a.kind, a.path, a.sha256, a.created, names.get(a.trial_id)) for a in store.artifacts(study.id)])
        last = conclusion(store, study.id)
        told.append(last and (names[last.trial_id], last.concluded, last.notes, repr(last.rules)))
    return told


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way", ["sqlite to postgres", "postgres to sqlite"])
def test_there_and_back_nothing_is_lost(sqlite_url, postgres_url, tmp_path, monkeypatch, way, seed):
    monkeypatch.setattr("automl.store.transfer._BATCH", 7)  # so that there are several
    urls = {"sqlite": sqlite_url, "postgres": postgres_url}
    first, second = (urls[kind] for kind in way.split(" to "))
    one, two = tmp_path / "one.gz", tmp_path / "two.gz"
    with open_store(first) as store, open_store(second) as other:
        fill(store, np.random.default_rng(seed), 20)
        add_trial(other, new_study(other, "was_here"))  # so that ids differ
        names = export_studies(store, one)
        assert import_studies(other, one) == names == ["größe_日本", "b", "empty"]
        export_studies(other, two, names)
        assert one.read_bytes() == two.read_bytes()
        assert content(other)[-len(content(store)) :] == content(store)
        # What is there goes on: the trial left running is handed out again, and numbers go on.
        study = other.study("b")
        (left,) = other.running(study.id)
        with other.drive(study.id):
            assert other.close_trial(other.reopen_trial(left.id).id, outcome()).state is TrialState.DONE


def test_a_name_that_is_taken_is_refused_or_changed(any_url, tmp_path):
    file = tmp_path / "studies.gz"
    with open_store(any_url) as store:
        add_trial(store, new_study(store, "a"))
        add_trial(store, new_study(store, "b"), number=4)
        export_studies(store, file, ["b"])
        before = content(store)
        with pytest.raises(StudyExistsError, match=r"there is a study 'b' .* --rename b=OTHER"):
            import_studies(store, file)
        with pytest.raises(StudyExistsError, match="there is a study 'a'"):
            import_studies(store, file, {"b": "a"})
        with pytest.raises(StudyNotFoundError, match="no study 'x' to be renamed"):
            import_studies(store, file, {"b": "c", "x": "d"})
        with pytest.raises(StoreError, match="1 to 200 letters"):
            import_studies(store, file, {"b": " "})
        assert content(store) == before
        assert import_studies(store, file, {"b": "c"}) == ["c"]
        assert [s.name for s in store.studies()] == ["a", "b", "c"]
        assert [t.number for t in store.trials(store.study("c").id)] == [4]
        with pytest.raises(StudyNotFoundError, match="no study 'd'"):
            export_studies(store, file, ["d"])


def damaged(good: bytes) -> dict[str, bytes]:
    lines = gzip.decompress(good).splitlines(keepends=True)
    second = lines[0].replace(b'"version": 1', b'"version": 2')

    def made(*parts: bytes) -> bytes:
        return gzip.compress(b"".join(parts))

    def signed(*parts: bytes) -> bytes:
        content = b"".join(parts)
        end = {"end": content.count(b"\n"), "sha256": hashlib.sha256(content).hexdigest()}
        return made(content, json.dumps(end).encode() + b"\n")

    return {
        "[Nn]othing of it was": good[:-200] + b"\0" + good[-199:],
        "nothing of it was: EOFError": good[: len(good) // 2],
        "ends too early": made(*lines[:-1]),
        "its checksum does not fit": made(*lines[:2], *lines[3:]),
        "checksum does not fit": made(lines[0], lines[-1]),
        "is not a file of `automl db export`": made(b'{"a": 1}\n'),
        "Not a gzipped file": b"name: x\n",
        "nothing of it was: JSONDecodeError": made(b"name: x\n"),
        "newer automl-compress": made(second, *lines[1:]),
        "is about 'knob'": signed(lines[0], b'{"knob": {}}\n', *lines[1:-1]),
        "nothing of it was: IntegrityError": signed(*lines[:1], *lines[2:-1]),
        "nothing of it was: KeyError": signed(lines[0], b'{"study": {}}\n', *lines[2:-1]),
    }


def test_a_damaged_file_leaves_no_trace(any_url, tmp_path):
    file = tmp_path / "studies.gz"
    with open_store(any_url) as store:
        study = new_study(store)
        for number in range(30):
            add_trial(store, study, number=number, at=point(conv1=number % 16 + 1))
        export_studies(store, file)
    with open_store(tmp_path / "other.db") as other:
        for complaint, content in damaged(file.read_bytes()).items():
            file.write_bytes(content)
            with pytest.raises(StoreError, match=complaint):
                import_studies(other, file)
            assert other.studies() == []
        with pytest.raises(StoreError, match=r"cannot be imported.*No such file"):
            import_studies(other, tmp_path / "none.gz")
        with pytest.raises(StoreError, match=r"cannot write .*No such file"):
            export_studies(other, tmp_path / "no folder" / "x.gz")


def test_what_is_written_meanwhile_is_not_in_the_file(any_url, tmp_path):
    with open_store(any_url) as store, open_store(any_url) as writer:
        study = new_study(store)
        for number in range(3):
            add_trial(store, study, number=number)
        with store.database.read() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM trial").all()
            add_trial(writer, study, number=3)
            assert connection.exec_driver_sql("SELECT count(*) FROM trial").scalar() == 3
        export_studies(store, tmp_path / "x.gz")
    assert gzip.decompress((tmp_path / "x.gz").read_bytes()).count(b'{"trial"') == 4
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_a_file_in_use_is_backed_up(sqlite_url, tmp_path):
    copy = tmp_path / "copy.db"
    with open_store(sqlite_url) as store:
        study = new_study(store)
        with store.drive(study.id):
            add_trial(store, study)
            left = store.open_trial(study.id, "amc", 0, 0, point())
            backup_sqlite(store, copy)
            store.close_trial(left.id, outcome())
            with pytest.raises(StoreError, match=r"copy\.db exists already"):
                backup_sqlite(store, copy)
            with pytest.raises(StoreError, match=r"cannot write .*nowhere"):
                backup_sqlite(store, tmp_path / "nowhere" / "copy.db")
    with open_store(copy, create=False) as backup:
        assert [t.state.value for t in backup.trials(study.id)] == ["running", "done"]
    with sqlite3.connect(copy) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_server_is_not_backed_up_as_a_file(postgres_url, tmp_path):
    with open_store(postgres_url) as store, pytest.raises(StoreError, match="automl db export"):
        backup_sqlite(store, tmp_path / "x.db")
