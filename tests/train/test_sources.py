"""What a source's options reach: readers, pair layouts, the engine."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from depthlight.core.config import from_dict, to_dict
from depthlight.core.errors import ConfigError, InputError, UnknownNameError
from depthlight.data.readers import list_datasets
from depthlight.data.samples import StereoDataset
from depthlight.io.disparity_files import write_disparity
from depthlight.train.config import Source, load_config, with_absolute_paths
from depthlight.train.sources import mixture, open_source


def opened(*, seed: int = 0, right_truth: bool = True, **source: Any) -> StereoDataset:
    return open_source(from_dict(Source, source), seed=seed, right_truth=right_truth)


def test_options_reach_the_reader(tmp_path: Path) -> None:
    for split in ("training", "testing"):
        for view in ("image_2", "image_3"):
            folder = tmp_path / split / view
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / f"00000{int(split == 'testing')}_10.png"), np.zeros((8, 16, 3), np.uint8))
    (tmp_path / "training" / "disp_occ_0").mkdir()
    write_disparity(tmp_path / "training/disp_occ_0/000000_10.png", np.ones((8, 16), np.float32), sidecar=False)
    assert opened(kind="kitti2015", path=str(tmp_path))[0].disparity_HW is not None
    testing = opened(kind="kitti2015", path=str(tmp_path), options={"split": "testing"})
    assert testing[0].disparity_HW is None and "000001" in testing.sample_name(0)
    with pytest.raises(ConfigError, match="no option version"):
        opened(kind="kitti2015", path=str(tmp_path), options={"version": "v2"})


def test_pairs_may_lie_side_by_side(tmp_path: Path) -> None:
    both = np.concatenate([np.full((8, 16, 3), 10, np.uint8), np.full((8, 16, 3), 90, np.uint8)], 1)
    cv2.imwrite(str(tmp_path / "one.png"), both)
    with pytest.raises(InputError):
        opened(kind="pairs", path=str(tmp_path))
    sample = opened(kind="pairs", path=str(tmp_path), options={"layout": "side-by-side"})[0]
    assert (sample.left_HW3 == 10).all() and (sample.right_HW3 == 90).all()


def test_options_come_from_the_command_line() -> None:
    setting = "data=[{kind='tartanair', path='air', options={version='v2'}}]"
    (source,) = load_config("cpu", settings=[setting]).data
    assert (source.kind, source.options) == ("tartanair", {"version": "v2"})


def test_sources_without_weights_are_mixed_by_size() -> None:
    sources = [Source(path="a"), Source(path="b")]
    assert mixture(sources, [300, 100], 0).quotas.tolist() == [768, 256]
    sources = [Source(path="a", weight=0.5), Source(path="b", weight=0.5)]
    assert mixture(sources, [300, 100], 0).quotas.tolist() == [512, 512]
    with pytest.raises(ConfigError, match="some data have a weight and some none"):
        mixture([Source(path="a", weight=0.5), Source(path="b")], [300, 100], 0)
    with pytest.raises(ConfigError, match=r"weight is -1"):
        Source(path="a", weight=-1.0)


def blocks_of_the_manual() -> list[str]:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "train.md"
    return re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("block", blocks_of_the_manual(), ids=lambda block: block.split("\n")[0])
def test_the_manuals_recipes_are_taken(block: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(block)
    config = load_config(str(tmp_path / "mine.toml"))
    assert mixture(config.data, [10 for _ in config.data], config.seed)
    assert {source.kind for source in config.data} <= {"scenes", "pairs", "synth", *list_datasets()}
    unlabelled = [source for source in config.data if source.kind == "pairs"]
    assert bool(unlabelled) == (config.stage == 3), "pairs have no truth for stage 1"
    for source in config.data:  # of which there is nothing here: an option that is unknown would be told first
        with pytest.raises(InputError, match=source.path) as told:
            open_source(
                from_dict(Source, to_dict(source) | {"path": str(tmp_path / source.path)}), seed=0, right_truth=False
            )
        assert told.type is InputError


SMALL = {"kind": "synth", "height": 64, "width": 96}


def test_the_engine_follows_the_runs_seed_unless_told() -> None:
    first, same, other = (opened(seed=seed, **SMALL)[3] for seed in (1, 1, 2))
    assert (first.left_HW3 == same.left_HW3).all() and (first.left_HW3 != other.left_HW3).any()
    fixed = opened(seed=2, **SMALL, options={"seed": 1})[3]
    assert (first.left_HW3 == fixed.left_HW3).all()


def test_families_and_meshes_reach_the_engine(tmp_path: Path) -> None:
    made = opened(**SMALL, options={"families": {"layered": 1.0}})
    assert {made[i].extra["family"] for i in range(4)} == {"layered"}
    with pytest.raises(UnknownNameError, match="layered"):
        opened(**SMALL, options={"families": {"layerd": 1.0}})
    with pytest.raises(InputError, match="furniture"):
        opened(**SMALL, options={"meshes": str(tmp_path / "furniture")})


def test_the_right_truth_is_read_only_where_it_is_used(tmp_path: Path, scene_writer: Callable[..., None]) -> None:
    scene_writer(tmp_path / "one", 0)
    with_it, without = (opened(path=str(tmp_path), right_truth=wanted)[0] for wanted in (True, False))
    assert with_it.right_disparity_HW is not None and without.right_disparity_HW is None
    assert with_it.visible_HW is without.visible_HW is None


def test_every_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [
        "data=[{kind='synth', path='photos', options={meshes='furniture', seed=3}}, {kind='pairs', path='/a/b'}]",
        "start='weights/x.safetensors'",
        "teacher.models=['light', 'y.safetensors']",
        "teacher.labels=labels",
        "evaluate.folder=scenes",
        "evaluate.list=list.txt",
    ]
    config = with_absolute_paths(load_config("adapt", settings=settings))
    assert [source.path for source in config.data] == [str(tmp_path / "photos"), "/a/b"]
    assert config.data[0].options == {"meshes": str(tmp_path / "furniture"), "seed": 3}
    assert config.start == str(tmp_path / "weights/x.safetensors")
    assert config.teacher.models == ("light", str(tmp_path / "y.safetensors"))
    assert (config.teacher.labels, config.teacher.sky) == (str(tmp_path / "labels"), "")
    told = load_config("prior", settings=["prior.estimator='z.safetensors'"])
    assert with_absolute_paths(told).prior.estimator == str(tmp_path / "z.safetensors")
    assert config.evaluate.folder == str(tmp_path / "scenes") and config.evaluate.list == str(tmp_path / "list.txt")
