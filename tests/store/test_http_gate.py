"""The dashboard answers its own pages, reads unless it is told to write, and is asked over HTTP."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager

import pytest

from automl.dashboard.serving import dashboard_server
from automl.store import open_store
from tests.kits.stores import add_trial, new_study


@contextmanager
def serving(url, *, writable):
    """The port of a dashboard that runs meanwhile."""
    with dashboard_server(url, "127.0.0.1", 0, writable=writable) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    """Writable or not -> port of the dashboard of one database."""
    database = tmp_path_factory.mktemp("gate") / "study.db"
    with open_store(database) as store:
        for name in ("digits", "other"):
            add_trial(store, new_study(store, name))
    with serving(database, writable=False) as reading, serving(database, writable=True) as writing:
        yield {False: reading, True: writing}


def test_one_study_that_cannot_be_shown_does_not_hide_the_others(tmp_path, caplog):
    with open_store(tmp_path / "study.db") as store:
        for name in ("first", "bad", "last"):
            add_trial(store, new_study(store, name))
        with store.database.write() as connection:  # a knob that its trials do not have
            connection.exec_driver_sql("UPDATE study SET config = replace(config, 'stem', 'x') WHERE name = 'bad'")
    with serving(tmp_path / "study.db", writable=False) as port:
        assert {"first/random/0", "last/random/0"} <= set(studies(port))
    assert "cannot be brought up to date" in caplog.text


def ask(port, method, path, **headers):
    """Status and content of what the dashboard says to a request with these headers and no others."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    body = b"{}" if method not in ("GET", "HEAD") else b""
    told = {
        "Host": f"127.0.0.1:{port}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **headers,
    }
    for name, value in told.items():
        if value is not None:
            connection.putheader(name, value.replace("PORT", str(port)))
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.getheader("X-Frame-Options")


def studies(port) -> dict[str, int]:
    status, content, frames = ask(port, "GET", "/api/studies")
    assert (status, frames) == (200, "SAMEORIGIN")
    return {study["study_name"]: study["study_id"] for study in json.loads(content)["study_summaries"]}


HOSTS = ["evil.example", "evil.example:PORT", "localhost.evil.example", "127.0.0.1.evil.example:PORT", None, ""]
HOSTS += ["localhost@evil.example", "evil.example, localhost", "[::1", "localhost evil.example", "127.1.evil"]
ORIGINS = [
    "http://evil.example",
    "null",
    "http://localhost:1",
    "http://127.0.0.1",
    "http://127.0.0.1:PORT.evil.example",
]


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("host", HOSTS)
def test_a_name_that_is_not_the_servers_gets_no_answer(ports, host, writable):
    for method, path in (("GET", "/api/studies"), ("DELETE", "/api/studies/1")):
        status, content, _ = ask(ports[writable], method, path, Host=host)
        assert status in (400, 403) and b"digits" not in content
    assert "digits/random/0" in studies(ports[writable])


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("origin", ORIGINS)
def test_a_page_from_elsewhere_gets_no_answer(ports, origin, writable):
    for method, path in (("GET", "/api/studies"), ("DELETE", "/api/studies/1")):
        status, content, _ = ask(ports[writable], method, path, Origin=origin)
        assert status == 403 and b"digits" not in content and b"may not ask" in content
    assert "digits/random/0" in studies(ports[writable])


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:PORT", "127.0.0.1:PORT", "[::1]:PORT", "192.168.0.7", "LOCALHOST:9"]
)
def test_its_own_pages_get_answers(ports, host):
    for origin in (None, f"http://{host}"):
        assert ask(ports[False], "GET", "/api/studies", Host=host, Origin=origin)[0] == 200


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT", "PATCH", "OPTIONS", "get", "BREW"])
def test_nothing_is_changed_unless_it_is_allowed(ports, method):
    key = studies(ports[False])["digits/random/0"]
    for path in (f"/api/studies/{key}", "/api/studies", f"/api/studies/{key}/rename", f"/api/studies/{key}/note"):
        status, content, _ = ask(ports[False], method, path)
        assert status in (403, 501) and (status == 501 or b"--writable" in content)
    assert key in studies(ports[False]).values()


def test_what_is_allowed_is_done(ports):
    key = studies(ports[True])["other/random/0"]
    assert ask(ports[True], "DELETE", f"/api/studies/{key}", Origin="http://127.0.0.1:PORT")[0] == 204
    assert "other/random/0" not in studies(ports[True])
