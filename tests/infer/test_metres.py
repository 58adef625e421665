"""What a prediction folder holds in metres, and that it reads back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from depthlight import StereoRig
from depthlight.core.errors import DepthlightError, InputError, LimitError
from depthlight.infer.folder import save_prediction
from depthlight.infer.metres import Metres, read_metres
from depthlight.infer.prediction import ModelIdentity, StereoPrediction
from depthlight.infer.uncertainty import confidence_model, disparity_sigma

LEFT = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
RIG = StereoRig(fx=100, fy=100, cx=30, cy=20, baseline=0.1, doffs=1, width=60, height=40)


@pytest.fixture
def prediction():
    disparity = np.full((40, 60), 4, np.float32)
    disparity[:, 30:] = 9
    confidence = np.full((40, 60), 0.999, np.float32)
    confidence[:5] = 0.3
    valid = np.ones((40, 60), bool)
    valid[:, :4] = False
    return StereoPrediction(
        disparity, confidence, valid, 0.0, ModelIdentity("light.test", None, "torch", "fp32", "cpu"), 192, 0.1
    )


@pytest.mark.parametrize("suffix", ["npy", "png", "pfm", "tiff"])
def test_what_was_written_is_read_back(tmp_path, prediction, suffix):
    save_prediction(tmp_path, prediction, LEFT, rig=RIG, metres=Metres(depth=(suffix,), cloud=()))
    depth, read = prediction.to_depth(RIG), read_metres(tmp_path)
    np.testing.assert_allclose(read.depth, depth.depth, atol=0 if suffix != "png" else 0.0005)
    np.testing.assert_array_equal(read.valid, depth.valid)
    np.testing.assert_array_equal(read.sigma, depth.sigma)
    assert read.rig == depth.rig


def test_the_cloud_is_clean_and_counted(tmp_path, prediction):
    result = save_prediction(tmp_path, prediction, LEFT, rig=RIG, metres=Metres(cloud=("ply", "pcd"), mesh=True))
    facts = result["metres"]
    cloud = trimesh.load(tmp_path / "cloud.ply")
    clean = prediction.to_depth(RIG).cleaned()
    assert len(cloud.vertices) == facts["points"] == clean.valid.sum() < prediction.valid.sum()
    assert facts["cleaned_share"] == pytest.approx(1 - clean.valid.sum() / prediction.valid.sum())
    assert facts["depth_min"] == pytest.approx(1) and facts["depth_max"] == pytest.approx(2)
    (mesh,) = trimesh.load(tmp_path / "mesh.glb").geometry.values()
    assert len(mesh.faces) == facts["triangles"]
    assert json.loads((tmp_path / "result.json").read_text())["metres"] == facts


def test_where_nothing_is_certain_there_is_no_empty_cloud(tmp_path, prediction):
    blind = replace(prediction, confidence=np.zeros((40, 60), np.float32))
    result = save_prediction(tmp_path, blind, LEFT, rig=RIG, metres=Metres(cloud=("ply", "glb"), mesh=True))
    assert (result["metres"]["points"], result["metres"]["triangles"]) == (0, 0)
    assert not list(tmp_path.glob("cloud.*")) and not list(tmp_path.glob("*.glb"))
    assert read_metres(tmp_path).valid.any()


def test_range_voxels_and_normals(tmp_path, prediction):
    metres = Metres(cloud=("ply",), nearest=0.5, farthest=1.5, voxel=0.1, normals=True)
    result = save_prediction(tmp_path, prediction, LEFT, rig=RIG, metres=metres)
    assert result["metres"]["depth_max"] == pytest.approx(1)
    cloud = trimesh.load(tmp_path / "cloud.ply")
    assert result["metres"]["points"] == len(cloud.vertices) < 60
    assert b"property float nx" in (tmp_path / "cloud.ply").read_bytes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": ("exr",)},
        {"depth": ()},
        {"cloud": ("obj",)},
        {"voxel": 0.0},
        {"voxel": float("nan")},
        {"nearest": -1.0},
        {"nearest": 3.0, "farthest": 2.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError):
        Metres(**wrong)


def test_a_range_without_a_pixel_says_what_there_is(tmp_path, prediction):
    with pytest.raises(InputError, match=r"no pixel lies between 50 and inf m; expected .*1 to 2 m.*focal length"):
        save_prediction(tmp_path, prediction, LEFT, rig=RIG, metres=Metres(nearest=50))
    assert not list(tmp_path.iterdir())


def test_a_pair_without_a_valid_pixel_is_one_line(tmp_path, prediction):
    with pytest.raises(InputError, match="no pixel has a depth"):
        save_prediction(tmp_path, replace(prediction, valid=np.zeros((40, 60), bool)), LEFT, rig=RIG)
    assert not list(tmp_path.iterdir())


def test_depth_too_deep_for_a_png_is_refused_before_anything_is_written(tmp_path, prediction):
    deep = replace(RIG, baseline=5e4)
    with pytest.raises(InputError, match=r"do not fit a 16-bit PNG"):
        save_prediction(tmp_path, prediction, LEFT, rig=deep, metres=Metres(depth=("png",)))
    assert not list(tmp_path.iterdir())


def test_voxels_too_fine_leave_the_earlier_result(tmp_path, prediction):
    save_prediction(tmp_path, prediction, LEFT, rig=RIG)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(LimitError, match="voxel of 1e-07 m is too small"):
        save_prediction(tmp_path, prediction, LEFT, rig=RIG, metres=Metres(voxel=1e-7))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    save_prediction(tmp_path, prediction, LEFT, rig=RIG, metres=Metres(voxel=1e-7, cloud=()))


def test_folders_without_depth_or_damaged_are_one_line(tmp_path, prediction):
    with pytest.raises(InputError, match="not a prediction folder"):
        read_metres(tmp_path)
    save_prediction(tmp_path, prediction, LEFT)
    with pytest.raises(InputError, match="no metres without a calibration"):
        read_metres(tmp_path)
    save_prediction(tmp_path, prediction, LEFT, rig=RIG)
    sidecar = json.loads((tmp_path / "depth.json").read_text())
    for broken in ({"rig": None}, {"rig": {"fx": 1}}, {"rig": {**sidecar["rig"], "fx": -1}}):
        (tmp_path / "depth.json").write_text(json.dumps({**sidecar, **broken}))
        with pytest.raises(DepthlightError) as caught:
            read_metres(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / "depth.json").write_text(json.dumps(sidecar))
    np.save(tmp_path / "depth_sigma.npy", np.zeros((3, 3), np.float32))
    with pytest.raises(DepthlightError, match="shape"):
        read_metres(tmp_path)
    for wrong in (np.nan, -1):
        np.save(tmp_path / "depth_sigma.npy", np.full(prediction.disparity.shape, wrong, np.float32))
        with pytest.raises(DepthlightError, match="below 0 or not finite"):
            read_metres(tmp_path)


def test_sigma_falls_with_confidence_and_only_where_it_was_measured():
    confidence = np.linspace(0, 1, 101, dtype=np.float32)[None]
    sigma = disparity_sigma(confidence, "light.anything")
    assert sigma is not None and sigma.dtype == np.float32 and sigma.shape == confidence.shape
    assert (np.diff(sigma[0]) < 0).all() and 0 < sigma.min() < 1 < sigma.max() < 50
    assert disparity_sigma(confidence, "las2-m.official") is None
    assert disparity_sigma(confidence, "sgbm") is None


@pytest.mark.parametrize("name", ["layered", "meshes"])
def test_sigma_covers_the_errors_of_fixed_pairs(name):
    """Two thirds, nearly: between a half and nine tenths on any one pair (docs/how-to/metres.md)."""
    from pathlib import Path

    from depthlight import load
    from depthlight.io.disparity_files import read_disparity
    from depthlight.io.images import read_image

    folder = Path(__file__).parents[1] / "eval" / "frozen_pairs" / name
    truth = read_disparity(folder / "disp.png")
    found = load(threads=1).predict(read_image(folder / "left.webp"), read_image(folder / "right.webp"))
    sigma = confidence_model("light.synth-v1").sigma(found.confidence)
    counted = truth.valid_HW & found.valid
    covered = np.abs(found.disparity - truth.disparity_HW)[counted] <= sigma[counted]
    assert 0.5 <= covered.mean() <= 0.9
