"""Names resolve as stated, cards describe the files beside them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from depthlight.core import registry
from depthlight.core.errors import CheckpointError, InputError, UnknownNameError


def test_default_is_bundled():
    assert registry.resolve(None) == registry.DEFAULT_MODEL
    assert registry.DEFAULT_MODEL in registry.bundled()


def test_bare_families_resolve_to_stated_tags():
    assert registry.resolve("light").startswith("light.")
    assert registry.resolve("las2-m") == "las2-m.official"
    assert registry.family_of("las2-m.official") == "las2-m"


def test_every_listed_name_resolves_to_itself():
    for name in registry.list_models():
        assert registry.resolve(name) == name
    assert registry.list_models("las2*") == [f"las2-{size}.official" for size in "hlms"]


def test_unknown_name_offers_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'light'"):
        registry.resolve("ligth")


@pytest.mark.parametrize("name", list(registry.bundled()))
def test_card_matches_its_files(name):  # U3
    load_file = pytest.importorskip("safetensors.numpy").load_file

    card = registry.bundled()[name]
    for kind, file in card.files.items():
        path = registry.verified_path(card, kind)
        assert path.stat().st_size == file.bytes <= 10_000_000
    tensors = load_file(registry.verified_path(card, "safetensors"))
    assert all(np.isfinite(tensor.astype(np.float64)).all() for tensor in tensors.values())


@pytest.mark.parametrize("name", list(registry.bundled()))
def test_lineage_says_how_the_weights_came_about(name):
    segments = [entry for entry in registry.bundled()[name].lineage if "source" not in entry]
    said = {"recipe", "stage", "commit", "samples", "seed", "start_sha256", "core_hours"}
    assert segments and all(set(entry) - {"changed"} == said for entry in segments)


def test_all_bundled_weights_stay_small():
    total = sum(file.bytes for card in registry.bundled().values() for file in card.files.values())
    assert total <= 60_000_000


def test_a_changed_byte_is_noticed(tmp_path, monkeypatch):
    card = registry.bundled()[registry.DEFAULT_MODEL]
    data = bytearray(card.path("onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / card.files["onnx"].file).write_bytes(data)
    monkeypatch.setattr(registry, "WEIGHTS_DIR", tmp_path)
    with pytest.raises(CheckpointError, match="damaged"):
        registry.verified_path(card, "onnx")
    with pytest.raises(CheckpointError, match="missing"):
        registry.verified_path(dataclasses.replace(card), "safetensors")


def test_what_cannot_be_hashed_is_one_line(tmp_path):
    for path, words in ((tmp_path, "directory"), (tmp_path / "none", "No such file")):
        with pytest.raises(InputError, match=f"cannot read .*{words}"):
            registry.sha256_of(path)
