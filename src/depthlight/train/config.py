"""What a run is made of: one frozen, typed configuration, read from a recipe or a TOML file.

A recipe is a TOML file in ``recipes/``; ``--set key=value`` changes single keys, ``--data`` replaces the data. The
resolved configuration is written into the run folder, and a resumed run reads it from there.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..core.config import from_dict
from ..core.errors import ConfigError, UnknownNameError
from ..core.recipes import Recipes
from ..core.registry import TASK_FAMILIES
from ..data.augment import AugmentConfig
from ..data.mono import MonoAugmentConfig
from ..nets.losses import LossConfig
from ..nets.mono.losses import MonoLossConfig
from .machine import Precision
from .prior_config import PriorConfig
from .schedule import ScheduleConfig

RECIPES = Recipes(Path(__file__).parent / "recipes")
MODEL_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
PATH_OPTIONS = ("textures", "meshes", "mesh_cache")  # of the engine
TASK_SETTINGS = {"stereo": ("stage", "augment", "loss", "teacher", "fitted"), "mono": ("mono",), "prior": ("prior",)}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One part of the mixture.

    ``kind`` is ``scenes`` (scene folders), ``pairs`` (unlabelled pairs in any layout), ``synth`` (the engine, made on
    the fly) or the name of a reader (``sceneflow``, ``kitti2015``, ...); ``path`` its folder, for ``synth`` one of
    textures, if any. ``options`` are those of the reader (``version`` of ``tartanair``, ``split`` of ``kitti2015``,
    ``layout`` of ``pairs``), for ``synth`` settings of the engine (``families``, ``meshes``, ``seed``: by default the
    run's). ``count`` and ``height`` × ``width`` are for ``synth``. ``weight`` is the source's share in the mixture; by
    default all are mixed by their number of samples.
    """

    kind: str = "scenes"
    path: str = ""
    weight: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    count: int = 100_000
    height: int = 288
    width: int = 640

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"data.weight is {self.weight}", expected="0 (by the number of samples) or more")
        if self.kind != "synth" and not self.path:
            raise ConfigError(f"data of kind {self.kind!r} has no path")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Stage 3's pseudo-labels.

    ``models`` are averaged (names or files; empty means the model the run starts from); ``ensemble`` takes of each the
    confident median of its passes at three sizes, upright and upside down (:mod:`depthlight.infer.passes`). The masks
    are LAS2's; ``sky`` is a folder of PNGs, non-zero where there is sky (disparity 0).

    ``labels`` is a folder of labels made elsewhere, learned from as they are: neither teacher nor masks are then used.
    Each is a PNG as KITTI's (16 bits, px · 256, 0 = unknown) at ``<data set>/<sample>.png``. The data set is called as
    the folder of its pairs; the sample as the pair's path inside it, without its side: of ``flickr/Train/0001_L.png``,
    ``flickr/Train/0001.png`` in ``labels``. A mask in ``sky`` may lie there too, or at ``<sample>.png``; where no other
    pair ends like it, the last part of the sample's name will do (``0001.png``).
    """

    labels: str = ""
    models: tuple[str, ...] = ()
    ensemble: bool = True
    left_right: bool = True
    edges: bool = True
    spread_px: float = 1.0  # pixels on which the ensemble's passes differ more are left out; 0 = off
    sky: str = ""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Self-evaluation with the averaged weights on scene folders, every so many minutes; no folder, no evaluation."""

    folder: str = ""
    list: str = ""
    minutes: float = 60.0


@dataclass(frozen=True, kw_only=True)
class MonoConfig:
    """What only the task ``mono`` has.

    ``encoder_rate`` is the encoder's learning rate as a share of the rest's: its ImageNet features should be bent, not
    replaced. ``frozen`` is the number of its first stages (of 7, with the stem) that stay as they are. ``photos`` is a
    second folder for the self-evaluation, beside the scenes of ``evaluate.folder``: real images with depth.
    """

    augment: MonoAugmentConfig = field(default_factory=MonoAugmentConfig)
    loss: MonoLossConfig = field(default_factory=MonoLossConfig)
    encoder_rate: float = 0.3
    frozen: int = 2
    photos: str = ""

    def __post_init__(self) -> None:
        if self.encoder_rate < 0:
            raise ConfigError(f"mono.encoder_rate is {self.encoder_rate}", expected="0 or more")
        if not 0 <= self.frozen <= 7:
            raise ConfigError(f"mono.frozen is {self.frozen}", expected="0 to 7 stages")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run. What is trained is ``task``; settings of another task are refused (:data:`TASK_SETTINGS`).

    ``start`` is a model name or file, for the task mono also ``imagenet`` (the encoder's weights alone). In the task
    stereo the family is then that of the weights: ``network`` stays at its default or names the same. Another one is
    refused, save ``las2-h`` with weights of ``las2-m``, whose updates are new and random. A torch file (``.pth`` …)
    does not say its family and sizes, so ``network`` and ``network_config`` must.
    """

    task: Literal["stereo", "mono", "prior"] = "stereo"
    network: str = "light"
    network_config: dict[str, Any] = field(default_factory=dict)
    start: str = ""  # empty = random weights
    stage: Literal[1, 2, 3] = 1
    data: tuple[Source, ...] = ()
    data_kind: str = "scenes"  # what --data means where it names no kind
    crop: tuple[int, int] = (256, 512)
    batch: int = 4  # over all ranks
    fitted: float = 0.0  # share of batches searched only as far as their truth goes, where the network can
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    evaluate: EvaluationConfig = field(default_factory=EvaluationConfig)
    mono: MonoConfig = field(default_factory=MonoConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    weight_decay: float = 1e-4
    clip: float = 1.0  # of the gradient's norm, 0 = off
    ema: float = 0.999
    amp: Precision = "auto"  # auto: what this machine does faster
    freeze_bn: bool = False
    seed: int = 0
    device: str = "auto"
    threads: int = 0  # 0 = torch's choice
    workers: int = 1
    on_non_finite: Literal["stop", "skip"] = "stop"
    max_skips: int = 10
    bad_samples: Literal["skip", "stop"] = "skip"
    max_bad_samples: int = 100
    checkpoint_minutes: float = 10.0
    keep: int = 3
    log_every: int = 50  # steps between progress lines

    def __post_init__(self) -> None:
        if self.network not in TASK_FAMILIES[self.task]:
            raise UnknownNameError(f"{self.task} network", self.network, TASK_FAMILIES[self.task])
        self._refuse_settings_of_other_tasks()
        if self.batch < 1 or min(self.crop) < 32 or any(side % 32 for side in self.crop):
            raise ConfigError(
                f"batch {self.batch}, crop {list(self.crop)}", expected="batch >= 1, crop in multiples of 32"
            )
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema is {self.ema}", expected="0 (off) up to, not including, 1")
        if not 0 <= self.fitted <= 1:
            raise ConfigError(f"fitted is {self.fitted}", expected="a share, 0 to 1")
        for name in (
            "weight_decay",
            "clip",
            "threads",
            "workers",
            "max_skips",
            "max_bad_samples",
            "checkpoint_minutes",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", expected="0 or more")
        if min(self.keep, self.log_every) < 1:
            raise ConfigError("keep and log_every", expected="at least 1")
        if self.device != "auto" and not self.device.startswith(("cpu", "cuda")):
            raise ConfigError(f"device is {self.device!r}", expected="auto, cpu or cuda[:n]")

    def _refuse_settings_of_other_tasks(self) -> None:
        """A setting that would be ignored is a mistake."""
        for task, names in TASK_SETTINGS.items():
            for name in names:
                default = type(self).__dataclass_fields__[name]
                usual = default.default if default.default_factory is MISSING else default.default_factory()
                if task != self.task and getattr(self, name) != usual:
                    raise ConfigError(f"{name} is a setting of the task {task!r}, and this is {self.task!r}")


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """The configuration as a run keeps it: it can be resumed from any folder."""
    data = tuple(
        replace(
            source,
            path=_absolute(source.path),
            options={k: _absolute(v) if k in PATH_OPTIONS else v for k, v in source.options.items()},
        )
        for source in config.data
    )
    teacher, scenes, mono = config.teacher, config.evaluate, config.mono
    return replace(
        config,
        start=_absolute_model(config.start),
        data=data,
        teacher=replace(
            teacher,
            labels=_absolute(teacher.labels),
            sky=_absolute(teacher.sky),
            models=tuple(_absolute_model(model) for model in teacher.models),
        ),
        evaluate=replace(scenes, folder=_absolute(scenes.folder), list=_absolute(scenes.list)),
        mono=replace(mono, photos=_absolute(mono.photos)),
        prior=replace(config.prior, estimator=_absolute_model(config.prior.estimator)),
    )


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if path else path


def _absolute_model(model: str) -> str:
    """A model is a file or a name."""
    return _absolute(model) if Path(model).suffix in MODEL_SUFFIXES else model


def load_config(
    recipe: str, *, data: Sequence[str] = (), settings: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> TrainConfig:
    """The configuration of a recipe or TOML file, with ``data`` and ``settings`` laid over it.

    Args:
        recipe: a name from ``RECIPES``, or a path ending in ``.toml``.
        data: ``PATH`` or ``KIND:PATH``, which replace the recipe's sources.
        settings: ``key=value`` in TOML; dots reach inside (``schedule.lr=1e-3``).
        base: plain values to start from instead of a recipe (a run folder's own configuration).

    Raises:
        UnknownNameError: no such recipe or key.
        ConfigError: a value is refused.
    """
    values = dict(base) if base is not None else RECIPES.read(recipe)
    for setting in settings:
        values = _merge(values, _parse_setting(setting))
    if data:
        values["data"] = [_parse_source(item, str(values.get("data_kind", "scenes"))) for item in data]
    return from_dict(TrainConfig, values)


def _parse_setting(setting: str) -> dict[str, Any]:
    """``a.b=1`` → ``{"a": {"b": 1}}``; what is no TOML value counts as text."""
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {setting!r}", expected="key=value")
    for text in (value, f"'{value}'"):
        try:
            return tomllib.loads(f"{key.strip()} = {text}")
        except tomllib.TOMLDecodeError:
            continue
    raise ConfigError(f"--set {setting!r}", expected="key=value with a TOML value")


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inside = merged.get(key)
        merged[key] = _merge(inside, value) if isinstance(inside, Mapping) and isinstance(value, Mapping) else value
    return merged


def _parse_source(item: str, kind: str) -> dict[str, Any]:
    """``KIND:PATH`` or ``PATH``; a path with a colon in it needs its kind in front."""
    if not Path(item).exists():
        named, colon, path = item.partition(":")
        if colon:
            return {"kind": named, "path": path}
    return {"kind": kind, "path": item}
