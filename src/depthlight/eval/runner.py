"""A matcher over a dataset under a protocol: one pass per scene, every figure in one result.

A scene that cannot be read or matched is reported and counted, never replaced and never averaged in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DepthlightError, InputError
from ..data.samples import StereoDataset, StereoSample
from ..infer.prediction import ModelIdentity, StereoMatcher, StereoPrediction
from ..infer.sgbm import SgbmOracle
from .confidence import confidence_metrics
from .metrics import error_sums
from .protocol import PROTOCOLS, Protocol
from .report import SceneFailure
from .result import EvalResult, SceneResult

SceneOutcome: TypeAlias = SceneResult | SceneFailure
OnScene: TypeAlias = Callable[[SceneOutcome], None]
Pictures: TypeAlias = Callable[[StereoSample, StereoPrediction], None]


def evaluate(
    matcher: StereoMatcher,
    dataset: StereoDataset,
    protocol: Protocol = PROTOCOLS["default"],
    *,
    on_scene: OnScene | None = None,
    pictures: Pictures | None = None,
) -> EvalResult:
    """Measure ``matcher`` on every scene of ``dataset``.

    Every ground-truth pixel below the protocol's cap counts: neither ``valid`` nor ``confidence`` removes one.

    Args:
        on_scene: told each outcome as it comes (for progress).
        pictures: given each sample and its prediction (for figures); what it raises ends the evaluation.

    Raises:
        InputError: the dataset is empty, or two of its scenes have one name.
    """
    _check_names(dataset)
    identity = ModelIdentity(matcher.name, None, "", "", "")
    outcomes: list[SceneOutcome] = []
    for index in range(len(dataset)):
        path = name = dataset.sample_name(index)
        try:
            sample = dataset[index]
            path = str(sample.path or name)
            prediction = _predict(matcher, sample, protocol.max_disp)
            outcome: SceneOutcome = measure_scene(prediction, sample, protocol, name=name)
        except DepthlightError as error:
            outcome = SceneFailure(name, str(error.details.get("path", path)), str(error), error.code)
        else:
            identity = prediction.model
            if pictures is not None:
                pictures(sample, prediction)
        outcomes.append(outcome)
        if on_scene is not None:
            on_scene(outcome)
    return EvalResult(
        protocol=protocol,
        model=identity,
        dataset=dataset.name,
        scenes=tuple(outcome for outcome in outcomes if isinstance(outcome, SceneResult)),
        failures=tuple(outcome for outcome in outcomes if isinstance(outcome, SceneFailure)),
    )


def measure_scene(
    prediction: StereoPrediction, sample: StereoSample, protocol: Protocol, *, name: str | None = None
) -> SceneResult:
    """The figures of one prediction.

    Raises:
        InputError: the sample has no ground truth below the cap, or a map has another shape than the truth.
        NonFiniteError: the disparity or confidence is not finite where there is a truth.
    """
    truth_HW, counted_HW = _counted(sample, protocol.cap)
    if prediction.confidence.shape != truth_HW.shape:
        raise InputError(f"confidence has shape {prediction.confidence.shape}", expected=f"{truth_HW.shape}")
    estimated_HW = prediction.estimated
    sums = error_sums(prediction.disparity, truth_HW, counted_HW, estimated_HW)
    noc_sums = None
    if sample.visible_HW is not None:
        noc_sums = error_sums(prediction.disparity, truth_HW, counted_HW & sample.visible_HW, estimated_HW)
    error_N = np.abs(prediction.disparity[counted_HW].astype(np.float64) - truth_HW[counted_HW])
    return SceneResult(
        name=sample.name if name is None else name,
        sums=sums,
        noc_sums=noc_sums if noc_sums and noc_sums.pixels else None,
        confidence=confidence_metrics(error_N, prediction.confidence[counted_HW]),
        seconds=prediction.seconds,
    )


def _check_names(dataset: StereoDataset) -> None:
    names = [dataset.sample_name(index) for index in range(len(dataset))]
    if not names:
        raise InputError(f"dataset {dataset.name} is empty", expected="at least one scene")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"dataset {dataset.name} has {times} scenes named {name!r}", expected="each scene once")


def _predict(matcher: StereoMatcher, sample: StereoSample, max_disp: int) -> StereoPrediction:
    if isinstance(matcher, SgbmOracle):
        truth_HW, valid_HW = _counted(sample, None)
        return matcher.predict_with_truth(sample.left_HW3, sample.right_HW3, truth_HW, valid_HW)
    return matcher.predict(sample.left_HW3, sample.right_HW3, max_disp=max_disp)


def _counted(sample: StereoSample, cap: float | None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The truth, and the pixels of it that count."""
    if sample.disparity_HW is None or sample.valid_HW is None:
        raise InputError(f"{sample.name} has no ground truth", expected="a disparity map of the left view")
    counted_HW = sample.valid_HW if cap is None else sample.valid_HW & (sample.disparity_HW < cap)
    if not counted_HW.any():
        below = "" if cap is None else f" below {cap:g} px"
        raise InputError(f"{sample.name} has no ground-truth pixel{below}", expected="at least one")
    return sample.disparity_HW, counted_HW
