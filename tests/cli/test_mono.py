"""``depthlight mono``: a photo, a folder that goes on, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from depthlight.infer.mono import MonoModel, load_mono
from depthlight.io.inverse_depth import read_inverse_depth
from depthlight.nets.checkpoints import save_safetensors
from depthlight.nets.mono import build

TINY = {"widths": [8, 8, 8, 8], "blocks": [0, 0, 0, 0], "context": 0, "heads": 1, "last": 4, "working": 64}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_safetensors(path, build("mono", TINY), {"family": "mono", "name": "mono.tiny", "network": json.dumps(TINY)})
    return path


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 64, 3), np.uint8)).save(path)
    return path


def test_one_photo(call, weights, tmp_path):
    photo = picture(tmp_path / "photo.png", 0)
    out = tmp_path / "out"
    status, text, _ = call("mono", photo, "-o", out, "-m", weights, "--format", "npy", "--json")
    assert status == 0
    result = json.loads((out / "result.json").read_text())
    assert json.loads(text) == result
    assert {path.name for path in out.iterdir()} == {*result["files"], "result.json"}
    assert (result["model"], result["quantity"], result["unit"]) == (
        "mono.tiny",
        "relative inverse depth",
        "none (affine-ambiguous)",
    )
    values = np.load(out / "inverse_depth.npy", allow_pickle=False)
    assert np.array_equal(values, load_mono(weights).predict(photo).values)
    stored, meta = read_inverse_depth(out / "inverse_depth.png")
    np.testing.assert_allclose(stored, values, atol=(values.max() - values.min()) / 65535)
    assert "view" not in meta, "one photo is no left view"
    assert meta["model"] == "mono.tiny" and meta["weights_sha256"] == result["weights_sha256"]
    assert np.asarray(Image.open(out / "normals.png")).shape == (40, 64, 3)


def test_a_folder_goes_on_and_does_only_what_is_missing(call, weights, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for index in range(3):
        picture(photos / f"p{index}.png", index)
    (photos / "p1.png").write_bytes(b"no picture")
    status, text, err = call("mono", photos, "-o", out, "-m", weights, "--json")
    told = json.loads(text)
    assert (status, told["done"], list(told["failed"])) == (1, ["p0", "p2"], ["p1"])
    assert "p1" in err
    picture(photos / "p1.png", 1)
    picture(photos / "p2.png", 9)  # another photo of that name
    (out / "p0" / "inverse_depth.png").unlink()
    told = json.loads(call("mono", photos, "-o", out, "-m", weights, "--json")[1])
    assert (told["done"], told["kept"], told["failed"]) == (["p0", "p1", "p2"], [], {})
    told = json.loads(call("mono", photos, "-o", out, "-m", weights, "--json")[1])
    assert (told["done"], told["kept"]) == ([], ["p0", "p1", "p2"])
    told = json.loads(call("mono", photos, "-o", out, "-m", weights, "--json", "--working", "96")[1])
    assert told["done"] == ["p0", "p1", "p2"], "another request is another result"


def test_another_quantity_is_another_request(call, weights, tmp_path, monkeypatch):
    picture(tmp_path / "photos/p.png", 0)
    command = ("mono", tmp_path / "photos", "-o", tmp_path / "out", "-m", weights)
    assert "1 done" in call(*command)[1]
    monkeypatch.setattr(MonoModel, "quantity", "depth")  # as --quantity does to a hub model that does not say
    assert "1 done" in call(*command)[1]
    assert (tmp_path / "out/p/depth.png").is_file()


def test_side_by_side_for_three_d_viewers(call, weights, tmp_path):
    photo, out = picture(tmp_path / "photo.png", 0), tmp_path / "out"
    assert call("mono", photo, "-o", out, "-m", weights, "--sbs", 5)[0] == 0
    with Image.open(out / "side_by_side.jpg") as shown:
        assert shown.size == (128, 40)
    assert "side_by_side.jpg" in json.loads((out / "result.json").read_text())["files"]
    assert call("mono", photo, "-o", out, "-m", weights)[0] == 0
    assert not (out / "side_by_side.jpg").exists(), "a file of an earlier run is gone"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sbs", "30"], "% of the width"),
        (["--focal", "100"], "metric models"),
        (["--format", "exr"], "any of png, npy"),
        (["--quantity", "metres"], "quantity"),
        (["--working", "9"], "working size"),
        (["--precision", "fp8"], "precision"),
    ],
)
def test_wrong_options_are_one_line(call, weights, tmp_path, arguments, words):
    photo = picture(tmp_path / "photo.png", 0)
    status, _, err = call("mono", photo, "-o", tmp_path / "out", "-m", weights, *arguments)
    assert status == 2 and words in err and err.count("\n") == 1
    assert not (tmp_path / "out" / "result.json").exists()


def test_wrong_inputs_are_one_line(call, weights, tmp_path):
    for photo, words in ((tmp_path / "none.png", "does not exist"), (tmp_path, "image")):
        status, _, err = call("mono", photo, "-o", tmp_path / "out", "-m", weights)
        assert status == 2 and words in err and err.count("\n") == 1


def test_a_photo_is_never_replaced(call, weights, tmp_path):
    photo = picture(tmp_path / "preview.png", 0)
    before = photo.read_bytes()
    status, _, err = call("mono", photo, "-o", tmp_path, "-m", weights)
    assert status == 2 and "would be replaced" in err and photo.read_bytes() == before
