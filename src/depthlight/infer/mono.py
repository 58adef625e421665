"""A single-image depth network with its weights: loading, working size, running.

Shape legend: H, W image size. Needs torch, which is imported late.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..backends import PRECISIONS
from ..core import registry
from ..core.errors import CheckpointError, InputError, UnknownNameError
from ..core.extras import require
from ..io.exif import focal_px
from ..io.images import ImageSource, as_image
from .memory import need_memory
from .mono_prediction import MonoPrediction as MonoPrediction
from .mono_prediction import Quantity
from .prediction import ModelIdentity

if TYPE_CHECKING:
    from ..nets.mono.base import MonoNet

BYTES_PER_PIXEL = 4000  # of the working size
LARGEST_WORKING = 4096


def working_size(height: int, width: int, longest: int, multiple: int) -> tuple[int, int]:
    """The size a network sees an image at: the longest side about ``longest`` px, both in multiples of ``multiple``.

    Each side is rounded to the nearest multiple, so the shape changes by at most half a multiple per side.
    """
    scale = longest / max(height, width)
    sides = (max(multiple, round(side * scale / multiple) * multiple) for side in (height, width))
    rows, columns = sides
    return rows, columns


class MonoModel:
    """A network ready to predict. Made by :func:`depthlight.load_mono`.

    ``net`` is the torch network (a ``MonoNet``), ``working`` the longest side (px) it works at.
    """

    def __init__(
        self,
        name: str,
        net: MonoNet,
        *,
        weights_sha256: str | None,
        device: str = "auto",
        precision: str = "fp32",
        working: int | None = None,
    ) -> None:
        torch = require("torch", extra="torch", purpose="depth from one image runs on it")
        if precision not in PRECISIONS:
            raise UnknownNameError("precision", precision, PRECISIONS)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.split(":")[0] not in ("cpu", "cuda"):
            raise InputError(f"device {device!r} cannot be used", expected="auto, cpu, cuda or cuda:NUMBER")
        try:
            self.device = torch.device(device)
            self.net: MonoNet = net.eval().to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
        self.working = check_working(net.working if working is None else working, net.multiple)
        self.identity = ModelIdentity(name, weights_sha256, "torch", precision, device)

    @property
    def name(self) -> str:
        """The model's name, as every result states it."""
        return self.identity.name

    @property
    def quantity(self) -> Quantity:
        """What the values are."""
        return self.net.quantity

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of forward passes."""
        import torch

        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.identity.precision == "bf16")

    def predict(self, image: ImageSource, *, focal: float | None = None, working: int | None = None) -> MonoPrediction:
        """Depth of one image.

        The image is resized to the working size (see :func:`working_size`; averaged when that is smaller), and the
        answer back to the image's size (bilinear). The prediction states both sizes. At their own working size,
        models of transformers whose processor resizes are given the image as it is, and do both themselves.

        Args:
            image: path, bytes, PIL image or array: (H, W), (H, W, 1|3|4), uint8, uint16 or float 0..255, RGB order.
            focal: focal length in px of the image. Only for metric models, where a file's EXIF takes its place; models
                that need it (Depth Pro) use it, the others' answer just carries it.
            working: longest side (px) to work at; the model's ``working`` by default.

        Raises:
            InputError: not an image; a focal length for relative inverse depth, or one that is not positive; or the
                network's answer is not finite.
            LimitError: the working size needs more memory than is free.
        """
        image_HW3 = as_image(image)
        height, width = image_HW3.shape[:2]
        focal, focal_from = self._focal(image, (height, width), focal)
        longest = self.working if working is None else check_working(working, self.net.multiple)
        size = working_size(height, width, longest, self.net.multiple)
        if self.device.type == "cpu":
            need_memory(f"an image at {size[1]}×{size[0]}", size[0] * size[1] * BYTES_PER_PIXEL)
        shown = (height, width) if self.net.resizes and longest == self.net.working else size
        started = time.perf_counter()
        raw, seen = self._run(image_HW3, shown, None if focal is None else focal * shown[1] / width)
        if focal is None and seen is not None:
            focal, focal_from = seen * width / shown[1], "model"
        values = _resized(raw, (height, width))
        if not np.isfinite(values).all():
            raise InputError(f"{self.name} gave depth that is not finite", hint="Its weights are damaged or unfit")
        return MonoPrediction(
            values=values,
            quantity=self.quantity,
            model=self.identity,
            working_size=size,
            seconds=time.perf_counter() - started,
            focal=focal,
            focal_from=focal_from,
        )

    def _focal(self, image: ImageSource, size: tuple[int, int], given: float | None) -> tuple[float | None, str | None]:
        if given is not None:
            if self.quantity != "depth":
                raise InputError(f"{self.name} gives no metric depth, and takes no focal length", hint="Leave it out")
            if not 0 < given < float("inf"):
                raise InputError(f"the focal length is {given}", expected="px, above 0")
            return given, "given"
        if self.quantity != "depth" or not isinstance(image, str | os.PathLike):
            return None, None
        stated = focal_px(image, *size)
        return stated, None if stated is None else "exif"

    def _run(
        self, image_HW3: NDArray[np.uint8], size: tuple[int, int], focal: float | None
    ) -> tuple[NDArray[np.float32], float | None]:
        """The raw answer (h, w), and the focal length (px of that size) that a network which knows one states."""
        import torch

        net: Any = self.net
        with torch.inference_mode(), self.autocast():
            tensor = self.prepare(image_HW3, size)
            if getattr(net, "takes_focal", False):
                raw, seen = net.predict(tensor, focal_px=focal)
            else:
                raw, seen = net(tensor), None
        values: NDArray[np.float32] = raw[0, 0].float().cpu().numpy()
        return values, None if seen is None else float(seen[0])

    def prepare(self, image_HW3: NDArray[np.uint8], size: tuple[int, int]) -> Any:
        """The image as the network takes it: a (1, 3, h, w) float32 tensor of ``size``, sRGB in 0..1, on the device."""
        import torch

        small = _resized(image_HW3, size)
        tensor = torch.tensor(small).permute(2, 0, 1)[None].to(self.device)
        return tensor.float() / 255


def check_working(longest: int, multiple: int) -> int:
    """Refuse working sizes that nothing can work at.

    Raises:
        InputError: below one multiple, or above 4096.
    """
    if not multiple <= longest <= LARGEST_WORKING:
        raise InputError(f"working size is {longest} px", expected=f"{multiple} to {LARGEST_WORKING}")
    return longest


def load_mono(
    name: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    precision: str = "fp32",
    working: int | None = None,
    quantity: Quantity | None = None,
) -> MonoModel:
    """A single-image depth model ready to predict.

    Args:
        name: ``mono.synth-v1`` (ours; also ``mono`` and None), ``depth-anything-v2-small|base|large``, a
            ``.safetensors`` file of ``depthlight train mono``, a hub id (``owner/name``) or local folder of any depth
            model of transformers.
        device: ``auto``, ``cpu`` or ``cuda`` (``cuda:1`` …).
        precision: ``fp32`` or ``bf16``; never lowered by itself.
        working: longest side, px, that images are resized to; the network's own by default.
        quantity: what a hub model answers, if it does not say so itself.

    Raises:
        UnknownNameError: no such model or precision.
        InputError: a stereo model or a prior, or an option that does not fit.
        MissingExtraError: torch, timm or transformers is needed and not installed.
        CheckpointError: the weights are damaged, foreign or cannot be had.
    """
    require("torch", extra="torch", purpose="depth from one image runs on it")
    text = registry.DEFAULT_MONO if name is None or name == "mono" else os.fspath(name)
    own = _own_file(text)
    if own is not None:
        if quantity not in (None, "inverse_depth"):
            raise InputError(f"{text} answers inverse depth, not {quantity}", hint="Leave out the quantity")
        stated, net, sha256 = own
    else:
        _check_foreign(text)
        from ..nets.mono.hub import load_hub_mono

        found = load_hub_mono(registry.MONO_HUB.get(text, text), quantity=quantity)
        stated, net, sha256 = text, found.net, found.snapshot.weights_sha256()
    return MonoModel(stated, net, weights_sha256=sha256, device=device, precision=precision, working=working)


def _own_file(text: str) -> tuple[str, MonoNet, str] | None:
    """Name, network and hash of a model of ours, bundled or in a file; None for others'."""
    from ..nets.mono import build
    from .model_file import build_with, read_facts

    if Path(text).suffix.lower() == ".safetensors":
        path = Path(text)
        if not path.is_file():
            raise CheckpointError(f"model file {path} does not exist", hint="Check the path")
        facts = read_facts(path, registry.MONO_FAMILIES)
        if facts.family is None:
            raise CheckpointError(f"{path.name} does not say which network it belongs to")
        net = build_with(build, facts.family, facts.network, path)
        return facts.name or f"{facts.family}.{path.stem}", net, registry.sha256_of(path)
    card = registry.bundled().get(text)
    if card is None or card.family not in registry.MONO_FAMILIES:
        return None
    path = registry.verified_path(card, "safetensors")
    return text, build_with(build, card.family, card.network, path), card.files["safetensors"].sha256


def _check_foreign(text: str) -> None:
    """Refuse what can be neither a hub id nor a folder, saying what there is instead."""
    known, text = registry.list_models(), registry.DEFAULT_TAGS.get(text, text)
    if text in known:
        registry.need_task(text, "mono")
    elif "/" not in text and not Path(text).is_dir():
        raise UnknownNameError("single-image depth model", text, [n for n in known if registry.task_of(n) == "mono"])


def _resized(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    if values.shape[:2] == size:
        return np.ascontiguousarray(values)
    smaller = size[0] * size[1] < values.shape[0] * values.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(values), size[::-1], interpolation=how))
