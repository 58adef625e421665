"""A single-image depth model over a dataset under a protocol, and the baseline that looks at nothing.

An image that cannot be read or measured is reported and counted, never replaced and never averaged in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np

from ..core.errors import DepthlightError, InputError
from ..infer.mono import MonoPrediction
from ..infer.prediction import ModelIdentity
from ..io.images import ImageSource, as_image
from .mono_metrics import Quantity, align, check_unit, depth_metrics, truth_mask
from .mono_protocol import MonoProtocol
from .mono_result import MonoEvalResult, MonoSceneResult
from .mono_scenes import DepthScene, DepthScenes
from .mono_shape import shape_metrics
from .report import SceneFailure

OnScene: TypeAlias = Callable[[MonoSceneResult | SceneFailure], None]
Pictures: TypeAlias = Callable[[DepthScene, MonoPrediction, MonoSceneResult], None]


class MonoEstimator(Protocol):
    """Anything that turns an image into a :class:`MonoPrediction`."""

    @property
    def identity(self) -> ModelIdentity:
        """What its predictions say about their origin."""
        ...

    @property
    def quantity(self) -> Quantity:
        """What its predictions are."""
        ...

    def predict(self, image: ImageSource) -> MonoPrediction:
        """Depth of one image, at its size."""
        ...


class Ramp:
    """The baseline ``ramp``: relative inverse depth that grows evenly from 0 at the top to 1 at the bottom.

    What a model must beat to have looked at the picture.
    """

    identity = ModelIdentity("ramp", None, "none", "fp32", "cpu")
    quantity: Quantity = "inverse_depth"

    def predict(self, image: ImageSource) -> MonoPrediction:
        """The ramp at the size of the image.

        Raises:
            InputError: not an image.
        """
        started = time.perf_counter()
        height, width = as_image(image).shape[:2]
        ramp_H = np.linspace(0, 1, height, dtype=np.float32)
        return MonoPrediction(
            values=np.repeat(ramp_H[:, None], width, axis=1),
            quantity=self.quantity,
            model=self.identity,
            working_size=(height, width),
            seconds=time.perf_counter() - started,
        )


def evaluate_mono(
    model: MonoEstimator,
    dataset: DepthScenes,
    protocol: MonoProtocol | None = None,
    *,
    on_scene: OnScene | None = None,
    pictures: Pictures | None = None,
) -> MonoEvalResult:
    """Measure ``model`` on every image of ``dataset``.

    Args:
        protocol: the affine-invariant one by default.
        on_scene: told each outcome as it comes (for progress).
        pictures: given each scene, its prediction and its result; what it raises ends the evaluation.

    Raises:
        InputError: the model gives relative inverse depth and the protocol aligns nothing.
    """
    protocol = protocol or MonoProtocol()
    check_unit(model.quantity, protocol.alignment)
    done: list[MonoSceneResult] = []
    failed: list[SceneFailure] = []
    for index in range(len(dataset)):
        path = name = dataset.sample_name(index)
        try:
            scene = dataset[index]
            path = str(scene.path)
            prediction = model.predict(scene.image_HW3)
            result = measure_depth(prediction, scene, protocol)
        except DepthlightError as error:
            failure = SceneFailure(name, str(error.details.get("path", path)), str(error), error.code)
            failed.append(failure)
            outcome: MonoSceneResult | SceneFailure = failure
        else:
            done.append(result)
            outcome = result
            if pictures is not None:
                pictures(scene, prediction, result)
        if on_scene is not None:
            on_scene(outcome)
    return MonoEvalResult(
        protocol=protocol, model=model.identity, dataset=dataset.name, scenes=tuple(done), failures=tuple(failed)
    )


def measure_depth(prediction: MonoPrediction, scene: DepthScene, protocol: MonoProtocol) -> MonoSceneResult:
    """The result of one image.

    Raises:
        InputError: no truth counts, the estimate has another shape, or it has no unit and the protocol aligns nothing.
        NonFiniteError: the estimate is not finite.
    """
    cap = scene.max_depth if protocol.max_depth is None else protocol.max_depth
    cap = cap if scene.unit == "m" else None
    mask_HW = truth_mask(scene.depth_HW, scene.mask_HW, max_depth=cap)
    if not mask_HW.any():
        raise InputError(f"{scene.name} has no ground-truth pixel that counts", expected="at least one in the mask")
    if protocol.alignment == "none" and scene.unit != "m":
        raise InputError(f"{scene.name} has depth without a unit", hint="Use --alignment affine or paper")
    aligned = align(
        prediction.values, scene.depth_HW, mask_HW, protocol.alignment, quantity=prediction.quantity, max_depth=cap
    )
    return MonoSceneResult(
        name=scene.name,
        metrics=depth_metrics(aligned, scene.depth_HW, mask_HW),
        shape=shape_metrics(aligned.depth_HW, scene.depth_HW, mask_HW, scene.intrinsics),
        aligned=aligned,
        quantity=prediction.quantity,
        unit=scene.unit,
        camera="orthographic" if scene.intrinsics is None else "pinhole",
        max_depth=cap,
        pixels=int(mask_HW.sum()),
        seconds=prediction.seconds,
    )
