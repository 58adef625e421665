"""Single-image prediction: sizes, units, focal lengths, loading, and what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from depthlight.core import registry
from depthlight.core.errors import CheckpointError, InputError, NonFiniteError, UnknownNameError
from depthlight.infer.load import load
from depthlight.infer.mono import MonoModel, load_mono, working_size
from depthlight.io.exif import focal_px
from depthlight.nets.checkpoints import save_safetensors
from depthlight.nets.mono import build
from depthlight.nets.mono.base import MonoNet

TINY = {"widths": [8, 8, 8, 8], "blocks": [0, 0, 0, 0], "context": 0, "heads": 1, "last": 4, "working": 64}


class Slope(MonoNet):
    """Answers the same slope for every image: 1 at the left edge, 3 at the right."""

    working = 64

    def __init__(self, quantity: Any = "inverse_depth", multiple: int = 32) -> None:
        super().__init__()
        self.quantity, self.multiple = quantity, multiple
        self.seen: list[tuple[int, ...]] = []
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, image_B3HW: Tensor) -> Tensor:
        self.check_input(image_B3HW)
        self.seen.append(tuple(image_B3HW.shape))
        _, _, height, width = image_B3HW.shape
        return torch.linspace(1, 3, width).expand(1, 1, height, width)


class Pro(Slope):
    """Takes a focal length (depth is proportional to it), or sees one of twice its width."""

    takes_focal = True

    def predict(self, image_B3HW: Tensor, *, focal_px: float | None = None) -> tuple[Tensor, Tensor]:
        focal = 2.0 * image_B3HW.shape[-1] if focal_px is None else focal_px
        return self.forward(image_B3HW) * focal, torch.tensor([focal])


def model(net: MonoNet, **options: Any) -> MonoModel:
    return MonoModel("toy", net, weights_sha256=None, device="cpu", **options)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 100, 3), np.uint8)


@pytest.fixture(scope="module")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_safetensors(path, build("mono", TINY), {"family": "mono", "name": "mono.tiny", "network": json.dumps(TINY)})
    return path


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(64, 1024), st.sampled_from([1, 14, 32]))
def test_working_sizes_are_multiples_near_the_shape(height: int, width: int, longest: int, multiple: int) -> None:
    rows, columns = working_size(height, width, longest, multiple)
    assert rows % multiple == columns % multiple == 0 and min(rows, columns) >= multiple
    scale = longest / max(height, width)
    assert abs(rows - height * scale) <= max(multiple / 2, multiple - height * scale)
    assert abs(columns - width * scale) <= max(multiple / 2, multiple - width * scale)


def test_the_answer_has_the_size_of_the_image(photo: np.ndarray) -> None:
    net = Slope()
    prediction = model(net).predict(photo)
    assert net.seen == [(1, 3, 32, 64)] and prediction.working_size == (32, 64)
    assert prediction.values.shape == (48, 100) and prediction.values.dtype == np.float32
    assert prediction.values[0, 0] == pytest.approx(1) and prediction.values[-1, -1] == pytest.approx(3)
    facts = prediction.summary()
    assert (facts["working_height"], facts["working_width"]) == (32, 64)
    assert facts["quantity"] == "relative inverse depth" and "affine" in facts["unit"]
    assert model(Slope(), working=96).predict(photo).working_size == (32, 96)


def test_relative_values_never_become_metres(photo: np.ndarray) -> None:
    prediction = model(Slope()).predict(photo)
    with pytest.raises(InputError, match="not metres"):
        prediction.to_depth()
    with pytest.raises(InputError, match="no metric depth"):
        model(Slope()).predict(photo, focal=100.0)


def test_metres_with_a_focal_length_are_points_of_a_pinhole_camera(photo: np.ndarray) -> None:
    metric = model(Slope("depth"))
    bare = metric.predict(photo)
    with pytest.raises(InputError, match="focal length is not known"):
        bare.to_depth()
    prediction = metric.predict(photo, focal=80.0)
    assert prediction.focal_from == "given" and prediction.summary()["unit"] == "m"
    points = prediction.to_depth().points()
    np.testing.assert_allclose(points[..., 2], prediction.values)
    np.testing.assert_allclose(points[10, 20, 0], (20 - 49.5) / 80 * prediction.values[10, 20], rtol=1e-6)
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="focal length"):
            metric.predict(photo, focal=bad)


def test_normals_are_of_length_one_and_follow_the_slope(photo: np.ndarray) -> None:
    """Depth grows to the right, as on the left wall of a corridor: the normals point into it, to the right."""
    for prediction in (model(Slope("depth")).predict(photo), model(Slope("depth")).predict(photo, focal=200.0)):
        normals = prediction.normals()[5:-5, 5:-5]
        np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
        assert (normals[..., 0] > 0).all() and (normals[..., 2] > 0).all()
    nearer = model(Slope()).predict(photo).normals()[5:-5, 5:-5]  # inverse depth grows to the right
    assert (nearer[..., 0] < 0).all()


def test_the_scale_of_relative_values_does_not_change_their_normals(photo: np.ndarray) -> None:
    from dataclasses import replace

    prediction = model(Slope()).predict(photo)
    larger = replace(prediction, values=prediction.values * 100)
    np.testing.assert_allclose(larger.normals(), prediction.normals(), atol=1e-5)


def test_a_network_that_takes_a_focal_length_gets_it_at_its_own_size(photo: np.ndarray) -> None:
    told = model(Pro("depth")).predict(photo, focal=100.0)  # 64 px wide there: 64 px of focal length
    assert told.values[0, 0] == pytest.approx(64.0) and told.focal == 100.0
    alone = model(Pro("depth")).predict(photo)
    assert alone.focal == pytest.approx(200.0) and alone.focal_from == "model"


def jpeg(path: Path, tags: dict[int, int], size: tuple[int, int] = (100, 48)) -> Path:
    image = Image.new("RGB", size, (90, 120, 60))
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    image.save(path, exif=exif)
    return path


def test_a_camera_s_focal_length_is_read_from_its_file(tmp_path: Path) -> None:
    path = jpeg(tmp_path / "a.jpg", {0xA405: 26})
    expected = 26 / np.hypot(36, 24) * np.hypot(48, 100)
    assert focal_px(path, 48, 100) == pytest.approx(expected)
    prediction = model(Slope("depth")).predict(path)
    assert prediction.focal == pytest.approx(expected) and prediction.focal_from == "exif"
    assert model(Slope("depth")).predict(path, focal=7.0).focal == 7.0
    assert model(Slope()).predict(path).focal is None
    assert focal_px(jpeg(tmp_path / "b.jpg", {}), 48, 100) is None
    assert focal_px(jpeg(tmp_path / "c.jpg", {0xA405: 0}), 48, 100) is None
    (tmp_path / "d.jpg").write_bytes(b"no picture")
    assert focal_px(tmp_path / "d.jpg", 48, 100) is None
    Image.new("RGB", (8, 8)).save(tmp_path / "e.ppm")
    assert focal_px(tmp_path / "e.ppm", 8, 8) is None


def test_all_kinds_of_images_are_taken(photo: np.ndarray) -> None:
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, format="PNG")
    answers = [model(Slope()).predict(image).values for image in (photo, Image.fromarray(photo), stream.getvalue())]
    assert all(np.array_equal(answers[0], other) for other in answers[1:])
    with pytest.raises(NonFiniteError):
        model(Slope()).predict(np.full((8, 8, 3), np.nan, np.float32))


def test_an_answer_that_is_not_finite_is_refused(photo: np.ndarray) -> None:
    class Broken(Slope):
        def forward(self, image_B3HW: Tensor) -> Tensor:
            return super().forward(image_B3HW) * float("nan")

    with pytest.raises(InputError, match="not finite"):
        model(Broken()).predict(photo)


def test_our_own_file_loads_and_is_named(own_file: Path, photo: np.ndarray) -> None:
    loaded = load_mono(own_file, device="cpu")
    assert loaded.name == "mono.tiny" and loaded.working == 64
    assert loaded.identity.weights_sha256 == registry.sha256_of(own_file)
    assert loaded.predict(photo).values.shape == (48, 100)
    half = load_mono(own_file, device="cpu", precision="bf16")
    assert half.identity.precision == "bf16" and np.isfinite(half.predict(photo).values).all()


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("mono.synth-v9", UnknownNameError, "single-image depth model"),
        ("depth-anything-v2-smal", UnknownNameError, "depth-anything-v2-small"),
        ("light", InputError, "stereo model"),
        ("sd-1.5", InputError, "prior model"),
        ("missing.safetensors", CheckpointError, "does not exist"),
    ],
)
def test_what_cannot_be_loaded_is_told(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load_mono(name)


def test_options_that_do_not_fit_are_refused(own_file: Path) -> None:
    for options, words in (
        ({"working": 16}, "working size"),
        ({"working": 9000}, "working size"),
        ({"precision": "fp8"}, "precision"),
        ({"device": "tpu"}, "device"),
        ({"quantity": "depth"}, "inverse depth"),
    ):
        with pytest.raises((InputError, UnknownNameError), match=words):
            load_mono(own_file, **options)  # type: ignore[arg-type]


def test_stereo_and_mono_files_are_not_mixed_up(own_file: Path) -> None:
    with pytest.raises(CheckpointError, match="family"):
        load(str(own_file))
    with pytest.raises(InputError, match="mono model"):
        load("depth-anything-v2-small")
    card = registry.bundled()[registry.DEFAULT_MODEL]
    with pytest.raises(CheckpointError, match=r"family|which network"):
        load_mono(card.path("safetensors"))


def test_damaged_metadata_end_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_safetensors(path, build("mono", TINY), {"family": "mono", "network": '{"heads": 7}'})
    with pytest.raises(CheckpointError, match="cannot be built"):
        load_mono(path)
    save_safetensors(path, build("mono", TINY), {"family": "mono", "network": "{}"})
    with pytest.raises(CheckpointError, match="does not fit"):
        load_mono(path)
