"""The kinds of work that refine; their modules need torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

from ..core.config import to_dict
from ..infer.mono import load_mono
from ..io.images import read_image
from ..refine import files, stereo_files
from ..refine.api import configured, refine_photo
from ..refine.priors import shared_guidance
from ..refine.stereo_api import adaptable, refine_stereo, relighting_prior, stereo_configured
from .kinds import PHOTO, Kind, Opened, Paths, read_pair, torch_threads


@dataclass(frozen=True, kw_only=True)
class RefinePhoto(Kind):
    """Refined depth of photos, as ``depthlight refine PHOTO`` writes it."""

    model: str | None = None
    prior: str | None = None
    recipe: str = "fast"
    steps: int | None = None
    restarts: int | None = None
    seed: int | None = None
    prompt: str | None = None
    focal: float | None = None
    precision: str = "fp32"

    name: ClassVar = "refine"
    needs: ClassVar = PHOTO
    may: ClassVar = ()

    def open(self) -> Opened:
        torch_threads(self.threads)
        config = configured(self.recipe, steps=self.steps, restarts=self.restarts, seed=self.seed, prompt=self.prompt)
        model = load_mono(self.model, device=self.device)
        guidance = shared_guidance(self.prior, config, device=model.device, precision=self.precision)
        prior = self.prior if guidance is None else guidance

        def do(paths: Paths, folder: Path) -> str:
            photo_HW3 = read_image(paths["photo"])
            result = refine_photo(
                photo_HW3, model=model, prior=prior, recipe=config, focal=self.focal, precision=self.precision
            )
            files.save_refinement(folder, replace(result, recipe=self.recipe), photo_HW3)
            return _told(result.stopped)

        described = self.prior if guidance is None else guidance.describe()
        return Opened(asdict(model.identity) | {"prior": described, "config": to_dict(config)}, do)


@dataclass(frozen=True, kw_only=True)
class RefinePair(Kind):
    """Refined disparity of pairs, as ``depthlight refine LEFT RIGHT`` writes it."""

    model: str | None = None
    prior: str | None = None
    recipe: str = "fast"
    steps: int | None = None
    max_disp: int | None = None

    name: ClassVar = "refine"

    def open(self) -> Opened:
        torch_threads(self.threads)
        config = stereo_configured(self.recipe, steps=self.steps, prior=self.prior)
        matcher, backend = adaptable(self.model, self.device)
        matcher.check_range(self.max_disp)
        guidance = relighting_prior(self.prior, config, backend.device)

        def do(paths: Paths, folder: Path) -> str:
            left_HW3, right_HW3, rig = read_pair(paths)
            result = refine_stereo(
                left_HW3, right_HW3, model=matcher, prior=guidance, recipe=config, max_disp=self.max_disp
            )
            stereo_files.save_stereo_refinement(folder, replace(result, recipe=self.recipe), left_HW3, rig=rig)
            return _told(result.stopped)

        told = {} if guidance is None else {"prior": guidance.describe()}
        return Opened(asdict(matcher.identity) | {"config": to_dict(config), **told}, do)


def _told(stopped: str) -> str:
    return stopped and f"{stopped}. The last good result was kept; try fewer steps, another seed, or smaller rates"
