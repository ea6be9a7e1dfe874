import functools
import hashlib
import http.server
import io
import sys
import tarfile
import threading

import pytest

from automl import data
from automl.data.download import Download, fetch
from automl.errors import DataError


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A web server on this machine: (folder it serves, its address, the requests it got)."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder, requests = tmp_path / "site", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            requests.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()
    thread.join()


def publish(folder, name, content):
    (folder / name).write_bytes(content)
    return hashlib.md5(content).hexdigest()


def archive(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"set/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_a_file_is_fetched_once(site, tmp_path, capsys):
    folder, address, requests = site
    content = bytes(range(256)) * 1000
    download = Download(f"{address}/a.gz", publish(folder, "a.gz", content))
    fetch([download], tmp_path / "cache")
    assert (tmp_path / "cache" / "a.gz").read_bytes() == content
    fetch([download], tmp_path / "cache")
    assert len(requests) == 1
    out, err = capsys.readouterr()
    assert not out and "Downloading a.gz" in err


def test_the_wanted_members_of_an_archive_are_unpacked(site, tmp_path):
    folder, address, _ = site
    md5 = publish(folder, "set.tar.gz", archive(train=b"1" * 5000, test=b"2", readme=b"3"))
    fetch([Download(f"{address}/set.tar.gz", md5, ("set/train", "set/test"))], tmp_path / "cache")
    found = sorted(str(path.relative_to(tmp_path / "cache")) for path in (tmp_path / "cache").rglob("*"))
    assert found == ["set", "set/test", "set/train"]
    assert (tmp_path / "cache" / "set" / "train").read_bytes() == b"1" * 5000


def test_content_with_another_checksum_is_refused_and_not_kept(site, tmp_path):
    folder, address, _ = site
    publish(folder, "a.gz", b"tampered")
    with pytest.raises(DataError, match=r"cannot download .*a\.gz"):
        fetch([Download(f"{address}/a.gz", hashlib.md5(b"original").hexdigest())], tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_archive_that_lacks_a_member(site, tmp_path):
    folder, address, _ = site
    md5 = publish(folder, "set.tar.gz", archive(train=b"1"))
    with pytest.raises(DataError, match="place set/train, set/test in"):
        fetch([Download(f"{address}/set.tar.gz", md5, ("set/train", "set/test"))], tmp_path / "cache")


def test_offline_the_error_says_which_files_to_place_where(site, tmp_path):
    _, address, _ = site
    with pytest.raises(DataError, match="404"):
        fetch([Download(f"{address}/absent.gz", "0" * 32)], tmp_path / "cache")
    closed = "http://127.0.0.1:9"
    with pytest.raises(DataError, match=r"cannot download .*\(ConnectionError\).*place train\.gz in .*cache"):
        fetch([Download(f"{closed}/train.gz", "0" * 32)], tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10", r"place cifar-10-batches-py.data_batch_1, .*test_batch in .*automl-compress"),
        ("mnist", r"place train-images-idx3-ubyte\.gz, .*t10k-labels-idx1-ubyte\.gz in .*automl-compress.MNIST.raw"),
    ],
)
def test_without_root_cache_or_network_the_remedy_is_named(tmp_path, monkeypatch, name, message):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with pytest.raises(DataError, match=message):
        data.load(name, validation_size=5, calibration_size=5)


@pytest.mark.skipif(sys.platform != "linux", reason="the cache folder is set through XDG_CACHE_HOME")
def test_without_a_root_the_cache_is_read(data_root, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(data_root.parent))
    data_root.rename(data_root.parent / "automl-compress")
    splits = data.load("cifar10", validation_size=5, calibration_size=5)
    assert len(splits.train) == 95
