"""From the name of a prior to a guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.errors import ConfigError, InputError
from ..core.registry import DEFAULT_PRIOR, PRIOR_FAMILIES
from .config import GuidanceConfig, RefineConfig
from .guidance import Guidance
from .patches import OFFSET

NONE = "none"


def load_guidance(
    name: str | None,
    config: RefineConfig,
    *,
    device: torch.device,
    precision: str = "fp32",
    photo_HW3: NDArray[np.uint8] | None = None,
) -> Guidance | None:
    """The prior called ``name``; None for ``"none"``.

    Args:
        name: None or ``relight`` (the default), ``relight.*`` or a ``.safetensors`` file (small priors of ours),
            ``none``, or anything a Stable Diffusion can be had by: ``sd-1.5``, a hub id, a folder.
        config: what it is to guide; ``guidance`` has its settings.
        device: where it runs.
        precision: fp32, or bf16 and fp16 for diffusion priors.
        photo_HW3: the photo, RGB, for priors that make their prompt from it.

    Raises:
        InputError: a prompt or a precision for a prior that takes none.
        ConfigError: a small prior would be shown other pictures than it was trained on.
    """
    name = DEFAULT_PRIOR if name is None or name == DEFAULT_PRIOR.partition(".")[0] else name
    if name == NONE:
        return None
    if _is_ours(name):
        if config.guidance.prompt:
            raise InputError(f"{name} takes no prompt", hint="Leave out --prompt, or take --prior sd-1.5")
        if precision != "fp32":
            raise InputError(f"{name} runs in fp32", expected="--precision fp32")
        from . import guidance_small

        return need_as_trained(guidance_small.load_guidance(name, config.guidance, device=device), config)
    from . import guidance_diffusion

    return guidance_diffusion.load_guidance(
        name, config.guidance, device=device, precision=precision, photo_HW3=photo_HW3
    )


def shared_guidance(
    name: str | None, config: RefineConfig, *, device: torch.device, precision: str = "fp32"
) -> Guidance | None:
    """The prior for many photos; None where there is none, and where each photo has to get its own.

    Raises:
        InputError, ConfigError, CheckpointError: as of :func:`load_guidance`; also where each photo gets its own.
    """
    if not config.guidance.weight:
        return None
    if needs_photo(name, config.guidance):
        from ..nets.prior.stable_diffusion import find_stable_diffusion

        find_stable_diffusion(str(name), device=device, precision=precision)
        return None
    return load_guidance(name, config, device=device, precision=precision)


def need_as_trained(guidance: Guidance, config: RefineConfig) -> Guidance:
    """The guidance again, after refusing a small prior that ``config`` would show what it has never seen.

    They have seen what a pinhole sees and answers of networks with one offset, and those that know the light also know
    bumps from dents.

    Raises:
        ConfigError: says which settings it needs.
    """
    from .guidance_small import RelightGuidance

    if isinstance(guidance, RelightGuidance):
        needs: dict[str, Any] = {"unit": "standard", "camera": "pinhole", "shift": OFFSET}
        if guidance.net.conditional:
            needs["normals"] = "surface"
        wrong = [name for name, value in needs.items() if getattr(config, name) != value]
        if wrong:
            given = ", ".join(f"{name} = {getattr(config, name)!r}" for name in wrong)
            raise ConfigError(
                f"{guidance.name} was not trained for {given}",
                expected=", ".join(f"{name} = {needs[name]!r}" for name in wrong),
                hint="Take the recipe fast, set it in yours, or choose another prior",
            )
    return guidance


def needs_photo(name: str | None, config: GuidanceConfig) -> bool:
    """Whether the guidance has to be made for each photo: a prior that reads, and no prompt to give it."""
    return config.prompt is None and name not in (None, NONE) and not _is_ours(str(name))


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in PRIOR_FAMILIES or Path(name).suffix == ".safetensors"
