from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from depthlight.core.errors import DepthlightError, InputError
from depthlight.data.samples import iterate
from depthlight.data.scenes import SceneFolder, read_list
from depthlight.io.disparity_files import write_disparity

HEIGHT, WIDTH = 6, 9


def make_scene(root: Path, name: str, *, suffix: str = ".png", seed: int = 0) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for side in ("left", "right"):
        cv2.imwrite(str(folder / f"{side}{suffix}"), rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    stored_HW = rng.integers(0, 60_000, (HEIGHT, WIDTH)).astype(np.uint16)
    stored_HW[0, :3] = 0
    cv2.imwrite(str(folder / "disp.png"), stored_HW)
    return folder


def test_a_scene_is_read_as_documented(tmp_path: Path) -> None:
    folder = make_scene(tmp_path, "src-one")
    visible_HW = np.zeros((HEIGHT, WIDTH), np.uint8)
    visible_HW[2:] = 255
    cv2.imwrite(str(folder / "nocc.png"), visible_HW)
    (folder / "calib.txt").write_text("cam0=[1 0 0; 0 1 0; 0 0 1]\n")
    (folder / "meta.json").write_text(json.dumps({"licence": "CC0"}))
    sample = SceneFolder(tmp_path)[0]
    left_BGR = cv2.imread(str(folder / "left.png"))
    stored_HW = cv2.imread(str(folder / "disp.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(sample.left_HW3, left_BGR[..., ::-1])
    assert sample.disparity_HW is not None
    assert sample.valid_HW is not None
    assert sample.disparity_HW.dtype == np.float32
    np.testing.assert_array_equal(sample.disparity_HW, stored_HW / np.float32(256))
    np.testing.assert_array_equal(sample.valid_HW, stored_HW > 0)
    np.testing.assert_array_equal(sample.visible_HW, visible_HW > 0)
    assert (sample.name, sample.path) == ("src-one", folder)
    assert sample.extra == {"calib": folder / "calib.txt", "meta": {"licence": "CC0"}}
    assert sample.right_disparity_HW is None


def test_a_stated_scale_and_a_right_disparity_are_honoured(tmp_path: Path) -> None:
    folder = make_scene(tmp_path, "wide")
    (folder / "disp.png").unlink()
    truth_HW = np.linspace(1, 900, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)  # beyond 255.99 px
    write_disparity(folder / "disp.png", truth_HW)
    write_disparity(folder / "disp_right.png", truth_HW / 8, sidecar=False)
    sample = SceneFolder(tmp_path)[0]
    np.testing.assert_allclose(sample.disparity_HW, truth_HW, atol=1 / 64)
    np.testing.assert_allclose(sample.right_disparity_HW, truth_HW / 8, atol=1 / 256)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".webp"])
def test_views_may_be_photos(tmp_path: Path, suffix: str) -> None:
    make_scene(tmp_path, "photo", suffix=suffix)
    assert SceneFolder(tmp_path)[0].right_HW3.shape == (HEIGHT, WIDTH, 3)


def test_scenes_are_sorted_or_in_the_order_asked_for(tmp_path: Path) -> None:
    for seed, name in enumerate(("b", "a", "c")):
        make_scene(tmp_path, name, seed=seed)
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").write_text("no scene")
    assert [sample.name for sample in iterate(SceneFolder(tmp_path))] == ["a", "b", "c"]
    some = SceneFolder(tmp_path, ["c", "a"])
    assert (len(some), some.sample_name(0), some[1].name, some.name) == (2, "c", "a", tmp_path.name)


def test_a_scene_still_being_written_is_not_a_scene(tmp_path: Path) -> None:
    make_scene(tmp_path, "whole")
    make_scene(tmp_path, ".next.de8ed781.tmp")
    assert [sample.name for sample in iterate(SceneFolder(tmp_path))] == ["whole"]


def damage(folder: Path, kind: str) -> None:
    wrong_size = np.zeros((HEIGHT + 1, WIDTH), np.uint8)
    if kind.endswith("missing"):
        (folder / f"{kind.split()[0]}.png").unlink()
    elif kind.endswith("truncated"):
        path = folder / f"{kind.split()[0]}.png"
        path.write_bytes(path.read_bytes()[:60])
    elif kind == "right size":
        cv2.imwrite(str(folder / "right.png"), wrong_size)
    elif kind == "disp size":
        cv2.imwrite(str(folder / "disp.png"), wrong_size.astype(np.uint16))
    elif kind == "disp 8-bit":
        cv2.imwrite(str(folder / "disp.png"), np.zeros((HEIGHT, WIDTH), np.uint8))
    elif kind == "nocc size":
        cv2.imwrite(str(folder / "nocc.png"), wrong_size)
    elif kind == "meta":
        (folder / "meta.json").write_text("{")


@pytest.mark.parametrize(
    "kind",
    [
        "right missing",
        "disp missing",
        "left truncated",
        "right truncated",
        "disp truncated",
        "right size",
        "disp size",
        "disp 8-bit",
        "nocc size",
        "meta",
    ],
)
def test_a_bad_scene_is_told_in_one_line_that_names_its_path(tmp_path: Path, kind: str) -> None:
    folder = make_scene(tmp_path, "bad")
    damage(folder, kind)
    with pytest.raises(DepthlightError) as caught:
        SceneFolder(tmp_path)[0]
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_wanted_is_not_read(tmp_path: Path) -> None:
    folder = make_scene(tmp_path, "lazy")
    for name in ("nocc.png", "disp_right.png"):
        (folder / name).write_bytes(b"no image")
    sample = SceneFolder(tmp_path, right_truth=False, visible=False)[0]
    assert sample.visible_HW is sample.right_disparity_HW is None and sample.disparity_HW is not None
    for wanted in ({"right_truth": False}, {"visible": False}):
        with pytest.raises(DepthlightError, match=r"lazy"):
            SceneFolder(tmp_path, **wanted)[0]


def test_truth_may_be_waived(tmp_path: Path) -> None:
    (make_scene(tmp_path, "pair") / "disp.png").unlink()
    sample = SceneFolder(tmp_path, need_truth=False)[0]
    assert sample.disparity_HW is sample.valid_HW is None


def test_wrong_folders_and_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no scene"):
        SceneFolder(tmp_path)
    folder = make_scene(tmp_path, "midd05-Art")
    with pytest.raises(InputError, match="This is a scene itself"):
        SceneFolder(folder)
    with pytest.raises(InputError, match="is not a folder"):
        SceneFolder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="Did you mean midd05-Art"):
        SceneFolder(tmp_path, ["midd05-art"])
    for name in ("../midd05-Art", str(folder), "", "."):
        with pytest.raises(InputError):
            SceneFolder(tmp_path, [name])


def test_lists(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# chosen\nb\n\n  a  \n")
    assert read_list(path) == ["b", "a"]
    for text, message in (("\n# none\n", "is empty"), ("a\nb\na\n", "'a' twice")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_list(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        read_list(path)
    with pytest.raises(InputError, match="cannot read"):
        read_list(tmp_path / "none.txt")
