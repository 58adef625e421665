import json
from pathlib import Path

import pytest

from depthlight.core.config import from_dict, to_dict
from depthlight.core.errors import ConfigError, FileFormatError, InputError, UnknownNameError
from depthlight.data.augment import AugmentConfig
from depthlight.train.config import RECIPES, TeacherConfig, TrainConfig, load_config


def test_every_recipe_loads_and_round_trips_through_json() -> None:
    assert {"debug", "cpu", "cpu-s", "las1-paper", "las2-paper", "finetune", "adapt"} <= set(RECIPES.names())
    for name in RECIPES.names():
        config = load_config(name, data=["scenes:/somewhere"])
        assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_the_papers_train_without_augmentation_on_one_cycle() -> None:
    for name, samples in (("las1-paper", 150_000 * 176), ("las2-paper", 200_000 * 128)):
        config = load_config(name, data=["/somewhere"])
        assert config.augment == AugmentConfig.none()
        assert (config.schedule.kind, config.schedule.lr, config.schedule.samples) == ("onecycle", 2e-4, samples)


def test_the_papers_leave_out_no_more_than_they_say() -> None:
    las1, las2 = (load_config(name, settings=["stage=3"]).teacher for name in ("las1-paper", "las2-paper"))
    assert las1 == TeacherConfig(ensemble=False, left_right=False, edges=False, spread_px=0.0)
    assert las2 == TeacherConfig(ensemble=False, left_right=True, edges=True, spread_px=0.0)


def test_settings_reach_inside_and_data_replaces() -> None:
    config = load_config(
        "cpu",
        data=["a/pool", "pairs:b", "kitti2015:c"],
        settings=[
            "schedule.lr=1e-4",
            "crop=[256, 512]",
            "start=las2-s.official",
            "augment.asymmetric=false",
            "batch=8",
        ],
    )
    assert config.schedule.lr == 1e-4 and config.schedule.warmup == load_config("cpu").schedule.warmup
    assert config.crop == (256, 512) and config.batch == 8
    assert config.start == "las2-s.official" and not config.augment.asymmetric
    assert [(s.kind, s.path) for s in config.data] == [("scenes", "a/pool"), ("pairs", "b"), ("kitti2015", "c")]
    assert load_config("adapt", data=["mine"]).data[0].kind == "pairs"


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ("schedule.lrr=1", UnknownNameError, "schedule.lr"),
        ("network=lite", UnknownNameError, "light"),
        ("crop=[100,200]", ConfigError, "multiples of 32"),
        ("batch=0", ConfigError, "batch"),
        ("ema=1.0", ConfigError, "ema"),
        ("stage=4", ConfigError, "stage"),
        ("on_non_finite=ignore", ConfigError, "on_non_finite"),
        ("batch", ConfigError, "key=value"),
        ("schedule.kind=onecycle", ConfigError, "schedule.samples"),
        ("schedule.decay_at=5", ConfigError, "decay_at"),
    ],
)
def test_wrong_settings_are_named(setting: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_config("cpu", settings=[setting])


def test_unknown_recipes_and_bad_files(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="finetune"):
        load_config("fintune")
    with pytest.raises(InputError, match="does not exist"):
        load_config(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("batch = = 4")
    with pytest.raises(FileFormatError, match=r"bad\.toml"):
        load_config(str(tmp_path / "bad.toml"))
