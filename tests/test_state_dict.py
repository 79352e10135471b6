"""State dicts: nothing in a file is run, nothing is loaded by halves, nothing is lost by a failing write."""

import hashlib
import io
import os

import pytest
import safetensors.torch
import torch
from failing_disk import files_no_larger_than, full_disk
from file_server import Reply
from torch import Tensor, nn

from iqazoo import state_dict, weights
from iqazoo.errors import InputError, WeightsError
from iqazoo.metric_spec import API, Weights


class Network(nn.Module):
    """A trunk and heads, as learned metrics have them, with each kind of buffer."""

    scale: Tensor
    shift: Tensor

    def __init__(self, width=3):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.heads = nn.Linear(width, 1, bias=False)
        self.register_buffer("scale", torch.rand(3))
        self.register_buffer("shift", torch.rand(3), persistent=False)


def copied(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def publish(server, name, state, prefix=""):
    """Serve a state dict in torch's format and return its `Weights`."""
    file = io.BytesIO()
    torch.save(state, file)
    server.replies[name] = Reply(file.getvalue())
    sha256 = hashlib.sha256(file.getvalue()).hexdigest()
    return Weights(url=server.url(name), sha256=sha256, license="MIT", prefix=prefix)


@pytest.fixture
def published(server):
    """A network, and three files that fill one like it; that of the trunk carries a classifier too."""
    network = Network()
    classifier = {"classifier.weight": torch.rand(10, 3), "1.weight": torch.rand(3), "2": torch.rand(1)}
    files = (
        publish(server, "trunk.pth", classifier | network.trunk.state_dict(), prefix="trunk"),
        publish(server, "heads.pth", network.heads.state_dict(), prefix="heads"),
        publish(server, "scale.pth", {"scale": network.scale}),
    )
    return network, files


class TestRead:
    @pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin"])
    def test_torch_format(self, tmp_path, name):
        state = copied(Network())
        torch.save(state, tmp_path / name)
        assert_same(state_dict.read_state_dict(tmp_path / name), state)

    def test_safetensors(self, tmp_path):
        state = copied(Network())
        safetensors.torch.save_file(state, tmp_path / "a.safetensors")
        assert_same(state_dict.read_state_dict(str(tmp_path / "a.safetensors")), state)

    @pytest.mark.parametrize("zipped", [True, False])
    def test_malicious_pickle_is_not_run(self, tmp_path, zipped):
        trace = tmp_path / "trace"

        class Malicious:
            def __reduce__(self):
                return os.mkdir, (str(trace),)

        path = tmp_path / "a.pth"
        torch.save({"weight": Malicious()}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(WeightsError, match=r"a\.pth.* never run") as caught:
            state_dict.read_state_dict(path)
        assert not trace.exists()
        assert "weights_only" not in str(caught.value)
        with pytest.raises(WeightsError):
            state_dict.load(path, Network())
        assert not trace.exists()

        torch.load(path, weights_only=False)
        assert trace.exists(), "the pickle of this test must be able to do harm"

    @pytest.mark.parametrize(
        ("value", "found"),
        [
            ({"state_dict": {"weight": torch.rand(1)}}, "'state_dict': a dict"),
            ({"weight": torch.rand(1), "epoch": 3}, "'epoch': a int"),
            ({0: torch.rand(1)}, "0: a Tensor"),
            ([torch.rand(1)], "a list"),
            (torch.rand(1), "a Tensor"),
        ],
    )
    def test_anything_but_names_and_tensors(self, tmp_path, value, found):
        torch.save(value, tmp_path / "a.pth")
        with pytest.raises(WeightsError, match=f"no (flat )?state dict.*found {found}"):
            state_dict.read_state_dict(tmp_path / "a.pth")

    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    @pytest.mark.parametrize("keep", [0, 0.5, None], ids=["empty", "truncated", "a web page"])
    def test_broken_files(self, tmp_path, name, keep):
        path = tmp_path / name
        save = safetensors.torch.save_file if path.suffix == ".safetensors" else torch.save
        save(copied(Network()), path)
        whole = path.read_bytes()
        path.write_bytes(b"<!DOCTYPE html>" if keep is None else whole[: int(keep * len(whole))])
        with pytest.raises(WeightsError, match=name):
            state_dict.read_state_dict(path)

    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    def test_absent_file(self, tmp_path, name):
        with pytest.raises(WeightsError, match="No such file"):
            state_dict.read_state_dict(tmp_path / name)


class TestFill:
    def test_each_file_goes_under_its_prefix_and_the_rest_is_ignored(self, published):
        source, files = published
        network = Network()
        shift = network.shift.clone()
        state_dict.fill(network, files)
        assert_same(copied(network), copied(source))
        assert torch.equal(network.shift, shift)

    def test_file_without_the_counters_of_old_batch_norms(self, server):
        source, network = Network(), Network()
        state = {name: value for name, value in copied(source).items() if "num_batches" not in name}
        state_dict.fill(network, [publish(server, "old.pth", state)])
        assert_same(copied(network), copied(source))

    @pytest.mark.parametrize(
        ("left_out", "names"),
        [(0, ["trunk.0.weight", "trunk.1.running_mean"]), (1, ["heads.weight"]), (2, ["scale"])],
    )
    def test_parameter_or_buffer_in_no_file(self, published, left_out, names):
        _, files = published
        network = Network()
        before = copied(network)
        with pytest.raises(WeightsError) as caught:
            state_dict.fill(network, [file for i, file in enumerate(files) if i != left_out])
        missing, _, held = str(caught.value).partition("Found: ")
        for name in names:
            assert name in missing
            assert name not in held
        assert_same(copied(network), before)

    def test_no_files(self):
        with pytest.raises(WeightsError, match=r"(?s)heads\.weight.*nothing"):
            state_dict.fill(Network(), ())
        state_dict.fill(nn.ReLU(), ())

    def test_other_shape_leaves_the_network_alone(self, published):
        _, files = published
        network = Network(width=4)
        before = copied(network)
        with pytest.raises(WeightsError, match=r"(?s)trunk\.pth.*trunk\.0\.weight.*\[3, 3, 3, 3\].*\[4, 3, 3, 3\]"):
            state_dict.fill(network, files)
        assert_same(copied(network), before)

    def test_all_files_are_fetched_before_any_is_read(self, server, published, monkeypatch):
        _, files = published
        del server.replies["scale.pth"]
        monkeypatch.setattr(state_dict, "read_state_dict", lambda path: pytest.fail(f"read {path}"))
        with pytest.raises(WeightsError, match="404"):
            state_dict.fill(Network(), files)
        assert set(server.requests) == {"trunk.pth", "heads.pth", "scale.pth"}

    def test_parameters_stay_the_same_objects_and_types(self, published):
        _, files = published
        network = Network().double()
        parameters = list(network.parameters())
        state_dict.fill(network, files)
        assert all(p is q and p.dtype == torch.float64 for p, q in zip(network.parameters(), parameters, strict=True))

    def test_progress(self, published, capfd):
        state_dict.fill(Network(), published[1], progress=True)
        assert "heads.pth" in capfd.readouterr().err
        assert all(weights.is_present(file) for file in published[1])


class TestLoad:
    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    def test_whole_state_dict(self, tmp_path, name):
        source, network = Network(), Network()
        save = safetensors.torch.save_file if name.endswith(".safetensors") else torch.save
        save(source.state_dict(), tmp_path / name)
        state_dict.load(tmp_path / name, network)
        assert_same(copied(network), copied(source))

    def test_misfits_are_listed_together_and_leave_the_network_alone(self, tmp_path):
        network = Network()
        before = copied(network)
        state = copied(Network()) | {"extra": torch.rand(1), "scale": torch.rand(5)}
        del state["heads.weight"]
        torch.save(state, tmp_path / "a.pth")
        with pytest.raises(WeightsError) as caught:
            state_dict.load(tmp_path / "a.pth", network)
        for part in ("a.pth", "heads.weight", "extra", "scale", "[5]", "[3]"):
            assert part in str(caught.value)
        assert_same(copied(network), before)


class TestSave:
    def test_round_trip(self, tmp_path):
        path = tmp_path / "a.safetensors"
        source, network = Network(), Network()
        options = {"trunk": "alex", "width": 3, "sizes": [1, 2], "eps": 1e-10, "none": None}
        state_dict.save(path, source, metric="mine", options=options)
        assert state_dict.read_metadata(path) == state_dict.Metadata("mine", options, API)
        state_dict.load(path, network)
        assert_same(copied(network), copied(source))
        assert os.listdir(tmp_path) == ["a.safetensors"]

    def test_shared_and_non_contiguous_tensors(self, tmp_path):
        network = nn.ModuleDict(
            {
                "a": nn.Linear(3, 2),
                "b": nn.Linear(3, 2),
            }
        )
        network["b"].weight = network["a"].weight
        network["a"].bias = nn.Parameter(torch.rand(2, 2)[:, 0])
        network["b"].kernel = nn.Parameter(torch.rand(3, 3, 5, 5).to(memory_format=torch.channels_last))
        state_dict.save(tmp_path / "a.safetensors", network, metric="mine", options={})
        assert_same(state_dict.read_state_dict(tmp_path / "a.safetensors"), copied(network))

    def test_other_users_may_read_it(self, tmp_path):
        before = os.umask(0o022)
        try:
            state_dict.save(tmp_path / "a.safetensors", Network(), metric="mine", options={})
        finally:
            os.umask(before)
        assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o644

    def test_failing_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "a.safetensors"
        state_dict.save(path, Network(), metric="old", options={})
        old = path.read_bytes()
        for call in ("fsync", "replace", "mkdir"):
            with monkeypatch.context() as patch:
                patch.setattr(os, call, full_disk)
                with pytest.raises(WeightsError, match="No space left"):
                    state_dict.save(path, Network(), metric="new", options={})
        with files_no_larger_than(100), pytest.raises(WeightsError, match="too large"):
            state_dict.save(path, Network(), metric="new", options={})
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == ["a.safetensors"]

    def test_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(WeightsError, match="No such file"):
            state_dict.save(tmp_path / "absent" / "a.safetensors", Network(), metric="mine", options={})

    def test_other_suffix(self, tmp_path):
        with pytest.raises(InputError, match=r"a\.pth"):
            state_dict.save(tmp_path / "a.pth", Network(), metric="mine", options={})

    def test_options_that_json_cannot_hold(self, tmp_path):
        with pytest.raises(InputError, match="JSON"):
            state_dict.save(tmp_path / "a.safetensors", Network(), metric="mine", options={"f": print})
        assert os.listdir(tmp_path) == []


class TestMetadata:
    def write(self, path, metadata):
        safetensors.torch.save_file({"a": torch.rand(1)}, path, metadata)
        return path

    @pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
    def test_files_of_others_have_none(self, tmp_path, metadata):
        assert state_dict.read_metadata(self.write(tmp_path / "a.safetensors", metadata)) is None

    def test_torch_format_has_none(self, tmp_path):
        torch.save({}, tmp_path / "a.pth")
        assert state_dict.read_metadata(tmp_path / "a.pth") is None

    @pytest.mark.parametrize(
        "damage",
        [
            {"iqazoo.metric": None},
            {"iqazoo.options": None},
            {"iqazoo.api": None},
            {"iqazoo.options": "{"},
            {"iqazoo.options": "[1]"},
            {"iqazoo.api": "one"},
        ],
    )
    def test_damaged(self, tmp_path, damage):
        whole = {"iqazoo.metric": "mine", "iqazoo.options": "{}", "iqazoo.api": "1"}
        metadata = {name: value for name, value in (whole | damage).items() if value is not None}
        path = self.write(tmp_path / "a.safetensors", metadata)
        with pytest.raises(WeightsError, match=r"a\.safetensors.*iqazoo\.options"):
            state_dict.read_metadata(path)

    def test_broken_file(self, tmp_path):
        (tmp_path / "a.safetensors").write_bytes(b"<!DOCTYPE html>")
        with pytest.raises(WeightsError, match="damaged"):
            state_dict.read_metadata(tmp_path / "a.safetensors")
