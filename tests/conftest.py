"""Every test has caches of its own, and none reaches beyond this machine."""

import ipaddress
import os
import socket

import hypothesis
import pytest
from file_server import FileServer

# CI decides on a change by the same examples every time; on a developer's machine each run looks for new ones.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory, monkeypatch):
    """Temporary caches, no `IQAZOO_*` settings of the caller, connections to this machine only."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("IQAZOO_CACHE", str(home / "iqazoo"))
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.delenv("IQAZOO_OFFLINE", raising=False)
    monkeypatch.delenv("IQAZOO_WEIGHTS_MIRROR", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # a pytest that a test starts is none of this run's
    for name in ("no_proxy", "NO_PROXY"):  # a proxy would take even requests to 127.0.0.1 elsewhere
        monkeypatch.setenv(name, "*")

    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_unless_local(address[0])
        return connect(self, address)

    def guarded_resolve(host, *args, **kwargs):
        _refuse_unless_local(host)
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_resolve)


@pytest.fixture
def server():
    """An HTTP server on this machine that serves what the test gives it."""
    with FileServer() as running:
        yield running


def _refuse_unless_local(host):
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost", socket.gethostname()):
        return
    try:
        local = ipaddress.ip_address(name).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ConnectionRefusedError(f"tests reach only this machine, not {name!r}; serve the file with `server`")


@pytest.fixture
def write(tmp_path):
    """Writes bytes, or an array or picture through Pillow, and returns the path."""

    from PIL import Image

    def write(name, content, **options):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            picture = content if isinstance(content, Image.Image) else Image.fromarray(content)
            picture.save(path, **options)
        return path

    return write


@pytest.fixture
def opencv():
    """OpenCV, or a skipped test."""
    return pytest.importorskip("cv2")
