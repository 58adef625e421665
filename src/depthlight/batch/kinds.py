"""The kinds of work: their settings, and how one item is done. Networks are loaded once, by :meth:`Kind.open`.

Settings have the names of the command line's options. ``threads`` is 1: workers share a machine by being many, and the
same number everywhere is what makes the same bits everywhere. What refines is in ``refining.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..core import registry
from ..core.config import from_dict, to_dict
from ..core.errors import InputError, UnknownNameError
from ..core.extras import require
from ..geometry.rig import StereoRig
from ..infer import folder as stereo_files
from ..infer import mono_folder
from ..infer.load import load
from ..infer.metres import Metres
from ..infer.mono_prediction import Quantity
from ..infer.owned import EVERY, RESULT
from ..infer.stereo import StereoModel
from ..io.images import read_image

PAIR, PHOTO = ("left", "right"), ("photo",)
LABEL = "label"
Paths = Mapping[str, Path]  # an item's inputs by role


@dataclass(frozen=True)
class Opened:
    """A kind with its networks: what results depend on besides settings and inputs, and the work itself.

    ``do(paths, folder)`` writes a result's files into an empty folder, and returns why it ended before its time if it
    did: the files are then the last good ones.
    """

    identity: dict[str, Any]
    do: Callable[[Paths, Path], str | None]


@dataclass(frozen=True, kw_only=True)
class Kind(ABC):
    """Settings that are the same for every item. ``needs`` and ``may`` are the roles of an item's inputs."""

    threads: int = 1
    device: str = "auto"

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = PAIR
    may: ClassVar[tuple[str, ...]] = ("calib",)
    owned: ClassVar[tuple[str, ...]] = EVERY  # the names results take here, the one that makes them whole first
    vouch: ClassVar[str] = RESULT  # the JSON that says what was asked for

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"threads is {self.threads}", expected="1 or more")

    @abstractmethod
    def open(self) -> Opened:
        """Load what the work needs; what can be wrong with the settings is told here (DepthlightError)."""

    def target(self, name: str, file: str) -> str:
        """Where ``file`` of item ``name`` goes, relative to the output."""
        return f"{name}/{file}"


@dataclass(frozen=True, kw_only=True)
class Stereo(Kind):
    """Disparity of pairs, as ``depthlight stereo`` writes it; metres where an item has a calibration."""

    model: str | None = None
    backend: str = "auto"
    precision: str = "fp32"
    max_disp: int | None = None
    min_disp: int = 0
    find_range: bool = False
    left_right: bool = False
    formats: tuple[Literal["png", "npy", "pfm", "tiff"], ...] = ("png",)
    metres: Metres = field(default_factory=Metres)

    name: ClassVar = "stereo"

    def open(self) -> Opened:
        matcher = load(
            self.model, backend=self.backend, device=self.device, precision=self.precision, threads=self.threads
        )
        if self.find_range and (self.max_disp is not None or self.min_disp or not isinstance(matcher, StereoModel)):
            raise InputError("find_range is for a network, without max_disp and min_disp", hint="Leave it out")
        fixed: dict[str, Any] = {"max_disp": self.max_disp} | ({"min_disp": self.min_disp} if self.min_disp else {})
        matcher.check_range(**fixed)

        def do(paths: Paths, folder: Path) -> None:
            left_HW3, right_HW3, rig = read_pair(paths)
            window = fixed
            if self.find_range and isinstance(matcher, StereoModel):
                window = dict(zip(("min_disp", "max_disp"), matcher.find_range(left_HW3, right_HW3), strict=True))
            prediction = matcher.predict(left_HW3, right_HW3, **window, left_right=self.left_right)
            stereo_files.save_prediction(
                folder, prediction, left_HW3, formats=self.formats, rig=rig, metres=self.metres
            )

        return Opened(asdict(matcher.identity), do)


@dataclass(frozen=True, kw_only=True)
class Mono(Kind):
    """Depth of photos, as ``depthlight mono`` writes it."""

    model: str | None = None
    precision: str = "fp32"
    working: int | None = None
    quantity: Quantity | None = None
    focal: float | None = None
    formats: tuple[Literal["png", "npy"], ...] = ("png",)

    name: ClassVar = "mono"
    needs: ClassVar = PHOTO
    may: ClassVar = ()

    def open(self) -> Opened:
        from ..infer.mono import load_mono

        torch_threads(self.threads)
        model = load_mono(
            self.model, device=self.device, precision=self.precision, working=self.working, quantity=self.quantity
        )
        if self.focal is not None and model.quantity != "depth":
            raise InputError(f"focal is for metric models, and {model.name} is none", hint="Leave it out")

        def do(paths: Paths, folder: Path) -> None:
            prediction = model.predict(paths["photo"], focal=self.focal)
            mono_folder.save_mono(folder, prediction, read_image(paths["photo"]), formats=self.formats)

        return Opened(asdict(model.identity) | {"working": model.working}, do)


@dataclass(frozen=True, kw_only=True)
class Labels(Kind):
    """Pseudo-labels for stage 3: one PNG per pair, 0 where the teacher is not to be trusted; sky is disparity 0.

    The settings are those of :class:`depthlight.train.config.TeacherConfig`; an item's ``sky`` is its mask, a PNG.
    """

    models: tuple[str, ...] = ()
    ensemble: bool = True
    left_right: bool = True
    edges: bool = True
    spread_px: float = 1.0

    name: ClassVar = "labels"
    may: ClassVar = ("sky",)
    owned: ClassVar = (f"{LABEL}.png", f"{LABEL}.json")
    vouch: ClassVar = f"{LABEL}.json"

    def open(self) -> Opened:
        torch_threads(self.threads)
        from ..data.samples import StereoSample
        from ..io.disparity_files import write_disparity
        from ..train.config import TeacherConfig
        from ..train.stage3 import Teacher

        settings = {name: value for name, value in to_dict(self).items() if name not in ("threads", "device")}
        teacher = Teacher(from_dict(TeacherConfig, settings), registry.DEFAULT_MODEL, self.device)

        def do(paths: Paths, folder: Path) -> None:
            left_HW3, right_HW3, _ = read_pair(paths)
            sample = StereoSample(left_HW3, right_HW3, name="")
            disparity_HW, trusted_HW = teacher.label(sample, sky=paths.get("sky"))
            meta = {"kept_share": float(trusted_HW.mean())}
            write_disparity(folder / f"{LABEL}.png", disparity_HW, valid_HW=trusted_HW, meta=meta)

        return Opened({"models": [asdict(model.identity) for model in teacher.models]}, do)

    def target(self, name: str, file: str) -> str:
        return name + Path(file).suffix


def kind_of(name: str, *, pairs: bool, settings: Mapping[str, Any]) -> Kind:
    """The kind called ``name`` for pairs or photos, with its settings.

    Raises:
        UnknownNameError: no such kind, or no such setting of it.
        ConfigError: a setting has the wrong type.
        InputError: the kind is not for pairs, or only for them.
    """
    kinds: dict[str, dict[bool, type[Kind]]] = {
        "stereo": {True: Stereo},
        "mono": {False: Mono},
        "labels": {True: Labels},
    }
    if name == "refine":
        torch_threads(1)
        from .refining import RefinePair, RefinePhoto

        kinds["refine"] = {True: RefinePair, False: RefinePhoto}
    if name not in kinds:
        raise UnknownNameError("kind of work", name, [*kinds, "refine"])
    if pairs not in kinds[name]:
        raise InputError(f"{name} is not for {'pairs' if pairs else 'photos'}", hint="Choose another kind")
    return from_dict(kinds[name][pairs], settings, where=f"{name}.")


def read_pair(paths: Paths) -> tuple[NDArray[np.uint8], NDArray[np.uint8], StereoRig | None]:
    """Both views (RGB uint8), and the calibration, checked against the left one before any work."""
    left_HW3, right_HW3 = (read_image(paths[role]) for role in PAIR)
    if "calib" not in paths:
        return left_HW3, right_HW3, None
    size = left_HW3.shape[1], left_HW3.shape[0]
    rig = StereoRig.from_file(paths["calib"], size=size)
    rig.resized(*size)
    return left_HW3, right_HW3, rig


def torch_threads(count: int) -> None:
    """Set the number of torch's threads; a clear line where there is no torch (MissingExtraError)."""
    require("torch", extra="torch", purpose="this kind of work runs on it").set_num_threads(count)
