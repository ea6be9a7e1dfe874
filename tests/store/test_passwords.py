"""A password is shown nowhere, and need not stand on the command line."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from automl.store import StoreError, open_store
from automl.store.urls import parse_url, shown
from tests.cli.conftest import automl

SECRET = "hunter2"
URLS = [
    f"postgresql://ann:{SECRET}@127.0.0.1:1/x",
    f"postgresql://ann:{SECRET}@127.0.0.1:port/x",
    f"postgresql://127.0.0.1:1/x?user=ann&password={SECRET}",
    f"postgresql://127.0.0.1:1/x?user=ann&passwd={SECRET}",
    f"postgresql://ann@127.0.0.1:1/x?sslpassword={SECRET}",
    f"postgresql:/ann:{SECRET}@127.0.0.1:1/x",
    f"postgresql:ann:{SECRET}@127.0.0.1:1/x",
    f"host=127.0.0.1 port=1 password={SECRET}",
    f"mysql://ann:{SECRET}@127.0.0.1/x",
    f"sqlite://ann:{SECRET}@127.0.0.1/x",
    f"://ann:{SECRET}@127.0.0.1/x",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("command", ["studies", "dashboard"])
def test_no_error_shows_a_password(url, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = automl(command, "--storage", url)
    assert ran.code == 1 and SECRET not in ran.out + ran.err and ran.err.count("\n") == 1, ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["studies"], ["search"], ["db", "import"]])
def test_no_help_shows_the_storage_of_the_environment(command, capsys, monkeypatch):
    monkeypatch.setenv("AUTOML_STORAGE", URLS[0])
    with pytest.raises(SystemExit):
        automl(*command, "--help")
    assert SECRET not in capsys.readouterr().out


def test_what_is_no_password_is_shown():
    url = f"postgresql://ann:{SECRET}@h/x?password={SECRET}&options=-csearch_path%3Da"
    assert shown(parse_url(url)) == "postgresql+psycopg://ann:***@h/x?options=-csearch_path%3Da&password=hidden"


def asked(listener: socket.socket, told: list[str]) -> None:
    """Ask whoever connects for a password, as PostgreSQL does, and refuse it."""
    connection, _ = listener.accept()
    with connection:
        while struct.unpack("!ii", connection.recv(8))[1] != 196608:  # it would rather be encrypted
            connection.sendall(b"N")
        connection.recv(1024)
        connection.sendall(b"R" + struct.pack("!ii", 8, 3))  # in clear text
        told.append(connection.recv(1024)[5:-1].decode())
        said = b"SFATAL\0C28P01\0Mpassword authentication failed\0\0"
        connection.sendall(b"E" + struct.pack("!i", len(said) + 4) + said)


@pytest.mark.parametrize("way", ["PGPASSWORD", "PGPASSFILE", "~/.pgpass"])
def test_the_password_may_stand_where_postgresql_looks_for_it(way, tmp_path, monkeypatch):
    for name in ("PGPASSWORD", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / ".pgpass"
    file.write_text(f"127.0.0.1:*:x:ann:{SECRET}\n")
    file.chmod(0o600)
    match way:
        case "PGPASSWORD":
            monkeypatch.setenv(way, SECRET)
        case "PGPASSFILE":
            monkeypatch.setenv(way, str(file))
        case _:
            monkeypatch.setenv("HOME", str(tmp_path))
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=asked, args=(listener, told))
        server.start()
        with pytest.raises(StoreError, match="refuses the password") as caught:
            open_store(f"postgresql://ann@127.0.0.1:{listener.getsockname()[1]}/x?gssencmode=disable", timeout_s=5)
        server.join(10)
    assert told == [SECRET] and SECRET not in str(caught.value)
