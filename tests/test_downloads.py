import errno
import hashlib
import io
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer

import pytest

from automl import BadInput
from automl.downloads import fetch, unpack
from automl.errors import StorageError

SECURITY = Path(__file__).parent / "data" / "cases" / "security"
CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<html>Sign in to the network</html>"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        manner = self.path.split("/")[1]
        if manner == "missing":
            self.send_error(404)
            return
        body = PAGE if manner == "page" else CONTENT
        self.send_response(200)
        if manner != "unannounced":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if manner in ("half", "stall", "unannounced"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if manner == "stall":
                self.server.released.wait(20)
            return
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    def server_bind(self):  # without asking for the name of the machine, which can take ten seconds
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    with serve() as url:
        yield url


@contextmanager
def serve():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.released = threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("half", "the connection broke .*128000 bytes read, 128000 more expected"),
        ("unannounced", "another file came"),
        ("page", f"another file came .*expected sha256:{SHA256} but got {hashlib.sha256(PAGE).hexdigest()}"),
        ("stall", "nothing came for 0.3 s"),
        ("missing", "the server answers 404"),
    ],
)
def test_a_download_that_breaks_leaves_nothing_and_then_succeeds(server, tmp_path, manner, reason):
    path = tmp_path / "cache" / "data.gz"
    with pytest.raises(BadInput, match=reason) as error:
        fetch([f"{server}/{manner}/data.gz"], SHA256, path, timeout=0.3)
    assert f"{server}/{manner}/data.gz" in str(error.value)
    assert list(path.parent.iterdir()) == []
    assert fetch([f"{server}/good/data.gz"], SHA256, path).read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_a_server_that_is_not_there_is_named(tmp_path):
    with serve() as url:
        pass
    with pytest.raises(BadInput, match="Connection refused"):
        fetch([f"{url}/good/data.gz"], SHA256, tmp_path / "data.gz")
    assert list(tmp_path.iterdir()) == []


def test_the_next_url_is_asked_when_one_fails(server, tmp_path):
    fetch([f"{server}/missing/x", f"{server}/page/x", f"{server}/good/x"], SHA256, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_what_is_there_and_right_is_not_fetched_again(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    assert fetch(["http://127.0.0.1:9/x"], SHA256, tmp_path / "x") == tmp_path / "x"


def test_what_is_there_and_damaged_is_kept_until_the_right_file_has_come(server, tmp_path):
    (tmp_path / "x").write_bytes(b"mine")
    with pytest.raises(BadInput):
        fetch([f"{server}/page/x"], SHA256, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"mine"
    fetch([f"{server}/good/x"], SHA256, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_an_interrupt_leaves_nothing(server, tmp_path, monkeypatch):
    def interrupted(downloader, url, output_file, pooch):
        Path(output_file).write_bytes(CONTENT[:100])
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch([f"{server}/good/x"], SHA256, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="could not be written"):
        fetch([f"{server}/good/x"], SHA256, tmp_path / "file" / "x")


def test_an_archive_is_unpacked_into_its_folder(tmp_path):
    with tarfile.open(tmp_path / "good.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("inner/a.bin")
        info.size = len(CONTENT)
        tar.addfile(info, io.BytesIO(CONTENT))
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as zipped:
        zipped.writestr("inner/a.bin", CONTENT)
    for name in ("good.tar.gz", "good.zip"):
        folder = unpack(tmp_path / name, tmp_path / "out" / name)
        assert (folder / "inner" / "a.bin").read_bytes() == CONTENT
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.tar.gz", "good.zip"]


def test_unpacking_again_replaces_the_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as zipped:
        zipped.writestr("a", b"new")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_bytes(b"old")
    assert [path.name for path in unpack(tmp_path / "good.zip", tmp_path / "out").iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("climbs.tar.gz", "outside"), ("climbs.zip", "outside"), ("link_out.tar.gz", "is a link")],
)
def test_an_archive_that_leaves_its_folder_is_refused_before_anything_is_written(tmp_path, name, reason):
    with pytest.raises(BadInput, match=reason):
        unpack(SECURITY / name, tmp_path / "a" / "b" / "out")
    assert [path for path in tmp_path.rglob("*") if path.name not in ("a", "b")] == []
    assert not list(SECURITY.rglob("OUTSIDE.txt"))
    assert not Path("OUTSIDE.txt").exists()


@pytest.mark.parametrize("name", ["/etc/x", "a/../../x", "..\\x", "C:\\x", "C:/x"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_no_name_leads_out(tmp_path, name, kind):
    archive = tmp_path / f"bad.{kind}"
    if kind == "tar":
        with tarfile.open(archive, "w") as tar:
            tar.addfile(tarfile.TarInfo("good"))
            tar.addfile(tarfile.TarInfo(name))
    else:
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("good", b"")
            zipped.writestr(name, b"")
    with pytest.raises(BadInput, match="outside of its folder"):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as zipped:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        zipped.writestr(info, "/etc")
    with pytest.raises(BadInput, match="is a link"):
        unpack(tmp_path / "link.zip", tmp_path / "out")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("automl.downloads.LARGEST", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("zeros", bytes(1001))
    with pytest.raises(BadInput, match="would take 1,001 bytes"):
        unpack(tmp_path / "bomb.zip", tmp_path / "out")


def test_a_disk_that_fills_up_while_unpacking_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as zipped:
        zipped.writestr("file", b"x")
    unpack(tmp_path / "good.zip", tmp_path / "out")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(StorageError, match="out could not be written: No space left"):
        unpack(tmp_path / "good.zip", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.zip", "out"]
    assert (tmp_path / "out" / "file").read_bytes() == b"x"
    with pytest.raises(StorageError, match="could not be written"):
        unpack(tmp_path / "good.zip", tmp_path / "good.zip" / "out")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06 almost a zip", b"\x1f\x8b\x08\x00 almost gzip"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "x.tar.gz").write_bytes(content)
    with pytest.raises(BadInput, match="could not be unpacked"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar.gz"]
