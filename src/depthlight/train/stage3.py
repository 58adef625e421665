"""Stage 3: distillation on unlabelled pairs, with labels made once and kept in a folder.

The teacher (registered models or files, each passed over test-time variants of the pair) writes one disparity map per
pair into ``<run>/labels``; pixels it should not be trusted on are left out there. Training is then
stage 1 on those labels, usually with the loss clamped. A folder of labels made elsewhere serves as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.config import to_dict
from ..core.errors import ConfigError, DepthlightError, FileFormatError, InputError, OutputError
from ..data.samples import StereoDataset, StereoSample
from ..infer.load import load
from ..infer.passes import SCALES, Pass, middle, passes
from ..infer.prediction import StereoMatcher
from ..io.atomic import atomic_write_bytes
from ..io.disparity_files import read_disparity, write_disparity
from ..io.images import IMAGE_SUFFIXES, read_image
from ..io.names import inside
from ..nets.losses import edge_mask, left_right_mask
from .config import TeacherConfig, TrainConfig
from .distributed import Ranks
from .machine import pick_device

Image = NDArray[np.uint8]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
LABELS = "labels"
MASK = ".png"  # of the sky: lossy formats have shades at its border


def with_labels(
    datasets: Sequence[StereoDataset],
    config: TrainConfig,
    folder: Path,
    ranks: Ranks,
    say: Callable[[str], None],
    check: Callable[[], None],
) -> list[StereoDataset]:
    """The data sets, those of kind ``pairs`` with pseudo-labels as their truth; the ranks share what is missing.

    Args:
        folder: of the run. ``check`` is called before every pass over a pair and may raise to stop.

    Raises:
        InputError: no pairs, two folders of one name, no teacher, or a bad pair where bad samples stop the run.
        ConfigError: the labels that are there are of another teacher.
    """
    labels = Path(config.teacher.labels) if config.teacher.labels else folder / LABELS
    pairs = [dataset for dataset, source in zip(datasets, config.data, strict=True) if source.kind == "pairs"]
    if not pairs:
        raise InputError("stage 3 has no unlabelled pairs", expected="data of kind 'pairs'", hint="--data pairs:FOLDER")
    name, times = Counter(dataset.name for dataset in pairs).most_common(1)[0]
    if times > 1:
        raise InputError(
            f"{times} folders of pairs are called {name}, and their labels would share a folder", hint="Rename one"
        )
    if not config.teacher.labels:
        teacher = Teacher(config.teacher, config.start, str(pick_device(config.device, ranks.local_rank)))
        _claim(labels, teacher)
        make_labels(pairs, teacher, labels, say, check, ranks, strict=config.bad_samples == "stop")
    ranks.barrier()
    return [Labelled(dataset, labels) if dataset in pairs else dataset for dataset in datasets]


def _claim(labels: Path, teacher: Teacher) -> None:
    """Labels that are there already must be of the same teacher: of its weights, wherever their files lie.

    Raises:
        ConfigError: they are of another one.
    """
    weights = [model.identity.weights_sha256 for model in teacher.models]
    facts = {**to_dict(teacher.config), "models": weights}
    note = labels / "teacher.json"
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")) != facts:
        raise ConfigError(
            f"the labels in {labels} are of another teacher", hint="Remove the folder, or start in another one"
        )
    atomic_write_bytes(note, json.dumps(facts, indent=1).encode())


def make_labels(
    datasets: Sequence[StereoDataset],
    teacher: Teacher,
    labels: Path,
    say: Callable[[str], None],
    check: Callable[[], None],
    ranks: Ranks = Ranks(),
    *,
    strict: bool = False,
) -> None:
    """Label every pair that has no label yet; each file is whole or not there, so this can be stopped at any time.

    Args:
        ranks: each begins with its own share and ends with what the others have left, so none waits long.
        strict: end at the first pair that cannot be labelled; else it is told and left without a label.

    Raises:
        InputError: a sky mask could be that of several pairs; or a pair cannot be labelled, and ``strict``.
        OutputError: a label cannot be written.
    """
    skies = sky_masks(datasets, Path(teacher.config.sky)) if teacher.config.sky else {}
    pairs = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
    own = pairs[ranks.rank :: ranks.world]
    others = [pair for place, pair in enumerate(pairs) if place % ranks.world != ranks.rank]
    missing = [pair for pair in (*own, *reversed(others)) if not label_path(labels, *pair).is_file()]
    for place, (dataset, index) in enumerate(missing, 1):
        path = label_path(labels, dataset, index)
        if path.is_file():  # by another rank meanwhile
            continue
        name = f"{dataset.name}/{dataset.sample_name(index)}"
        try:
            disparity, trusted = teacher.label(dataset[index], check, skies.get(name))
        except (DepthlightError, OSError) as error:
            if strict:
                raise InputError(
                    f"bad sample {name}: {error}", hint="bad_samples = 'skip' leaves such samples out"
                ) from error
            say(f"bad sample {name}, left without a label: {error}")
            continue
        write_disparity(path, disparity, valid_HW=trusted, sidecar=False)
        say(f"label {place} of {len(missing)}: {name}, {trusted.mean():.0%} of the pixels kept")


def label_path(labels: Path, dataset: StereoDataset, index: int) -> Path:
    """Where a label that is made here lies: the sample's name, with a short hash where it is no plain file name."""
    name = dataset.sample_name(index)
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    if plain != name or len(plain) > 100:
        plain = f"{plain[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return labels / dataset.name / f"{plain}.png"


def find_label(labels: Path, dataset: StereoDataset, index: int) -> Path:
    """Where the label of a sample is read: ``<data set>/<sample>.png`` if that is there, else :func:`label_path`."""
    with contextlib.suppress(OutputError, OSError):  # a name that leads out of the folder, or is too long for a file
        path = inside(labels / dataset.name, f"{dataset.sample_name(index)}.png")
        if path.is_file():
            return path
    return label_path(labels, dataset, index)


def sky_masks(datasets: Sequence[StereoDataset], folder: Path) -> dict[str, Path]:
    """The sky mask of each pair that has one, by ``<data set>/<sample>``.

    A mask lies at ``<data set>/<sample>.png`` or ``<sample>.png``, or has the last part of the sample's name.

    Raises:
        InputError: a mask could be that of several pairs.
    """
    there = set(folder.rglob(f"*{MASK}"))
    names = [(dataset.name, dataset.sample_name(index)) for dataset in datasets for index in range(len(dataset))]
    samples = Counter(sample for _, sample in names)
    ends = Counter(Path(sample).name for _, sample in names)
    found: dict[str, Path] = {}
    for dataset, sample in names:
        name, end = f"{dataset}/{sample}", Path(sample).name
        for place, pairs in ((name, 1), (sample, samples[sample]), (end, ends[end])):
            path = folder / f"{place}{MASK}"
            if path not in there:
                continue
            if pairs > 1:
                raise InputError(
                    f"sky mask {path} could be that of {pairs} pairs", hint=f"That of {name} is {folder / name}{MASK}"
                )
            found[name] = path
            break
    return found


class Labelled:
    """Pairs with their pseudo-labels (a ``StereoDataset``)."""

    def __init__(self, pairs: StereoDataset, labels: Path) -> None:
        self.pairs, self.labels, self.name = pairs, labels, pairs.name

    def __len__(self) -> int:
        return len(self.pairs)

    def sample_name(self, index: int) -> str:
        return self.pairs.sample_name(index)

    def __getitem__(self, index: int) -> StereoSample:
        """The pair and its label.

        Raises:
            InputError: there is no label for the pair.
            FileFormatError: the label has another size than the pair.
        """
        sample = self.pairs[index]
        path = find_label(self.labels, self.pairs, index)
        if not path.is_file():
            name = f"{self.name}/{self.sample_name(index)}"
            raise InputError(
                f"{name} has no label",
                expected=f"{self.labels / name}.png",
                hint="Links that lead out are not followed",
            )
        label = read_disparity(path)
        if label.disparity_HW.shape != sample.left_HW3.shape[:2]:
            raise FileFormatError(f"{path} has shape {label.disparity_HW.shape}", expected="that of the pair")
        return replace(sample, disparity_HW=label.disparity_HW, valid_HW=label.valid_HW, right_disparity_HW=None)


class Teacher:
    """One model or the mean of several, each the confident median over variants of the pair, with LAS2's masks.

    Args:
        start: the model where ``config`` names none.
        device: ``auto``, ``cpu`` or ``cuda`` (``cuda:1`` …).

    Raises:
        InputError: no model is named, or the folder of sky masks is not there or holds other images than PNG.
    """

    def __init__(self, config: TeacherConfig, start: str, device: str = "auto") -> None:
        names = config.models or ((start,) if start else ())
        if not names:
            raise InputError("stage 3 has no teacher", expected="teacher.models, teacher.labels, or a start model")
        if config.sky:
            _check_masks(Path(config.sky))
        self.config = config
        self.models: list[StereoMatcher] = [load(name, backend="torch", device=device) for name in names]

    def label(
        self, sample: StereoSample, check: Callable[[], None] = lambda: None, sky: Path | None = None
    ) -> tuple[Map, Mask]:
        """Disparity (H, W) px, and the pixels to learn from.

        Args:
            check: called before every pass.
            sky: the pair's mask, a PNG that is not 0 where there is sky; by default ``<sample>.png`` in ``config.sky``.

        Raises:
            FileFormatError: the mask is no PNG, or of another size than the pair.
        """
        left, right = sample.left_HW3, sample.right_HW3
        answers = [list(self._passes(model, left, right, check)) for model in self.models]
        middles = [middle(found)[0] for found in answers]
        disparity: Map = np.mean(middles, axis=0, dtype=np.float32)
        trusted: Mask = disparity > 0
        if self.config.spread_px:
            _, spread = middle([answer for found in answers for answer in found])
            trusted &= spread <= self.config.spread_px
        if self.config.left_right:
            other = self._mirrored(left, right, check)
            trusted &= left_right_mask(_tensor(disparity), _tensor(other))[0].numpy()
        if self.config.edges:
            image = torch.from_numpy(np.array(left)).permute(2, 0, 1)[None]
            trusted &= edge_mask(_tensor(disparity), image)[0].numpy()
        sky = sky or self._mask_of(sample)
        return (disparity, trusted) if sky is None else _with_sky(sky, disparity, trusted)

    def _passes(self, model: StereoMatcher, left: Image, right: Image, check: Callable[[], None]) -> Iterator[Pass]:
        """The model's answers to the pair and, as an ensemble, to its variants."""
        check()
        plain = model.predict(left, right)
        return passes(model, left, right, plain, scales=SCALES if self.config.ensemble else (), check=check)

    def _mirrored(self, left: Image, right: Image, check: Callable[[], None]) -> Map:
        """Disparity of the right view: flipped and swapped, the pair is a pair again."""
        found = []
        for model in self.models:
            check()
            found.append(model.predict(right[:, ::-1], left[:, ::-1]).disparity[:, ::-1])
        mean: Map = np.mean(found, axis=0, dtype=np.float32)
        return mean

    def _mask_of(self, sample: StereoSample) -> Path | None:
        path = Path(self.config.sky) / f"{sample.name}{MASK}"
        return path if self.config.sky and path.is_file() else None


def _check_masks(folder: Path) -> None:
    """Refuse a folder of sky masks, at any depth, that holds none or some of another format."""
    masks = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    if not masks:
        raise InputError(f"{folder} holds no sky masks", expected=f"a folder of <sample>{MASK}")
    for path in masks:
        if path.suffix != MASK:
            raise InputError(f"sky mask {path} would not be found", expected=f"<sample>{MASK}")


def _with_sky(path: Path, disparity: Map, trusted: Mask) -> tuple[Map, Mask]:
    """Sky is infinitely far: disparity 0 and trusted (LAS2's M_sky, with masks from outside)."""
    if path.suffix.lower() != MASK:
        raise FileFormatError(f"sky mask {path} has another format", expected=MASK)
    sky = read_image(path)[..., 0] > 0
    if sky.shape != disparity.shape:
        raise FileFormatError(f"{path} has shape {sky.shape}", expected=f"that of the pair, {disparity.shape}")
    return np.where(sky, np.float32(0), disparity), trusted | sky


def _tensor(disparity: Map) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(disparity))[None]
