"""Any depth model of transformers (DPT, GLPN, ZoeDepth, Depth Pro, …) for plain prediction.

The model's own image processor resizes, pads and normalises, and undoes it afterwards, so the answer is that of
transformers' own pipeline. What the answer means is not in every configuration; where it is not, the user has to say.

Shape legend: B batch, H W size of the image, whatever it is.
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import CheckpointError, InputError
from ...core.extras import require
from ..pretrained import load_plain, load_transformers
from ..snapshots import Snapshot
from .base import MonoNet, Quantity

# What architectures with one kind of answer give, as their papers and transformers' documentation say.
BY_TYPE: Mapping[str, Quantity] = {"zoedepth": "depth", "glpn": "depth", "depth_pro": "depth", "tipsv2_dpt": "depth"}
# DPT was trained for both; these are the answers that the model cards of the hub name.
BY_ID: Mapping[str, Quantity] = {"Intel/dpt-*": "inverse_depth", "facebook/dpt-dinov2-*": "depth"}
# Not a picture's depth from the picture alone, whatever the configuration says.
REFUSED: Mapping[str, str] = {
    "prompt_depth_anything": "needs a coarse depth map beside the image",
    "chmv2": "gives the height of trees over the ground",
}


class TransformersDepthNet(MonoNet):
    """A depth model and its image processor under our contract; takes images of every size, cannot be split.

    ``working`` is the longest side its processor resizes to; where that is settled, images are given to it whole.

    Images are rounded to 8 bit, which is what processors are made for. Inverse depth below 0, which a processor's
    bicubic resizing can leave at edges, becomes 0.

    Args:
        model: of ``AutoModelForDepthEstimation``.
        processor: the model's own, with ``post_process_depth_estimation``.
        quantity: what the model answers.
    """

    family = "transformers"
    splits = False
    multiple = 1

    def __init__(self, model: nn.Module, processor: Any, quantity: Quantity) -> None:
        super().__init__()
        self.model: Any = model
        self.processor = processor
        self.quantity: Quantity = quantity
        size = dict(getattr(processor, "size", None) or {})
        self.working = max((int(side) for side in size.values() if side), default=self.working)
        self.resizes = any(size.values())

    @property
    def takes_focal(self) -> bool:
        """Whether a known focal length changes the answer, and the network estimates it otherwise (Depth Pro)."""
        return bool(self.model.config.model_type == "depth_pro")

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Raw answer (B, 1, H, W) float32 for sRGB images in 0..1: metres or relative inverse depth (``quantity``)."""
        return self.predict(image_B3HW)[0]

    def predict(self, image_B3HW: Tensor, *, focal_px: float | None = None) -> tuple[Tensor, Tensor | None]:
        """The raw answer, and the focal length it goes with.

        Args:
            image_B3HW: sRGB, 0..1.
            focal_px: focal length in px of this image size, say from EXIF; only where ``takes_focal``. Depth is
                proportional to it.

        Returns:
            raw (B, 1, H, W) float32, and the focal length (B,) in px where the model gives or takes one.

        Raises:
            InputError: a focal length for a model that takes none; or none for a model that needs one.
        """
        self.check_input(image_B3HW)
        size = (image_B3HW.shape[-2], image_B3HW.shape[-1])
        images_3HW = list((image_B3HW.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8))
        pixels = self.processor(images=images_3HW, return_tensors="pt")["pixel_values"]
        outputs = self.model(pixels.to(image_B3HW.device, self.model.dtype))
        self._set_focal(outputs, size[1], focal_px)
        options: dict[str, Any] = {"target_sizes": [size] * len(images_3HW)}
        if "source_sizes" in inspect.signature(self.processor.post_process_depth_estimation).parameters:
            options["source_sizes"] = options["target_sizes"]
        answers = self.processor.post_process_depth_estimation(outputs, **options)
        raw_B1HW = torch.stack([answer["predicted_depth"].reshape(1, *size) for answer in answers]).float()
        if self.quantity == "inverse_depth":
            raw_B1HW = raw_B1HW.clamp(min=0)
        focals = [answer.get("focal_length") for answer in answers]
        return raw_B1HW, None if None in focals else torch.stack([focal.reshape(()).float() for focal in focals])

    def _set_focal(self, outputs: Any, width: int, focal_px: float | None) -> None:
        """Depth Pro scales its answer by the field of view it sees; a known focal length replaces that."""
        if focal_px is None:
            if self.takes_focal and outputs.field_of_view is None:
                raise InputError("this Depth Pro sees no field of view", expected="a focal length in px")
            return
        if not self.takes_focal:
            raise InputError(f"{self.model.config.model_type} models take no focal length", hint="Leave it out")
        if not 0 < focal_px < float("inf"):
            raise InputError(f"focal length {focal_px} px", expected="a number above 0")
        half = torch.atan(torch.tensor(0.5 * width / focal_px, device=outputs.predicted_depth.device))
        outputs.field_of_view = torch.rad2deg(2 * half).repeat(len(outputs.predicted_depth))


def quantity_of(source: str, config: Any, stated: Quantity | None) -> Quantity:
    """What a model answers: as its configuration, its architecture or the hub's model card says, else as ``stated``.

    Args:
        source: hub id or folder.
        config: of transformers.
        stated: what the user says; it must not contradict what is known.

    Raises:
        CheckpointError: nothing says it and ``stated`` is None; or the model is not for single images.
        InputError: ``stated`` contradicts what is known.
    """
    kind = config.model_type
    if kind in REFUSED:
        raise CheckpointError(
            f"{source} is a {kind} model, which {REFUSED[kind]}", expected="a single-image depth model"
        )
    told = {"relative": "inverse_depth", "metric": "depth"}.get(getattr(config, "depth_estimation_type", None) or "")
    known: Any = told or BY_TYPE.get(kind)
    known = known or next((answer for pattern, answer in BY_ID.items() if fnmatch.fnmatch(source, pattern)), None)
    if known is None and stated is None:
        raise CheckpointError(
            f"{source} does not say whether it answers inverse depth or metres ({kind})",
            hint='Look at its model card and state quantity "inverse_depth" or "depth"',
        )
    if known is not None and stated is not None and known != stated:
        raise InputError(f"{source} answers {known}, not {stated}", hint="Leave out the quantity")
    quantity: Quantity = stated or known
    return quantity


def load_transformers_depth(snapshot: Snapshot, stated: Quantity | None) -> TransformersDepthNet:
    """The model and processor of a folder as transformers writes it, in float32.

    Raises:
        CheckpointError: the folder is damaged, its processor cannot finish depth estimation, or nothing says what the
            model answers.
        InputError: ``stated`` contradicts the model.
    """
    library = require("transformers", extra="refine")
    folder, source = snapshot.folder, snapshot.source
    quantity = quantity_of(source, load_plain(library.AutoConfig, folder, source=source), stated)
    if not (folder / "preprocessor_config.json").is_file():
        raise CheckpointError(f"{source} has no preprocessor_config.json, which says how to prepare images")
    processor = load_plain(library.AutoImageProcessor, folder, source=source)
    if not hasattr(processor, "post_process_depth_estimation"):
        raise CheckpointError(f"{source}: its image processor {type(processor).__name__} is not for depth")
    model = load_transformers(library.AutoModelForDepthEstimation, folder, source=source)
    return TransformersDepthNet(model, processor, quantity)
