"""Folders of others' models: local, cached, from the hub; without a network one line that helps."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

hub = pytest.importorskip("huggingface_hub")

from depthlight.core.errors import CheckpointError  # noqa: E402
from depthlight.nets import snapshots  # noqa: E402
from depthlight.nets.snapshots import Files, find_snapshot  # noqa: E402

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
FILES = Files(needed=(("config.json",), WEIGHTS), also=("extra.json",))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "some/model"


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub client; the folder where it would have the model."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "cache" / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return repository / "snapshots" / COMMIT


class Hub:
    """A hub that has files; notes what is asked of it."""

    def __init__(self, monkeypatch, target: Path, *names: str) -> None:
        self.names, self.target, self.asked = names, target, []
        monkeypatch.setattr(hub.HfApi, "model_info", self.info)
        monkeypatch.setattr(hub, "snapshot_download", self.download)

    def info(self, name, *, timeout):
        assert timeout == snapshots.HUB_TIMEOUT
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in self.names])

    def download(self, name, *, allow_patterns):
        from fnmatch import fnmatch

        self.asked += allow_patterns
        got = [file for file in self.names if any(fnmatch(file, pattern) for pattern in allow_patterns)]
        return str(fill(self.target, *got))


@pytest.fixture
def no_network(monkeypatch):
    def connect(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(hub.HfApi, "model_info", connect)


def test_a_folder_needs_no_hub(tmp_path, no_network):
    folder = fill(tmp_path / "net", "config.json", "model.safetensors")
    found = find_snapshot(folder, FILES)
    assert (found.folder, found.chosen, found.revision) == (folder, ("config.json", "model.safetensors"), None)
    assert found.weights_sha256() == hashlib.sha256(b"model.safetensors").hexdigest()


def test_a_cached_model_needs_no_network(cache, no_network):
    fill(cache, "config.json", "model.safetensors")
    found = find_snapshot(NAME, FILES)
    assert (found.folder, found.revision, found.source) == (cache, COMMIT, NAME)


def test_a_download_that_was_broken_off_goes_on(cache, monkeypatch):
    fill(cache, "config.json")
    there = Hub(monkeypatch, cache, "config.json", "model.safetensors", "extra.json", "huge.bin", "other.json")
    assert find_snapshot(NAME, FILES).folder == cache
    assert there.asked == ["config.json", "extra.json", "model.safetensors"]


def test_files_below_the_top_are_found_in_the_cache(cache, no_network):
    fill(cache, "unet/config.json", "unet/model.safetensors")
    files = Files(needed=(("unet/config.json",), ("unet/model.safetensors",)))
    assert find_snapshot(NAME, files).folder == cache


def test_the_first_choice_wins(cache, monkeypatch):
    there = Hub(monkeypatch, cache, "config.json", *WEIGHTS)
    assert find_snapshot(NAME, FILES).chosen == ("config.json", "model.safetensors")
    assert "model.safetensors.index.json" not in there.asked


def sharded(folder: Path) -> Path:
    fill(folder, "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    return folder


def test_shards_belong_to_the_hash(tmp_path):
    folder = sharded(tmp_path)
    before = find_snapshot(folder, FILES).weights_sha256()
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"other")
    assert find_snapshot(folder, FILES).weights_sha256() != before


def test_a_lost_shard_is_named(tmp_path):
    folder = sharded(tmp_path)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-00002-of-00002\.safetensors"):
        find_snapshot(folder, FILES)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_damaged_index_ends_in_one_line(tmp_path, text):
    folder = sharded(tmp_path)
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="is damaged"):
        find_snapshot(folder, FILES)


def test_shards_are_downloaded_with_their_index(cache, tmp_path, monkeypatch):
    source = sharded(tmp_path / "source")
    there = Hub(monkeypatch, cache, *(path.name for path in source.iterdir()))

    def download(name, *, allow_patterns):
        there.asked += allow_patterns
        return str(shutil.copytree(source, cache))

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert find_snapshot(NAME, FILES).chosen == ("config.json", "model.safetensors.index.json")
    assert "model-*.safetensors" in there.asked


def refused(source) -> str:
    with pytest.raises(CheckpointError) as caught:
        find_snapshot(source, FILES)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_network_the_line_says_how_to_fetch_it_elsewhere(cache, no_network):
    said = refused(NAME)
    assert "the hub cannot be reached (OSError)" in said
    assert (
        'hf download some/model --include "*.json" --include "*.txt" --include "model.safetensors" --local-dir FOLDER'
        in said
    )


def test_a_hub_that_does_not_answer_is_given_up(cache, monkeypatch):
    """A server that takes the connection and keeps silent: only our own time limit ends this."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        real = hub.HfApi
        monkeypatch.setattr(hub, "HfApi", lambda: real(endpoint=hub.constants.ENDPOINT))
        monkeypatch.setattr(snapshots, "HUB_TIMEOUT", 0.2)
        assert "cannot be reached" in refused(NAME)


def test_a_download_that_breaks_ends_in_the_same_line(cache, monkeypatch):
    Hub(monkeypatch, cache, "config.json", "model.safetensors")

    def broken(*args, **kwargs):
        raise ConnectionResetError

    monkeypatch.setattr(hub, "snapshot_download", broken)
    assert "hf download some/model" in refused(NAME)


def test_a_model_the_hub_does_not_show(cache, monkeypatch):
    error = hub.errors.RepositoryNotFoundError

    def unknown(*args, **kwargs):
        raise error.__new__(error)

    monkeypatch.setattr(hub.HfApi, "model_info", unknown)
    assert "the Hugging Face hub shows no model some/model" in refused(NAME)


def test_gone_ids_name_their_heirs(cache, no_network):
    for gone, heir in snapshots.INSTEAD.items():
        assert f"Use {heir}." in refused(gone)


def test_weights_that_can_carry_code_are_refused(cache, tmp_path, monkeypatch):
    folder = fill(tmp_path / "net", "config.json", "pytorch_model.bin")
    assert "only as pytorch_model.bin, which can carry code; expected model.safetensors" in refused(folder)
    there = Hub(monkeypatch, cache, "config.json", "pytorch_model.bin")
    assert "only as pytorch_model.bin" in refused(NAME)
    assert there.asked == []


def test_what_is_neither_folder_nor_id(tmp_path, no_network):
    fill(tmp_path, "file.safetensors")
    for source in (tmp_path / "nowhere", "no slash", "a/b/c", "../x", "owner/", tmp_path / "file.safetensors"):
        assert "expected a folder, or a hub id" in refused(source)


def test_a_folder_without_the_files(tmp_path):
    assert "has no config.json" in refused(fill(tmp_path, "model.safetensors"))
    assert "expected one of model.safetensors, model.safetensors.index.json" in refused(
        fill(tmp_path / "other", "config.json")
    )
