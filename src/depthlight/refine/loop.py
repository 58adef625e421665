"""The optimisation: encode once, then render, score and update; restarts, and the mean of their answers.

A run depends on nothing but the photo, the network, the prior, the configuration and its seed: one that was killed and
resumed gives the same bits on the same device and number of threads. What is not finite, or has left all bounds, ends
it at once; the last good map is kept and nothing is ever replaced by zeros.

Shapes: B = 1 photo, L lights, h × w working size, 3 sRGB channels or axes. Raw maps are relative inverse depth, >= 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import InputError, NonFiniteError
from ..core.signals import StopRequestedError
from ..geometry.normals import short_side_unit
from ..io import checkpoint
from ..nets.mono.base import MonoNet
from . import render
from .config import RefineConfig
from .guidance import Guidance, Scene
from .keeping import Keeping, NotFiniteTermError, Row, is_finite, need_finite, total
from .patches import standard_raw
from .variables import Variables, borrowed_head, give_back

_RESTART_STRIDE = 1_000_003  # apart enough that the restarts of neighbouring seeds share no stream
DIVERGED = 100.0  # times the largest value of the first map: no refinement, whatever it found


@dataclass(frozen=True)
class Stopped:
    """Where a run ended before its time: the problem, in which restart and step (counted from 1)."""

    restart: int
    step: int
    problem: str

    def __str__(self) -> str:
        return f"{self.problem} at step {self.step} of restart {self.restart}"


class _DivergedError(Exception):
    """The map has left all bounds."""


@dataclass
class Outcome:
    """What a run leaves. ``refined_B1hw`` is the mean of ``runs``; all maps at working size; an offset per run."""

    start_B1hw: Tensor
    refined_B1hw: Tensor
    runs: list[Tensor]
    offsets: list[float]
    history: list[Row]
    stopped: Stopped | None = None
    seconds: float = 0.0


@dataclass
class Progress:
    """How far a run is; part of every checkpoint."""

    restart: int = 0
    step: int = 0  # done in this restart
    runs: list[Tensor] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)
    history: list[Row] = field(default_factory=list)
    last_good_B1hw: Tensor | None = None
    seconds: float = 0.0


class Refinement:
    """One photo, one network, one prior.

    Args:
        net: gives relative inverse depth and can be split; its weights are the same afterwards.
        photo_B3hw: (1, 3, h, w) sRGB in 0..1 at working size, sides multiples of the network's.
        config: what to do.
        guidance: the prior, or None for smoothness alone. Not asked where ``config.guidance.weight`` is 0.
        sides: height and width of the photo before it came to working size, where rounding has changed their ratio.
        anchors: of the first raw map, (h, w), the change that measured depth wants of it and the weight of each pixel,
            (h, w); None without measurements.
        keeping: where to keep the state; None keeps none.
        on_map: shown the raw map so far, (1, 1, h, w), after every step.

    Raises:
        InputError: the photo's shape does not fit.
    """

    def __init__(
        self,
        net: MonoNet,
        photo_B3hw: Tensor,
        config: RefineConfig,
        guidance: Guidance | None = None,
        *,
        sides: tuple[int, int] | None = None,
        anchors: Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]] | None = None,
        keeping: Keeping | None = None,
        on_map: Callable[[Tensor], None] | None = None,
    ) -> None:
        net.check_input(photo_B3hw)
        if photo_B3hw.shape[0] != 1:
            raise InputError(f"{photo_B3hw.shape[0]} photos to refine at once", expected="one")
        self.net, self.photo_B3hw, self.config, self.keeping = net, photo_B3hw, config, keeping
        self._sides = sides or self._size()
        self._anchors = anchors
        self._goal: tuple[Tensor, Tensor] | None = None
        self.guidance = guidance if config.guidance.weight else None
        self.progress = Progress()
        self.generator = torch.Generator()
        self.unit = 1.0
        self._largest = float("inf")  # that a raw map may hold
        self._saved = 0.0  # when, on the monotonic clock
        self._on_map = on_map

    # -------------------------------------------------------------------------------------------- the run

    def run(
        self,
        *,
        on_step: Callable[[Row], None] | None = None,
        should_stop: Callable[[], object] | None = None,
    ) -> Outcome:
        """Refine; to be called once.

        Args:
            on_step: told every step's losses.
            should_stop: asked after every step; a true answer saves the state and ends the run.

        Raises:
            NonFiniteError: the network's own answer is not finite, so there is nothing to keep.
            StopRequestedError: ``should_stop`` said so.
            CheckpointError: a state to resume belongs to another request, every one is damaged, or one would be lost.
            OutputError: the state cannot be written; the one before it is intact.
        """
        with borrowed_head(self.net, trained="head" in self.config.optimise) as head:
            with torch.no_grad():
                tokens = [token.detach() for token in self.net.encode(self.photo_B3hw)]
                start_B1hw = self.net.decode(tokens, self._size()).detach()
            self._settle_unit(start_B1hw)
            self._settle_goal(start_B1hw)
            state = self._resumed()
            self._saved = time.monotonic()
            stopped = None
            while stopped is None and self.progress.restart < self.config.restarts:
                give_back(self.net, head)
                variables = Variables(self.net, tokens, start_B1hw, self.config)
                self._begin(variables, start_B1hw, state)
                state = None
                stopped = self._restart(variables, on_step, should_stop)
        progress, runs = self.progress, self.progress.runs
        if not runs and progress.last_good_B1hw is not None:
            runs = [progress.last_good_B1hw]
        refined_B1hw = torch.stack(runs).mean(0)
        return Outcome(start_B1hw, refined_B1hw, runs, progress.offsets, progress.history, stopped, progress.seconds)

    def _size(self) -> tuple[int, int]:
        return self.photo_B3hw.shape[-2], self.photo_B3hw.shape[-1]

    def _settle_unit(self, start_B1hw: Tensor) -> None:
        """The raw value that enters the pseudo depth as 1, and the largest that a refined map may hold."""
        if not is_finite(start_B1hw):
            raise NonFiniteError("the depth network's answer for this photo is not finite", hint="Try another --model")
        self._largest = DIVERGED * float(start_B1hw.max().clamp(min=1e-9))
        if self.config.unit == "standard":
            self.unit = float(start_B1hw.max() / standard_raw(start_B1hw).max())

    def _settle_goal(self, start_B1hw: Tensor) -> None:
        """Where measured depth wants the raw map, with its weights; the whole is a share of the map's range."""
        if self._anchors is None or not self.config.anchored:
            return
        change_hw, weight_hw = (torch.from_numpy(values) for values in self._anchors(start_B1hw[0, 0].cpu().numpy()))
        low, high = start_B1hw.aminmax()
        weight_B1hw = (weight_hw / weight_hw.sum().clamp(min=1e-9)).to(start_B1hw) / (high - low).clamp(min=1e-9)
        self._goal = start_B1hw + change_hw.to(start_B1hw), weight_B1hw

    def _begin(self, variables: Variables, start_B1hw: Tensor, state: checkpoint.State | None) -> None:
        """Random numbers and variables of this restart: fresh, or as the state has them."""
        if state is None:
            self.generator.manual_seed(self.config.seed * _RESTART_STRIDE + self.progress.restart)
            self.progress.last_good_B1hw = start_B1hw
        else:
            self.generator.set_state(state["generator"])
            variables.load(state["variables"])

    def _restart(
        self,
        variables: Variables,
        on_step: Callable[[Row], None] | None,
        should_stop: Callable[[], object] | None,
    ) -> Stopped | None:
        """Steps to the end of this restart; its answer joins ``runs``."""
        progress, begun = self.progress, time.monotonic()
        try:
            while progress.step < self.config.steps:
                row = self._step(variables)
                progress.history.append(row)
                progress.step += 1
                now = time.monotonic()
                progress.seconds, begun = progress.seconds + now - begun, now
                if on_step is not None:
                    on_step(row)
                if self._on_map is not None and progress.last_good_B1hw is not None:
                    self._on_map(progress.last_good_B1hw)
                stop = bool(should_stop and should_stop())
                if self.keeping is not None and (stop or now - self._saved >= self.keeping.seconds):
                    self._save(variables)
                    self._saved = time.monotonic()
                if stop:
                    raise StopRequestedError
            with torch.no_grad():
                self._keep(variables.raw(), "the refined map")
        except (NotFiniteTermError, _DivergedError) as error:
            found = f"{error} is not finite" if isinstance(error, NotFiniteTermError) else str(error)
            return Stopped(progress.restart + 1, min(progress.step + 1, self.config.steps), found)
        if progress.last_good_B1hw is not None:
            progress.runs.append(progress.last_good_B1hw)
            progress.offsets.append(float(variables.offset.detach()))
        progress.restart, progress.step, progress.last_good_B1hw = progress.restart + 1, 0, None
        return None

    # -------------------------------------------------------------------------------------------- one step

    def _step(self, variables: Variables) -> Row:
        """Render, score, update. Nothing is updated unless everything is finite."""
        variables.optimizer.zero_grad(set_to_none=True)
        raw_B1hw = variables.raw()
        self._keep(raw_B1hw, "the raw map")
        terms = self._terms(raw_B1hw, variables.offset)
        row: Row = {"restart": self.progress.restart + 1, "step": self.progress.step + 1}
        if terms:
            total(terms, row).backward()  # type: ignore[no-untyped-call]
            self._check_gradients(variables)
            self._note_level(row)
        variables.step()
        return row

    def _note_level(self, row: Row) -> None:
        """Where the noise level follows the run: the level ``t``, and the guidance without the level's weight."""
        level = self.guidance.level(self._at()) if self.guidance is not None else None
        if level is not None and level[1] > 0:
            row["t"], row["guidance_raw"] = level[0], row["guidance"] / level[1]

    def _at(self) -> float:
        """Progress of this restart, 0..1."""
        return self.progress.step / max(self.config.steps - 1, 1)

    def _keep(self, raw_B1hw: Tensor, name: str) -> None:
        raw_B1hw = need_finite(raw_B1hw, name)
        if float(raw_B1hw.max()) > self._largest:
            raise _DivergedError(f"{name} is more than {DIVERGED:g} times the first one")
        self.progress.last_good_B1hw = raw_B1hw

    def _check_gradients(self, variables: Variables) -> None:
        for name, group in variables.groups.items():
            for tensor in group:
                if tensor.grad is not None:
                    need_finite(tensor.grad, f"the gradient of the {name}")

    def _terms(self, raw_B1hw: Tensor, offset: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, weighted; scalars."""
        terms: dict[str, Tensor] = {}
        if self.guidance is not None:
            scene = self._scene(raw_B1hw, offset)
            loss = self.guidance.loss(scene, progress=self._at(), generator=self.generator)
            terms["guidance"] = self.config.guidance.weight * loss
        if self.config.smoothness:
            terms["smoothness"] = self.config.smoothness * render.smoothness(raw_B1hw)
        if self._goal is not None:
            goal_B1hw, weight_B1hw = self._goal
            terms["anchored"] = self.config.anchored * (weight_B1hw * (raw_B1hw - goal_B1hw).abs()).sum()
        return terms

    def _scene(self, raw_B1hw: Tensor, offset: Tensor) -> Scene:
        """The photo under a fresh draw of lights."""
        photo_B3hw, lights = self.photo_B3hw, self.config.lights
        size = fitted_size(*self._size(), max(self._size()), shortest=self.config.render)
        if size != self._size():
            raw_B1hw, photo_B3hw = (_smaller(values, size) for values in (raw_B1hw, photo_B3hw))
        lighting = render.Lighting.sample(lights, self.generator).to(raw_B1hw)
        if self.config.scored == "depth":
            relit_BL3hw = _as_picture(raw_B1hw)[:, None].expand(-1, lights, 3, -1, -1)
        else:
            relit_BL3hw = render.relight(photo_B3hw, self.normals(raw_B1hw, offset), lighting)
        return Scene(photo_B3hw, relit_BL3hw, lighting)

    def normals(self, raw_B1hw: Tensor, offset: Tensor | float = 0.0) -> Tensor:
        """Unit normals (1, 3, h, w) of a raw map, by the configuration's camera, unit and convention."""
        config = self.config
        z_B1hw = render.pseudo_depth(raw_B1hw / self.unit, offset, scale=config.scale, shift=config.shift)
        height, width = z_B1hw.shape[-2:]
        if config.camera == "orthographic":
            if config.unit == "standard":
                z_B1hw = z_B1hw * short_side_unit(height, width)
            return render.normals_orthographic(z_B1hw, convention=config.normals)
        focal = config.focal * max(self._sides)
        fx, fy = focal * width / self._sides[1], focal * height / self._sides[0]
        return render.normals_pinhole(z_B1hw, fx, fy, (width - 1) / 2, (height - 1) / 2, convention=config.normals)

    # -------------------------------------------------------------------------------------------- state

    def _save(self, variables: Variables) -> None:
        if self.keeping is not None:
            self.keeping.save(
                self.progress.restart * self.config.steps + self.progress.step,
                progress={**vars(self.progress)},
                generator=self.generator.get_state(),
                variables=variables.state(),
            )

    def _resumed(self) -> checkpoint.State | None:
        """The state to go on from; None begins anew."""
        state = self.keeping.load() if self.keeping is not None else None
        if state is not None:
            self.progress = found = Progress(**state["progress"])
            found.runs = [run.to(self.photo_B3hw) for run in found.runs]
            if found.last_good_B1hw is not None:
                found.last_good_B1hw = found.last_good_B1hw.to(self.photo_B3hw)
        return state


def fitted_size(height: int, width: int, longest: int, multiple: int = 1, *, shortest: int = 0) -> tuple[int, int]:
    """(h, w) at which the network works: sides in multiples of ``multiple``, at least one.

    The photo is shrunk, never enlarged, until its longer side is at most ``longest``, and further until its shorter
    side is ``shortest`` (0: no further). Then each side is rounded to the nearest multiple, down where it would pass
    ``longest``.
    """
    scale = min(1.0, longest / max(height, width))
    if shortest:
        scale = min(scale, shortest / min(height, width))
    sides = []
    for side in (height, width):
        rounded = max(1, round(side * scale / multiple)) * multiple
        while rounded > max(longest, multiple):
            rounded -= multiple
        sides.append(rounded)
    return sides[0], sides[1]


def _smaller(values_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values_BCHW, size=size, mode="area")


def _as_picture(raw_B1hw: Tensor) -> Tensor:
    """The map scaled to 0..1 by its own range, gray, (1, 3, h, w)."""
    low, high = raw_B1hw.detach().aminmax()
    return ((raw_B1hw - low) / (high - low).clamp(min=1e-8)).expand(-1, 3, -1, -1)
