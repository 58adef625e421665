"""Single-image depth on folders: what is read, what counts, what the result says."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from depthlight.core.errors import ConfigError, FileFormatError, ImageError, InputError, UnknownNameError
from depthlight.eval.assertions import check_assertions
from depthlight.eval.mono_protocol import MonoProtocol
from depthlight.eval.mono_runner import Ramp, evaluate_mono
from depthlight.eval.mono_scenes import DepthScenes
from depthlight.infer.mono import MonoPrediction
from depthlight.infer.prediction import ModelIdentity
from depthlight.io.disparity_files import write_disparity

SIZE = (24, 32)
CALIB = "cam0=[40 0 16; 0 40 12; 0 0 1]\ncam1=[40 0 18; 0 40 12; 0 0 1]\ndoffs=2\nbaseline=500\nwidth=32\nheight=24\n"


def millimetres(seed=0):
    """A slope with a step, 1–6 m, with some holes; uint16."""
    depth = np.linspace(6000, 2000, SIZE[0])[:, None] + np.linspace(0, 300, SIZE[1])
    depth[8:16, 10:20] = 1200 + 10 * seed
    depth[np.random.default_rng(seed).random(SIZE) < 0.1] = 0
    return depth.astype(np.uint16)


def photo(folder, seed=0, *, meta=None, mask=None, suffix=".png", depth=None):
    folder.mkdir(parents=True)
    image = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / f"image{suffix}")
    Image.fromarray(millimetres(seed) if depth is None else depth).save(folder / "depth.png")
    if meta is not None:
        (folder / "meta.json").write_text(json.dumps(meta))
    if mask is not None:
        Image.fromarray(mask).save(folder / "mask.png")
    return folder


def stereo(folder, disparity, *, calib=None, meta=None):
    folder.mkdir(parents=True)
    Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(folder / "left.png")
    write_disparity(folder / "disp.png", disparity.astype(np.float32), valid_HW=disparity > 0, sidecar=False)
    if calib:
        (folder / "calib.txt").write_text(calib)
    if meta is not None:
        (folder / "meta.json").write_text(json.dumps(meta))
    return folder


ORACLE = ModelIdentity("oracle", "ab" * 32, "torch", "fp32", "cpu")


@dataclass
class Oracle:
    """Answers with what it was given, whatever the image."""

    values: np.ndarray
    quantity: str = "inverse_depth"
    identity: ModelIdentity = ORACLE

    def predict(self, image):
        return MonoPrediction(self.values.astype(np.float32), self.quantity, self.identity, image.shape[:2], 0.5)


def oracle_for(scene, **kinds):
    depth = np.where(scene.depth_HW > 0, scene.depth_HW, 3.0)
    return Oracle(1 / depth if kinds.get("quantity") != "depth" else depth, **kinds)


# reading


def test_photos_are_read_in_metres_with_their_facts(tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[:, :10] = 255
    photo(tmp_path / "a-1", meta={"fx": 40, "cx": 15, "max_depth": 5}, mask=mask, suffix=".jpg")
    photo(tmp_path / "b-2", meta={"depth_scale": 500, "fx": None})
    (tmp_path / "no-truth").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "no-truth" / "image.png")
    scenes = DepthScenes(tmp_path)
    assert [scenes.sample_name(i) for i in range(len(scenes))] == ["a-1", "b-2"]
    first, second = scenes[0], scenes[1]
    assert first.depth_HW == pytest.approx(millimetres() / 1000)
    assert first.intrinsics == (40, 40, 15, 11.5)  # what is missing: fy = fx, the middle
    assert (first.max_depth, first.unit) == (5, "m")
    assert (first.mask_HW == (mask > 0)).all()
    assert second.depth_HW == pytest.approx(millimetres() / 500)
    assert (second.intrinsics, second.max_depth, second.mask_HW) == (None, None, None)


def test_stereo_scenes_give_depth_with_and_without_a_calibration(tmp_path):
    disparity = np.tile(np.linspace(1, 8, SIZE[1]), (SIZE[0], 1))
    disparity[0, 0] = 0
    quantised = np.rint(disparity * 256) / 256
    stereo(tmp_path / "calib", disparity, calib=CALIB)
    stereo(tmp_path / "meta", disparity, meta={"fx": 40, "baseline_m": 0.5, "doffs": 2, "cx": 16, "cy": 12})
    stereo(tmp_path / "none", disparity, meta={"fx": 40, "baseline_m": 0.5, "doffs": None})
    calib, meta, none = (DepthScenes(tmp_path)[i] for i in range(3))
    known = disparity > 0
    assert calib.depth_HW[known] == pytest.approx((40 * 0.5 / (quantised + 2))[known], rel=1e-6)
    assert meta.depth_HW == pytest.approx(calib.depth_HW)
    assert calib.intrinsics == meta.intrinsics == (40, 40, 16, 12)
    assert (none.unit, none.intrinsics) == ("relative", None)
    assert none.depth_HW[known] == pytest.approx(32 / quantised[known], rel=1e-6)
    assert {scene.depth_HW[0, 0] for scene in (calib, meta, none)} == {0.0}


def test_what_is_wrong_with_a_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        DepthScenes(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no image with depth"):
        DepthScenes(tmp_path)
    folder = photo(tmp_path / "a")
    with pytest.raises(InputError, match="called 'b'"):
        DepthScenes(tmp_path, ["b"])
    for meta, message in (({"fx": "long"}, "fx"), ({"depth_scale": 0}, "positive"), ([1], "JSON object")):
        (folder / "meta.json").write_text(json.dumps(meta))
        with pytest.raises(FileFormatError, match=message):
            DepthScenes(tmp_path)[0]
    (folder / "meta.json").unlink()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "mask.png")
    with pytest.raises((FileFormatError, ImageError), match="mask"):
        DepthScenes(tmp_path)[0]
    (folder / "mask.png").unlink()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / "depth.png")
    with pytest.raises(FileFormatError, match="16-bit"):
        DepthScenes(tmp_path)[0]


# measuring


@pytest.mark.parametrize("alignment", ["affine", "paper", "none"])
def test_a_model_that_knows_the_truth_has_no_error(tmp_path, alignment):
    photo(tmp_path / "a-1", meta={"fx": 40})
    scenes = DepthScenes(tmp_path)
    model = oracle_for(scenes[0], quantity="depth" if alignment == "none" else "inverse_depth")
    facts = evaluate_mono(model, scenes, MonoProtocol(alignment=alignment)).to_dict()
    figures = facts["scenes"]["a-1"]["all"]
    assert figures["abs_rel"] < 1e-6
    assert figures["delta1"] == 100
    assert figures["normal_mean"] < 0.01
    assert figures["boundary_f1"] == 1
    assert facts["protocol"]["alignment"] == alignment
    assert facts["protocol"]["description"]


def test_the_result_follows_the_schema(tmp_path):
    for seed, name in enumerate(("a-1", "a-2", "b-1")):
        photo(tmp_path / "set" / name, seed)
    disparity = np.tile(np.linspace(8, 1, SIZE[0])[:, None], (1, SIZE[1]))
    stereo(tmp_path / "set" / "c-1", disparity)
    result = evaluate_mono(Ramp(), DepthScenes(tmp_path / "set"))
    facts = json.loads(result.to_json(tmp_path / "r.json"))
    assert (tmp_path / "r.json").is_file()
    assert (facts["task"], facts["model"], facts["weights_sha256"]) == ("mono", "ramp", None)
    assert set(facts["scenes"]) == {"a-1", "a-2", "b-1", "c-1"}
    assert {group: facts["groups"][group]["n"] for group in "abc"} == {"a": 2, "b": 1, "c": 1}
    first, second = (facts["scenes"][name]["all"]["abs_rel"] for name in ("a-1", "a-2"))
    assert facts["groups"]["a"]["abs_rel"] == pytest.approx((first + second) / 2)
    every = [scene["all"]["abs_rel"] for scene in facts["scenes"].values()]
    assert facts["mean"]["abs_rel"] == facts["headline"]["abs_rel"] == pytest.approx(np.mean(every))
    assert facts["mean"]["rmse"] is None  # metres and no unit do not mix
    assert facts["groups"]["a"]["rmse"] is not None
    assert facts["counts"] == {"scenes": 4, "failed": 0, "turned_round": 1}  # in c-1 the top is nearest
    assert facts["scenes"]["c-1"]["alignment"]["scale"] < 0
    assert facts["scenes"]["a-1"]["pixels"] == int((millimetres(0) > 0).sum())
    check_assertions(facts, ["mean.abs_rel<=10", "groups.a.delta1>=0", "counts.failed==0"])
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [row["kind"] for row in rows] == ["scene"] * 4 + ["group"] * 3 + ["mean"]
    assert float(rows[0]["abs_rel"]) == pytest.approx(first)


def test_a_bad_scene_is_counted_and_named_and_not_averaged_in(tmp_path):
    photo(tmp_path / "a-1", 1)
    photo(tmp_path / "a-2", 2)
    photo(tmp_path / "a-3", depth=np.zeros(SIZE, np.uint16))
    (tmp_path / "a-2" / "image.png").write_bytes(b"gone")
    outcomes = []
    facts = evaluate_mono(Ramp(), DepthScenes(tmp_path), on_scene=outcomes.append).to_dict()
    assert facts["counts"] == {"scenes": 1, "failed": 2, "turned_round": 0}
    assert set(facts["failures"]) == {"a-2", "a-3"}
    assert "no ground-truth pixel" in facts["failures"]["a-3"]["error"]
    assert facts["mean"]["abs_rel"] == facts["scenes"]["a-1"]["all"]["abs_rel"]
    assert [outcome.name for outcome in outcomes] == ["a-1", "a-2", "a-3"]


def test_the_cap_of_the_scene_and_of_the_protocol(tmp_path):
    photo(tmp_path / "a-1", meta={"max_depth": 4.0})
    scenes = DepthScenes(tmp_path)
    depth = millimetres() / 1000
    own = evaluate_mono(Ramp(), scenes).to_dict()["scenes"]["a-1"]
    assert (own["max_depth"], own["pixels"]) == (4, int(((depth > 0) & (depth <= 4)).sum()))
    asked = evaluate_mono(Ramp(), scenes, MonoProtocol(max_depth=3)).to_dict()["scenes"]["a-1"]
    assert (asked["max_depth"], asked["pixels"]) == (3, int(((depth > 0) & (depth <= 3)).sum()))


def test_the_mask_file_decides(tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[5:15, 5:15] = 1
    photo(tmp_path / "a", mask=mask)
    found = evaluate_mono(Ramp(), DepthScenes(tmp_path)).to_dict()["scenes"]["a"]
    assert found["pixels"] == int(((millimetres() > 0) & (mask > 0)).sum())


def test_the_ramp_grows_downwards_and_looks_at_nothing():
    images = [np.full((7, 5, 3), value, np.uint8) for value in (0, 200)]
    first, second = (Ramp().predict(image).values for image in images)
    assert (first == second).all()
    assert (np.diff(first, axis=0) > 0).all()
    assert (first.min(), first.max(), first.shape) == (0, 1, (7, 5))


def test_wrong_protocols_and_models_are_refused(tmp_path):
    photo(tmp_path / "a")
    with pytest.raises(UnknownNameError, match="alignment"):
        MonoProtocol(alignment="median")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max depth"):
        MonoProtocol(max_depth=0)
    with pytest.raises(InputError, match="no unit"):
        evaluate_mono(Ramp(), DepthScenes(tmp_path), MonoProtocol(alignment="none"))
    small = evaluate_mono(Oracle(np.ones((3, 3))), DepthScenes(tmp_path)).to_dict()
    assert "shape" in small["failures"]["a"]["error"]
    assert (small["mean"], small["headline"]["abs_rel"]) == (None, None)
    nowhere = Oracle(np.where(np.eye(*SIZE) > 0, np.nan, 1.0))
    assert evaluate_mono(nowhere, DepthScenes(tmp_path)).failures[0].code == "non_finite"


def test_measuring_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, depthlight.eval.mono_runner; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_list_may_name_images_further_down_but_not_outside(tmp_path):
    import cv2

    for place in ("rooms/0", "meshes/0"):
        (tmp_path / "top" / place).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "top" / place / "image.png"), np.full((8, 8, 3), 99, np.uint8))
        cv2.imwrite(str(tmp_path / "top" / place / "depth.png"), np.full((8, 8), 2000, np.uint16))
    dataset = DepthScenes(tmp_path / "top", ["rooms/0", "meshes/0"])
    assert [dataset[i].name for i in range(2)] == ["rooms/0", "meshes/0"]
    for outside in ("../top/rooms/0", str(tmp_path / "top" / "rooms" / "0"), "rooms/1"):
        with pytest.raises(InputError, match="holds no image with depth called"):
            DepthScenes(tmp_path / "top", [outside])
