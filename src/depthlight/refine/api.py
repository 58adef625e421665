"""``depthlight.refine``: one photo in, depth before and after out; a pair goes to :mod:`depthlight.refine.stereo_api`.

Shapes: H × W the photo, h × w the working size, 1 a batch of one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.config import to_dict
from ..core.errors import InputError
from ..core.memory import keep_freed_memory
from ..infer.memory import need_memory
from ..infer.mono import BYTES_PER_PIXEL, working_size
from ..io.images import ImageSource, as_image
from . import priors
from .anchor import anchor, wanted_change
from .config import RefineConfig, changed, load_recipe, without_guidance
from .guidance import Guidance
from .keeping import Keeping, Row
from .loop import Refinement
from .result import RefineResult
from .upsample import brightness, enlarge

if TYPE_CHECKING:
    from ..infer.mono import MonoModel
    from .stereo_result import StereoRefineResult


BYTES_PER_LIGHT = 600  # a pixel of the working size
BYTES_PER_PHOTO_PIXEL = 130  # the maps, normals and pictures of the result, measured at 27 million
SMALLEST = 8  # px: less has no normals to speak of
_ONLY_PHOTO = ("restarts", "seed", "prompt", "focal", "measured", "precision")
_ONLY_PAIR = ("max_disp",)


@overload
def refine(image: ImageSource, right: None = None, **options: Any) -> RefineResult: ...
@overload
def refine(image: ImageSource, right: ImageSource, **options: Any) -> StereoRefineResult: ...
def refine(image: ImageSource, right: ImageSource | None = None, **options: Any) -> RefineResult | StereoRefineResult:
    """Refine depth at test time, from one photo or a rectified pair.

    Args:
        image: the photo, or the left view.
        right: the right view.
        options: those of :func:`refine_photo`; with two views those of
            :func:`depthlight.refine.stereo_api.refine_stereo`.

    Raises:
        InputError: an option is for the other kind; also what those two raise.
    """
    alien = [name for name in (_ONLY_PAIR if right is None else _ONLY_PHOTO) if options.get(name) is not None]
    if alien:
        given, wanted = ("one photo", "a pair") if right is None else ("a pair", "one photo")
        raise InputError(f"{alien[0]} is for {wanted}, and {given} was given", hint="Leave it out")
    if right is None:
        return refine_photo(image, **options)
    from .stereo_api import refine_stereo

    return refine_stereo(image, right, **options)


def refine_photo(
    image: ImageSource,
    *,
    model: str | MonoModel | None = None,
    prior: str | Guidance | None = None,
    recipe: str | RefineConfig = "fast",
    steps: int | None = None,
    restarts: int | None = None,
    seed: int | None = None,
    prompt: str | None = None,
    focal: float | None = None,
    measured: NDArray[np.floating[Any]] | None = None,
    device: str = "auto",
    precision: str = "fp32",
    keep: Path | None = None,
    keep_seconds: float = 30.0,
    resume: bool = False,
    overwrite: bool = False,
    on_step: Callable[[Row], None] | None = None,
    on_map: Callable[[NDArray[np.float32]], None] | None = None,
    should_stop: Callable[[], object] | None = None,
) -> RefineResult:
    """Refine the depth of one photo at test time (Re-Depth Anything, arXiv 2512.17908).

    The network's weights are the same afterwards. Same photo, settings, seed, device and threads: same bits.

    Args:
        image: the photo; anything :func:`depthlight.io.images.as_image` takes.
        model: a name or file for :func:`depthlight.infer.mono.load_mono`, or a loaded model.
        prior: a name (see :func:`depthlight.refine.priors.load_guidance`), ``"none"``, or a guidance.
        recipe: ``"fast"``, ``"paper"``, a ``.toml`` file, or a configuration.
        steps, restarts, seed, prompt: laid over the recipe.
        focal: focal length, px of the photo; normals then come from a pinhole camera.
        measured: depth of some pixels, (H, W) of the photo, metres, 0 or not finite where it is unknown: the refinement
            stays close to it, and the result has metres (:func:`~depthlight.refine.anchor.anchor`).
        device: ``auto``, ``cpu`` or ``cuda``; of what is loaded here.
        precision: of a diffusion prior: ``fp32``, ``bf16`` or ``fp16``.
        keep: folder for the state of the run; ``keep_seconds`` between two.
        resume: go on from the state in ``keep``, if there is one.
        overwrite: begin anew where an unfinished run of the same is kept, which is refused otherwise.
        on_step: told the losses of every step.
        on_map: shown the map so far, (h, w) at working size, after every step.
        should_stop: asked after every step; a true answer saves the state and raises StopRequestedError.

    Returns:
        Both maps and everything known about them. Where something was not finite, or the map left all bounds,
        ``stopped`` says what and where, and ``after`` is the last good map.

    Raises:
        InputError: the photo, a name or a setting is not right, or the network gives no relative inverse depth.
        LimitError: the working size and the lights need more memory than is free.
        NonFiniteError: the network's own answer is not finite.
        CheckpointError: the state to resume belongs to another refinement, or one would be lost.
    """
    config = configured(recipe, steps=steps, restarts=restarts, seed=seed, prompt=prompt)
    _need_use(prior, config, {"prompt": prompt is not None, "precision": precision != "fp32"})
    photo_HW3 = as_image(image, name="the photo")
    if min(photo_HW3.shape[:2]) < SMALLEST:
        height, width = photo_HW3.shape[:2]
        raise InputError(f"the photo has {width}×{height} px", expected=f"at least {SMALLEST} on each side")
    if focal is not None:
        config = with_focal(config, focal, photo_HW3)
    keep_freed_memory()
    loaded = _model(model, device)
    size = _size(photo_HW3, config, loaded)
    if loaded.device.type == "cpu":
        needed = _bytes_needed(size, config) + photo_HW3.shape[0] * photo_HW3.shape[1] * BYTES_PER_PHOTO_PIXEL
        need_memory(f"a refinement at {size[1]}×{size[0]} px", needed)
    guidance = _guidance(prior, config, photo_HW3, loaded.device, precision)
    if guidance is None:
        config = without_guidance(config)
    before_HW = np.asarray(loaded.predict(photo_HW3, working=config.longest or None).values, np.float32)
    aims = None if measured is None else _aims(before_HW, measured)
    run = Refinement(
        loaded.net,
        loaded.prepare(photo_HW3, size),
        config,
        guidance,
        sides=(photo_HW3.shape[0], photo_HW3.shape[1]),
        anchors=aims,
        keeping=None
        if keep is None
        else Keeping(
            keep,
            request(photo_HW3, loaded, guidance, config, measured) | {"size": list(size)},
            seconds=keep_seconds,
            resume=resume,
            overwrite=overwrite,
        ),
        on_map=None if on_map is None else lambda raw: on_map(_plain(raw)),
    )
    outcome = run.run(on_step=on_step, should_stop=should_stop)
    start_hw, refined_hw, *runs = (_plain(raw) for raw in (outcome.start_B1hw, outcome.refined_B1hw, *outcome.runs))
    after_HW, clipped = applied(before_HW, start_hw, refined_hw, photo_HW3, config)
    return RefineResult(
        before=before_HW,
        after=after_HW,
        start=start_hw,
        refined=refined_hw,
        runs=tuple(runs),
        history=tuple(outcome.history),
        stopped=str(outcome.stopped or ""),
        model=_identity(loaded),
        prior=None if guidance is None else guidance.describe(),
        recipe=recipe if isinstance(recipe, str) else "",
        config=config,
        unit=run.unit,
        seconds=outcome.seconds,
        clipped=clipped,
        offsets=tuple(outcome.offsets),
        anchored=None if measured is None else anchor(after_HW, measured),
    )


def configured(
    recipe: str | RefineConfig,
    *,
    steps: int | None = None,
    restarts: int | None = None,
    seed: int | None = None,
    prompt: str | None = None,
) -> RefineConfig:
    """The recipe with what was given laid over it.

    Raises:
        InputError: see :func:`~depthlight.refine.config.load_recipe`.
    """
    given = {"steps": steps, "restarts": restarts, "seed": seed, "guidance": {"prompt": prompt}}
    if isinstance(recipe, str):
        return load_recipe(recipe, given)
    return changed(recipe, given)


def with_focal(config: RefineConfig, focal: float, photo_HW3: NDArray[np.uint8]) -> RefineConfig:
    """The configuration with a pinhole camera of ``focal`` px of this photo.

    Raises:
        ConfigError: the focal length is not positive and finite.
    """
    return replace(config, camera="pinhole", focal=focal / max(photo_HW3.shape[:2]))


def applied(
    before_HW: NDArray[np.float32],
    start_hw: NDArray[np.float32],
    refined_hw: NDArray[np.float32],
    photo_HW3: NDArray[np.uint8],
    config: RefineConfig,
) -> tuple[NDArray[np.float32], float]:
    """``before_HW`` with the change of the raw map from ``start_hw`` to ``refined_hw`` added, at its size.

    Relative inverse depth has no negative values: where the change would lead below 0 the result is 0, as the network's
    own last layer has it. The second value is the share of such pixels, 0..1.
    """
    after_HW = before_HW + enlarge(refined_hw - start_hw, brightness(photo_HW3), config.upsample)
    return np.asarray(np.maximum(after_HW, 0), np.float32), float((after_HW < 0).mean())


def request(
    photo_HW3: NDArray[np.uint8],
    model: MonoModel,
    guidance: Guidance | None,
    config: RefineConfig,
    measured: NDArray[np.floating[Any]] | None = None,
) -> dict[str, Any]:
    """Everything a result depends on, as plain values."""
    facts = {
        "photo": _hash(photo_HW3),
        **_identity(model),
        "prior": None if guidance is None else guidance.describe(),
        "config": to_dict(config),
    }
    return facts if measured is None else facts | {"measured": _hash(measured)}


def _hash(values: NDArray[Any]) -> str:
    return hashlib.sha256(f"{values.shape}".encode() + np.ascontiguousarray(values).tobytes()).hexdigest()


def _aims(
    before_HW: NDArray[np.float32], measured_HW: NDArray[np.floating[Any]]
) -> Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Of the first raw map: what measured depth wants changed in it.

    Raises:
        InputError, NonFiniteError: see :func:`~depthlight.refine.anchor.anchor`.
    """
    found = anchor(before_HW, measured_HW)

    def of(start_hw: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return wanted_change(before_HW, measured_HW, found, (start_hw.shape[0], start_hw.shape[1]))

    return of


def _size(photo_HW3: NDArray[np.uint8], config: RefineConfig, model: MonoModel) -> tuple[int, int]:
    height, width = photo_HW3.shape[:2]
    return working_size(height, width, config.longest or model.working, model.net.multiple)


def _bytes_needed(size: tuple[int, int], config: RefineConfig) -> int:
    """About the peak: the network's and its gradients', and one rendering per light."""
    return size[0] * size[1] * (3 * BYTES_PER_PIXEL + BYTES_PER_LIGHT * config.lights)


def _model(model: str | MonoModel | None, device: str) -> MonoModel:
    if model is not None and not isinstance(model, str):
        return model
    from ..infer.mono import load_mono

    return load_mono(model, device=device)


def _need_use(prior: str | Guidance | None, config: RefineConfig, given: Mapping[str, bool]) -> None:
    """Refuse what is for a prior that is to be loaded, where none is."""
    used = config.guidance.weight and prior != priors.NONE and (prior is None or isinstance(prior, str))
    idle = [name for name, is_given in given.items() if is_given]
    if idle and not used:
        raise InputError(
            f"{' and '.join(idle)} would change nothing", hint="Give it with the name of a prior, or not at all"
        )


def _guidance(
    prior: str | Guidance | None,
    config: RefineConfig,
    photo_HW3: NDArray[np.uint8],
    device: torch.device,
    precision: str,
) -> Guidance | None:
    if prior == priors.NONE or not config.guidance.weight:
        return None
    if prior is not None and not isinstance(prior, str):
        return priors.need_as_trained(prior, config)
    return priors.load_guidance(prior, config, device=device, precision=precision, photo_HW3=photo_HW3)


def _identity(model: MonoModel) -> dict[str, Any]:
    facts: Mapping[str, Any] = asdict(model.identity)
    return {"model" if name == "name" else name: value for name, value in facts.items()}


def _plain(raw_B1hw: Tensor) -> NDArray[np.float32]:
    return np.array(raw_B1hw[0, 0].float().cpu().numpy(), np.float32)
