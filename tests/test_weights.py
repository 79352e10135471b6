"""Weight files: where they lie, how they are fetched, and that nothing but the promised file is ever used."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from failing_disk import files_no_larger_than, full_disk
from file_server import Reply

from iqazoo import environment, weights
from iqazoo.errors import WeightsError
from iqazoo.metric_spec import Weights

GOOD = bytes(range(256)) * 8192  # two chunks
BAD = b"not the file" * 100
SHA256 = hashlib.sha256(GOOD).hexdigest()
TRUNK = f"trunk-{SHA256[:8]}.pth"


@pytest.fixture
def spec(server):
    server.replies["heads.pth"] = Reply(GOOD)
    return Weights(url=server.url("heads.pth"), sha256=SHA256, license="MIT")


@pytest.fixture
def trunk(server):
    """A file of which only the short hash in its name is known."""
    server.replies[TRUNK] = Reply(GOOD)
    return Weights(url=server.url(TRUNK), sha256=SHA256[:8], license="MIT")


def cached_files():
    return [path for path in environment.cache_folder().rglob("*") if path.is_file()]


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def check_fetch_fails(spec):
    """Fetch, expect the error, and check that it names all that a user needs."""
    own = environment.cache_folder() / "weights" / spec.sha256[:16] / spec.file_name
    with pytest.raises(WeightsError) as caught:
        weights.fetch(spec)
    message = str(caught.value)
    for part in (spec.url, spec.sha256, str(own)):
        assert part in message
    return message


def test_fetches_once_into_a_folder_named_by_the_hash(server, spec):
    assert not weights.is_present(spec)
    path = weights.fetch(spec)
    assert path == environment.cache_folder() / "weights" / SHA256[:16] / "heads.pth"
    assert path == weights.local_path(spec) == weights.fetch(spec) == weights.verify(spec)
    assert path.read_bytes() == GOOD
    assert weights.is_present(spec)
    assert server.requests == ["heads.pth"]
    assert cached_files() == [path]
    assert os.listdir(path.parent) == ["heads.pth"]


def test_cached_file_outlives_its_server(server, spec):
    path = weights.fetch(spec)
    server.stop()
    assert weights.fetch(spec) == path


def test_file_url(tmp_path):
    source = put(tmp_path / "a b.pth", GOOD)
    spec = Weights(url=source.as_uri(), sha256=SHA256, license="MIT")
    assert weights.fetch(spec).read_bytes() == GOOD


def test_other_users_may_read_the_cache(spec):
    before = os.umask(0o022)
    try:
        assert weights.fetch(spec).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (Reply(BAD), hashlib.sha256(BAD).hexdigest()),
        (Reply(b""), hashlib.sha256(b"").hexdigest()),
        (Reply(GOOD[:-1], promised=len(GOOD)), "IncompleteRead"),
        (Reply(GOOD[:-1]), hashlib.sha256(GOOD[:-1]).hexdigest()),
        (Reply(status=404), "404"),
        (Reply(GOOD, status=500), "500"),
    ],
    ids=["wrong hash", "empty", "truncated", "cut at the source", "404", "500"],
)
def test_bad_answers_leave_nothing_behind(server, spec, reply, cause):
    server.replies["heads.pth"] = reply
    bystander = put(environment.cache_folder() / "weights" / "other" / "file.pth", GOOD)
    assert cause in check_fetch_fails(spec)
    assert cached_files() == [bystander]


def test_no_server(server, spec):
    server.stop()
    assert "refused" in check_fetch_fails(spec)
    assert cached_files() == []


def test_no_route_beyond_this_machine():
    spec = Weights(url="http://weights.invalid/heads.pth", sha256=SHA256, license="MIT")
    assert "tests reach only this machine" in check_fetch_fails(spec)


@pytest.mark.parametrize("url", ["gopher://host/heads.pth", "heads.pth"])
def test_urls_that_nobody_can_fetch(url):
    check_fetch_fails(Weights(url=url, sha256=SHA256, license="MIT"))


def test_verify_says_absent_or_wrong_and_asks_nobody(server, spec):
    with pytest.raises(WeightsError, match="No such file"):
        weights.verify(spec)
    put(weights.local_path(spec), BAD)
    with pytest.raises(WeightsError, match=hashlib.sha256(BAD).hexdigest()):
        weights.verify(spec)
    assert not server.requests


def test_corrupt_cached_file_is_downloaded_anew(server, spec):
    path = put(weights.local_path(spec), BAD)
    assert weights.fetch(spec) == path
    assert path.read_bytes() == GOOD


def test_corrupt_cached_file_stays_when_there_is_no_better(server, spec):
    path = put(weights.local_path(spec), BAD)
    server.stop()
    assert hashlib.sha256(BAD).hexdigest() in check_fetch_fails(spec)
    assert path.read_bytes() == BAD


def test_is_present_compares_the_size_where_known(spec):
    sized = Weights(url=spec.url, sha256=SHA256, license="MIT", size=len(GOOD))
    put(weights.local_path(sized), GOOD[:-1])
    assert weights.is_present(spec)
    assert not weights.is_present(sized)


class TestOffline:
    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch):
        monkeypatch.setenv("IQAZOO_OFFLINE", "1")

    def test_nothing_is_asked_of_any_server(self, server, spec, monkeypatch):
        monkeypatch.setenv("IQAZOO_WEIGHTS_MIRROR", server.url("mirror"))
        assert "IQAZOO_OFFLINE" in check_fetch_fails(spec)
        assert not server.requests

    def test_file_put_by_hand(self, spec):
        path = put(weights.local_path(spec), GOOD)
        assert weights.fetch(spec) == path

    def test_corrupt_cached_file(self, server, spec):
        put(weights.local_path(spec), BAD)
        assert hashlib.sha256(BAD).hexdigest() in check_fetch_fails(spec)
        assert not server.requests

    def test_mirror_that_is_a_folder(self, server, spec, monkeypatch, tmp_path):
        put(tmp_path / "my mirror" / "heads.pth", GOOD)
        monkeypatch.setenv("IQAZOO_WEIGHTS_MIRROR", str(tmp_path / "my mirror"))
        assert weights.fetch(spec).read_bytes() == GOOD
        assert not server.requests


class TestMirror:
    @pytest.mark.parametrize("slash", ["", "/"])
    def test_url(self, server, spec, monkeypatch, slash):
        server.replies["mirror/heads.pth"] = Reply(GOOD)
        monkeypatch.setenv("IQAZOO_WEIGHTS_MIRROR", server.url("mirror") + slash)
        assert weights.fetch(spec).read_bytes() == GOOD
        assert server.requests == ["mirror/heads.pth"]

    def test_relative_folder(self, server, spec, monkeypatch, tmp_path):
        put(tmp_path / "mirror" / "heads.pth", GOOD)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("IQAZOO_WEIGHTS_MIRROR", "mirror")
        assert weights.fetch(spec).read_bytes() == GOOD
        assert not server.requests

    @pytest.mark.parametrize("reply", [Reply(BAD), Reply(status=404)])
    def test_failing_mirror_gives_way_to_the_url(self, server, spec, monkeypatch, caplog, reply):
        server.replies["mirror/heads.pth"] = reply
        monkeypatch.setenv("IQAZOO_WEIGHTS_MIRROR", server.url("mirror"))
        assert weights.fetch(spec).read_bytes() == GOOD
        assert server.requests == ["mirror/heads.pth", "heads.pth"]
        assert server.url("mirror/heads.pth") in caplog.text

    def test_both_fail(self, server, spec, monkeypatch, tmp_path):
        server.stop()
        monkeypatch.setenv("IQAZOO_WEIGHTS_MIRROR", str(tmp_path))
        message = check_fetch_fails(spec)
        assert str(tmp_path / "heads.pth") in message
        assert "refused" in message


class TestShortHash:
    """Files of torchvision, known by the short hash in their names."""

    def test_downloads_into_our_own_cache(self, server, trunk):
        path = weights.fetch(trunk)
        assert path == environment.cache_folder() / "weights" / SHA256[:8] / TRUNK
        assert path == weights.fetch(trunk) == weights.verify(trunk) == weights.local_path(trunk)
        assert server.requests == [TRUNK]
        assert not environment.torch_checkpoints_folder().exists()

    def test_other_content_is_refused(self, server, trunk):
        server.replies[TRUNK] = Reply(BAD)
        assert hashlib.sha256(BAD).hexdigest() in check_fetch_fails(trunk)
        assert cached_files() == []

    def test_copy_of_torch_hub_is_used(self, server, trunk):
        theirs = put(environment.torch_checkpoints_folder() / TRUNK, GOOD)
        assert weights.is_present(trunk)
        assert theirs == weights.local_path(trunk) == weights.verify(trunk) == weights.fetch(trunk)
        assert not server.requests

    def test_corrupt_copy_of_torch_hub_is_left_alone(self, server, trunk):
        theirs = put(environment.torch_checkpoints_folder() / TRUNK, BAD)
        ours = weights.fetch(trunk)
        assert ours == weights.local_path(trunk) == weights.verify(trunk)
        assert ours.read_bytes() == GOOD
        assert ours.is_relative_to(environment.cache_folder())
        assert theirs.read_bytes() == BAD

    def test_full_hashes_are_not_sought_there(self, server, spec):
        put(environment.torch_checkpoints_folder() / "heads.pth", GOOD)
        weights.fetch(spec)
        assert server.requests == ["heads.pth"]


class TestStorage:
    def test_write_fails_half_way(self, spec):
        with files_no_larger_than(len(GOOD) // 2):
            assert "too large" in check_fetch_fails(spec)
        assert cached_files() == []

    @pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
    def test_full_disk(self, spec, monkeypatch, call):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full_disk)
            assert "No space left" in check_fetch_fails(spec)
        assert cached_files() == []

    def test_cache_that_cannot_be_a_folder(self, server, spec, tmp_path, monkeypatch):
        monkeypatch.setenv("IQAZOO_CACHE", str(put(tmp_path / "file", b"")))
        check_fetch_fails(spec)
        assert not server.requests

    def test_folder_where_the_file_should_be(self, spec):
        weights.local_path(spec).mkdir(parents=True)
        assert "directory" in check_fetch_fails(spec)

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_interrupted_download_leaves_nothing(self, spec, monkeypatch, interrupt):
        def interrupted(*_):
            assert [path.stat().st_size for path in cached_files()] == [len(GOOD)]
            raise interrupt

        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(interrupt):
            weights.fetch(spec)
        assert cached_files() == []
        assert os.listdir(weights.local_path(spec).parent) == []


def test_threads_that_fetch_at_once(server, spec):
    server.replies["heads.pth"] = Reply(GOOD, gate=Barrier(4, timeout=20))
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(weights.fetch, [spec] * 4))
    assert server.requests == ["heads.pth"] * 4
    assert cached_files() == list(paths)
    assert os.listdir(weights.local_path(spec).parent) == ["heads.pth"]


def test_processes_that_fetch_at_once(server, spec):
    server.replies["heads.pth"] = Reply(GOOD, gate=Barrier(2, timeout=20))
    code = f"from iqazoo.weights import Weights, fetch; print(fetch({spec!r}))"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=30)[0].strip() for process in running]
    assert server.requests == ["heads.pth"] * 2
    assert [process.returncode for process in running] == [0, 0]
    assert [Path(line) for line in printed] == [weights.verify(spec)] * 2


def test_progress_goes_to_standard_error(spec, capfd):
    weights.fetch(spec, progress=True)
    shown = capfd.readouterr()
    assert "heads.pth" in shown.err
    assert shown.out == ""


def test_importing_needs_neither_torch_nor_pooch():
    code = "import sys, iqazoo.weights; assert not {'torch', 'pooch', 'requests', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
