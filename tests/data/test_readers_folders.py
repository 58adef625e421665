"""Folders of unlabelled pairs, in each layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from depthlight.core.errors import ConfigError, DepthlightError, InputError
from depthlight.data.folders import PairFolder
from depthlight.data.readers import open_dataset


def put(path: Path, value: int, width: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((5, width, 3), value, np.uint8))


def names(dataset: PairFolder) -> list[str]:
    return [dataset.sample_name(index) for index in range(len(dataset))]


def test_flickr1024(tmp_path):
    for number in (1, 2):
        put(tmp_path / f"Train/{number:04d}_L.png", 10 * number)
        put(tmp_path / f"Train/{number:04d}_R.png", 10 * number + 1)
    put(tmp_path / "Test/0001_L.png", 100)
    put(tmp_path / "Test/0001_R.png", 101)
    dataset = PairFolder(tmp_path)
    assert names(dataset) == ["Test/0001", "Train/0001", "Train/0002"]
    sample = dataset[2]
    assert sample.left_HW3[0, 0, 0] == 20 and sample.right_HW3[0, 0, 0] == 21
    assert sample.disparity_HW is None and sample.valid_HW is None
    assert sample.path == tmp_path / "Train/0002_L.png"


def test_holopix50k(tmp_path):
    for split in ("train", "val"):
        put(tmp_path / split / "left/-Lab_left.png", 3)
        put(tmp_path / split / "right/-Lab_right.png", 4)
    dataset = open_dataset("pairs", tmp_path)
    assert len(dataset) == 2 and dataset.sample_name(0).startswith("train/")
    assert dataset[1].left_HW3[0, 0, 0] == 3 and dataset[1].right_HW3[0, 0, 0] == 4


def test_equal_names_in_left_and_right(tmp_path):
    put(tmp_path / "left/b.png", 1)
    put(tmp_path / "right/b.png", 2)
    put(tmp_path / "left/a.png", 3)
    put(tmp_path / "right/a.png", 4)
    put(tmp_path / "preview.png", 9)  # not of this layout
    dataset = PairFolder(tmp_path)
    assert names(dataset) == ["a", "b"]
    assert dataset[0].right_HW3[0, 0, 0] == 4


def test_side_by_side(tmp_path):
    picture = np.hstack([np.full((5, 8, 3), 50, np.uint8), np.full((5, 8, 3), 60, np.uint8)])
    assert cv2.imwrite(str(tmp_path / "one.png"), picture)
    sample = PairFolder(tmp_path, layout="side-by-side")[0]
    assert sample.name == "one"
    assert sample.left_HW3.shape == (5, 8, 3)
    assert (sample.left_HW3 == 50).all() and (sample.right_HW3 == 60).all()
    put(tmp_path / "odd.png", 1, width=9)
    with pytest.raises(InputError, match=r"odd\.png.*even width"):
        PairFolder(tmp_path, layout="side-by-side")[0]


def test_an_image_without_partner_is_refused(tmp_path):
    put(tmp_path / "left/a.png", 1)
    put(tmp_path / "left/b.png", 1)
    put(tmp_path / "right/a.png", 1)
    with pytest.raises(InputError, match=r"no partner: b\.png"):
        PairFolder(tmp_path)


def test_views_of_different_size_and_damaged_files_are_named(tmp_path):
    put(tmp_path / "a_L.png", 1)
    put(tmp_path / "a_R.png", 1, width=9)
    dataset = PairFolder(tmp_path)
    with pytest.raises(DepthlightError, match=r"a_R\.png is 9×5; expected 8×5"):
        dataset[0]
    (tmp_path / "a_R.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(DepthlightError, match=r"a_R\.png"):
        dataset[0]


def test_wrong_folders_and_layouts(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        PairFolder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no stereo pair.*NAME_L"):
        PairFolder(tmp_path)
    with pytest.raises(ConfigError, match="expected one of auto, folders, suffixes, side-by-side"):
        PairFolder(tmp_path, layout="top-bottom")
