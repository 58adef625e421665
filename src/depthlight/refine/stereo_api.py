"""``depthlight.refine(left, right)``: one rectified pair in, disparity before and after out.

Shapes: H × W the pair; tensors are padded to multiples of the network's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..backends import TorchBackend
from ..core import registry
from ..core.config import to_dict
from ..core.errors import InputError
from ..core.memory import keep_freed_memory
from ..infer.checks import at_range_limit, inside_right_view, left_right_agree
from ..infer.load import load
from ..infer.memory import need_memory
from ..infer.padding import crop, pad_to_multiple, up
from ..infer.pairs import Pair, read_pair
from ..infer.prediction import StereoMatcher, StereoPrediction
from ..infer.search_range import ONE_PASS
from ..infer.stereo import StereoModel
from ..io.images import ImageSource
from .config import RefineConfig
from .guidance import Guidance
from .keeping import Keeping, Row
from .patches import OFFSET
from .priors import NONE, load_guidance, need_as_trained, needs_photo
from .stereo import PairTensors, StereoRefinement
from .stereo_config import StereoRefineConfig, load_stereo_recipe, stereo_changed
from .stereo_result import StereoRefineResult
from .stereo_teacher import Teacher, teach


def refine_stereo(
    left: ImageSource,
    right: ImageSource,
    *,
    model: str | StereoMatcher | None = None,
    prior: str | Guidance | None = None,
    recipe: str | StereoRefineConfig = "fast",
    steps: int | None = None,
    max_disp: int | None = None,
    device: str = "auto",
    keep: Path | None = None,
    keep_seconds: float = 30.0,
    resume: bool = False,
    overwrite: bool = False,
    on_step: Callable[[Row], None] | None = None,
    on_map: Callable[[NDArray[np.float32]], None] | None = None,
    should_stop: Callable[[], object] | None = None,
) -> StereoRefineResult:
    """Adapt a stereo network's late maps to one rectified pair (:mod:`depthlight.refine.stereo`).

    The network's weights are the same afterwards. Same pair, settings, device and threads: same bits.

    Args:
        left, right: the views; anything :func:`depthlight.io.images.as_image` takes, of one size.
        model: a name or file for :func:`depthlight.load`, or what it returned with ``backend="torch"``.
        prior: of re-lighting, which the recipe turns on (``relight``): a name or file of a small prior, or a guidance;
            ``"none"`` turns it off.
        recipe: ``"fast"``, a ``.toml`` file, or a configuration.
        steps: laid over the recipe.
        max_disp: range to search, px; the model's own by default.
        device: ``auto``, ``cpu`` or ``cuda``; of what is loaded here.
        keep: folder for the state of the run; ``keep_seconds`` between two.
        resume: go on from the state in ``keep``, if there is one.
        overwrite: begin anew where an unfinished run of the same is kept, which is refused otherwise.
        on_step: told the losses of every step.
        on_map: shown the disparity so far, (H, W) px, after every step.
        should_stop: asked before every pass and after every step; a true answer saves the state, if there is one, and
            raises StopRequestedError.

    Raises:
        InputError: the pair, a name or a setting is not right, or the model is not one that can be adapted.
        LimitError: the pair and the range need more memory than is free.
        NonFiniteError: the network's own answer is not finite.
        CheckpointError: the state to resume belongs to another refinement, or one would be lost.
    """
    begun = time.monotonic()
    config = stereo_configured(recipe, steps=steps, prior=prior)
    pair = read_pair(left, right)
    keep_freed_memory()
    matcher, backend = adaptable(model, device)
    guidance = relighting_prior(prior, config, backend.device)
    _need_one_pass(matcher, max_disp)
    plain = matcher.predict(*pair, max_disp=max_disp, left_right=True)
    need_memory("the adaptation", _bytes_needed(pair, plain.max_disp))
    teacher = teach(matcher, *pair, plain, config, should_stop=should_stop)
    height, width = plain.disparity.shape

    def unpadded(values_BHW: Tensor) -> NDArray[np.float32]:
        return crop(values_BHW[0].cpu().numpy(), height, width)

    keeping = None
    if keep is not None:
        asked = stereo_request(pair, plain, config, guidance)
        keeping = Keeping(keep, asked, seconds=keep_seconds, resume=resume, overwrite=overwrite)
    run = StereoRefinement(
        backend.net,
        pair_tensors(pair, teacher, plain.max_disp, torch.device(backend.device)),
        config,
        guidance=guidance,
        keeping=keeping,
        on_map=None if on_map is None else lambda values: on_map(unpadded(values)),
    )
    outcome = run.run(on_step=on_step, should_stop=should_stop)
    start_HW, refined_HW = unpadded(outcome.start_BHW), unpadded(outcome.refined_BHW)
    return StereoRefineResult(
        before=with_disparity(plain, start_HW),
        after=with_disparity(plain, refined_HW),
        teacher=teacher,
        history=tuple(outcome.history),
        stopped=outcome.stopped,
        recipe=recipe if isinstance(recipe, str) else "",
        config=config,
        seconds=time.monotonic() - begun,
    )


def stereo_configured(
    recipe: str | StereoRefineConfig, *, steps: int | None = None, prior: str | Guidance | None = None
) -> StereoRefineConfig:
    """The recipe with what was given laid over it; see :func:`~.stereo_config.load_stereo_recipe` for the errors.

    With the prior ``"none"`` it does not re-light.
    """
    given = {"steps": steps, "relight": 0.0 if prior == NONE else None}
    return load_stereo_recipe(recipe, given) if isinstance(recipe, str) else stereo_changed(recipe, given)


def relighting_prior(prior: str | Guidance | None, config: StereoRefineConfig, device: str) -> Guidance | None:
    """The prior that the configuration asks for, None without re-lighting.

    Raises:
        InputError: a prior that nothing asks for, or one that reads; also what loading one raises.
    """
    if not config.relight:
        if prior is not None and prior != NONE:
            raise InputError("a prior was given, and the recipe does not re-light", hint="Set relight = 0.1 in it, say")
        return None
    shown = RefineConfig(unit="standard", camera="pinhole", shift=OFFSET, normals="surface")
    if prior is None or isinstance(prior, str):
        if needs_photo(prior, shown.guidance):
            raise InputError(f"{prior} cannot guide a stereo refinement", expected="a small prior, relight.*")
        return load_guidance(prior, shown, device=torch.device(device))
    return need_as_trained(prior, shown)


def adaptable(model: str | StereoMatcher | None, device: str = "auto") -> tuple[StereoModel, TorchBackend]:
    """The model on torch, and its backend.

    Raises:
        InputError: it is no network on torch in fp32; also what :func:`depthlight.load` raises.
    """
    if isinstance(model, str) and model in registry.CLASSICAL:
        raise InputError(f"{model} cannot be adapted to a pair", expected="a network, such as light")
    matcher = load(model, backend="torch", device=device) if model is None or isinstance(model, str) else model
    if isinstance(matcher, StereoModel) and isinstance(matcher.backend, TorchBackend):
        if matcher.backend.precision == "fp32":
            return matcher, matcher.backend
        raise InputError(f"{matcher.name} was loaded in {matcher.backend.precision}", expected="fp32")
    raise InputError(
        f"{matcher.name} cannot be adapted to a pair",
        expected="a network on torch",
        hint='Load it with backend="torch", or give its name',
    )


def _need_one_pass(matcher: StereoModel, max_disp: int | None) -> None:
    """Refuse a range that :mod:`depthlight.infer.search_range` searches in several passes: there is no one volume."""
    most = ONE_PASS * matcher.max_disp
    if max_disp is not None and max_disp > most:
        raise InputError(f"a range of {max_disp} px takes several passes", expected=f"at most {most} px to refine")


def pair_tensors(pair: Pair, teacher: Teacher, max_disp: int, device: torch.device) -> PairTensors:
    """Everything padded as the network wants it; in the padding nothing counts."""

    def image(view_HW3: NDArray[np.uint8]) -> Tensor:
        padded = pad_to_multiple(view_HW3).transpose(2, 0, 1)[None].astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(padded)).to(device)

    def plane(values_HW: NDArray[np.float32]) -> Tensor:
        height, width = values_HW.shape
        padded = np.pad(values_HW, ((0, up(height) - height), (0, up(width) - width)))
        return torch.from_numpy(padded[None]).to(device)

    return PairTensors(
        image(pair[0]),
        image(pair[1]),
        plane(teacher.disparity),
        plane(teacher.agreement),
        plane(teacher.visible),
        max_disp,
        (pair[0].shape[0], pair[0].shape[1]),
    )


def with_disparity(plain: StereoPrediction, disparity_HW: NDArray[np.float32]) -> StereoPrediction:
    """The prediction with another disparity, and what follows from it."""
    limit_HW = at_range_limit(disparity_HW, plain.max_disp)
    valid_HW = inside_right_view(disparity_HW) & ~limit_HW
    if plain.disparity_right is not None:
        valid_HW &= left_right_agree(disparity_HW, plain.disparity_right)
    return replace(plain, disparity=disparity_HW, valid=valid_HW, saturated=float(limit_HW.mean()))


def stereo_request(
    pair: Pair, plain: StereoPrediction, config: StereoRefineConfig, guidance: Guidance | None = None
) -> dict[str, Any]:
    """Everything a result depends on, as plain values."""
    pixels = hashlib.sha256(f"{pair[0].shape}".encode())
    for view_HW3 in pair:
        pixels.update(np.ascontiguousarray(view_HW3).tobytes())
    return {
        "pair": pixels.hexdigest(),
        **asdict(plain.model),
        "max_disp": plain.max_disp,
        "config": to_dict(config),
        **({} if guidance is None else {"prior": guidance.describe()}),
    }


def _bytes_needed(pair: Pair, max_disp: int) -> int:
    """About the peak of the optimisation: the network's own, and a dozen copies of the scores and of the weights."""
    pixels: int = pair[0].shape[0] * pair[0].shape[1]
    return pixels * (300 + 6 * max_disp + 12 * 4 * (max_disp // 4 + 144) // 16 + 12 * 40)
