"""Test-time adaptation of a stereo network to one pair: a residual on its matching scores and its upsampling.

The network runs once, frozen and in evaluation mode (so BatchNorm is, too). What is optimised is added to the scores
over the disparity bins and to those of the convex upsampling, so that zero is the plain answer. The loss asks the
right view, warped by the disparity, to look like the left one where both see it; the disparity to bend only at the
photo's edges; and the answer to stay close to the middle of a few cheap passes where these agree.

Only re-lighting, which is off by default, draws random numbers, seeded ones: the same pair, configuration, device and
threads give the same bits, also after a kill and ``resume``. What is not finite ends a run; the last finite answer is
kept.

Shapes: B = 1 pair, C channels, D disparity bins, H × W padded size (multiples of the network's), h w = H/4 W/4.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..core.errors import InputError, NonFiniteError
from ..core.signals import StopRequestedError
from ..nets.losses import LossConfig, bin_cross_entropy, smooth_l1
from ..nets.ops import convex_upsample_quarter, local_soft_argmax
from ..nets.stereo.base import StereoNet
from ..nets.stereo.light import Light
from .guidance import Guidance
from .keeping import Keeping, NotFiniteTermError, Row, is_finite, need_finite, total
from .photometric import EdgeAwareSmoothness, matched_colours, photometric
from .stereo_config import StereoRefineConfig
from .stereo_relight import StereoRelighting

_SURE = 0.5  # weight above which the teacher also says which bin is right


@dataclass(frozen=True)
class PairTensors:
    """What a refinement works on, all padded, float32: RGB in 0..255, disparity in px, shares in 0..1.

    ``weight_BHW`` says how much the teacher counts, ``visible_BHW`` is 1 where both views see the point. Both are 0 in
    the padding. ``size`` is (height, width) without it.
    """

    left_B3HW: Tensor
    right_B3HW: Tensor
    teacher_BHW: Tensor
    weight_BHW: Tensor
    visible_BHW: Tensor
    max_disp: int
    size: tuple[int, int]


@dataclass
class StereoOutcome:
    """``start_BHW`` is the plain answer and ``refined_BHW`` the last good one, padded, px.

    ``stopped`` says what was not finite, or nothing.
    """

    start_BHW: Tensor
    refined_BHW: Tensor
    history: list[Row]
    stopped: str
    seconds: float


@dataclass
class _Progress:
    """How far a run is; part of every checkpoint."""

    step: int = 0
    history: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    last_good_BHW: Tensor | None = None


class AdaptedAnswer:
    """The network's answer for one pair with residuals on its late maps; all zero is the plain answer.

    Raises:
        InputError: the network is not one whose late layers are known here.
    """

    def __init__(self, net: StereoNet, pair: PairTensors, config: StereoRefineConfig) -> None:
        if not isinstance(net, Light):
            raise InputError(
                f"stereo refinement does not know the late layers of {net.family}", hint="Take a light.* model"
            )
        with torch.no_grad(), _evaluating(net):
            output = net.forward_train(pair.left_B3HW, pair.right_B3HW, pair.max_disp)
            self._logits_BDhw = output.logits_BDhw.float()
            self._upsample_BKhw = net.upsample(output.features[0]).float()
        shapes = {
            "logits": self._logits_BDhw,
            "upsample": self._upsample_BKhw,
            "disparity": pair.left_B3HW[:, :1],
        }
        self.groups = {name: nn.Parameter(torch.zeros_like(shapes[name])) for name in config.optimise}
        self.optimizer = torch.optim.Adam(
            [{"params": [group], "lr": getattr(config, f"lr_{name}")} for name, group in self.groups.items()]
        )

    def scores(self) -> Tensor:
        """Scores over the disparity bins, (1, D, h, w)."""
        return self._logits_BDhw + self.groups["logits"] if "logits" in self.groups else self._logits_BDhw

    def disparity(self, scores_BDhw: Tensor) -> Tensor:
        """The answer at full size, (1, H, W) px, >= 0."""
        weights_BKhw = self._upsample_BKhw
        if "upsample" in self.groups:
            weights_BKhw = weights_BKhw + self.groups["upsample"]
        full_B1HW = convex_upsample_quarter(local_soft_argmax(scores_BDhw)[0], weights_BKhw, 4)
        if "disparity" in self.groups:
            full_B1HW = (full_B1HW + self.groups["disparity"]).clamp(min=0)
        return full_B1HW[:, 0]


class StereoRefinement:
    """One pair and one network.

    Args:
        net: of the ``light`` family; its weights and its mode are the same afterwards.
        pair: what it works on.
        config: what to do.
        guidance: the re-lighting prior; not asked where ``config.relight`` is 0.
        keeping: where to keep the state; None keeps none.
        on_map: shown the disparity so far, (1, H, W) padded px, after every step.
    """

    def __init__(
        self,
        net: StereoNet,
        pair: PairTensors,
        config: StereoRefineConfig,
        *,
        guidance: Guidance | None = None,
        keeping: Keeping | None = None,
        on_map: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.pair, self.config, self.keeping, self._on_map = pair, config, keeping, on_map
        self.answer = AdaptedAnswer(net, pair, config)
        self.progress = _Progress()
        self._left_B3HW = pair.left_B3HW / 255
        visible_B1HW = pair.visible_BHW[:, None]
        self._right_B3HW = matched_colours(
            pair.right_B3HW / 255, self._left_B3HW, pair.teacher_BHW[:, None], visible_B1HW
        )
        self._smooth = EdgeAwareSmoothness(self._left_B3HW)
        self._bins = LossConfig(target="linear")
        self._guidance = guidance if config.relight else None
        self._relighting: StereoRelighting | None = None

    def run(
        self,
        *,
        on_step: Callable[[Row], None] | None = None,
        should_stop: Callable[[], object] | None = None,
    ) -> StereoOutcome:
        """Refine; to be called once.

        Raises:
            NonFiniteError: the network's own answer is not finite.
            StopRequestedError: ``should_stop`` said so; the state is saved.
            CheckpointError: a state to resume belongs to another request, or every one is damaged.
            OutputError: the state cannot be written; the one before it is intact.
        """
        with torch.no_grad():
            start_BHW = self._answer()
        if not is_finite(start_BHW):
            raise NonFiniteError("the stereo network's answer for this pair is not finite", hint="Try another --model")
        if self._guidance is not None:
            left_B3HW, plain_BHW = self._unpadded(self._left_B3HW), self._unpadded(start_BHW)
            self._relighting = StereoRelighting(
                self._guidance, left_B3HW, plain_BHW, lights=self.config.lights, seed=self.config.seed
            )
        stopped = ""
        self.progress.last_good_BHW = start_BHW
        self._resume()
        saved = begun = time.monotonic()
        before = self.progress.seconds
        try:
            while self.progress.step < self.config.steps:
                row = self._step()
                self.progress.history.append(row)
                self.progress.step += 1
                self.progress.seconds = before + time.monotonic() - begun
                if on_step is not None:
                    on_step(row)
                if self._on_map is not None and self.progress.last_good_BHW is not None:
                    self._on_map(self.progress.last_good_BHW)
                stop = bool(should_stop and should_stop())
                if self.keeping is not None and (stop or time.monotonic() - saved >= self.keeping.seconds):
                    self._save(self.keeping)
                    saved = time.monotonic()
                if stop:
                    raise StopRequestedError
            with torch.no_grad():
                self.progress.last_good_BHW = need_finite(self._answer(), "the refined disparity")
        except NotFiniteTermError as problem:
            stopped = f"{problem.term} is not finite at step {min(self.progress.step + 1, self.config.steps)}"
        assert self.progress.last_good_BHW is not None
        return StereoOutcome(
            start_BHW, self.progress.last_good_BHW, self.progress.history, stopped, self.progress.seconds
        )

    def _unpadded(self, values: Tensor) -> Tensor:
        height, width = self.pair.size
        return values[..., :height, :width]

    def _answer(self) -> Tensor:
        return self.answer.disparity(self.answer.scores())

    def _step(self) -> Row:
        """One update. Nothing is updated unless everything is finite."""
        self.answer.optimizer.zero_grad(set_to_none=True)
        scores_BDhw = self.answer.scores()
        disparity_BHW = self.answer.disparity(scores_BDhw)
        self.progress.last_good_BHW = need_finite(disparity_BHW, "the disparity")
        row: Row = {"step": self.progress.step + 1}
        terms = self.terms(scores_BDhw, disparity_BHW)
        if terms:
            total(terms, row).backward()  # type: ignore[no-untyped-call]
            for name, group in self.answer.groups.items():
                if group.grad is not None:
                    need_finite(group.grad, f"the gradient of the {name}")
            self.answer.optimizer.step()
        return row

    def terms(self, scores_BDhw: Tensor, disparity_BHW: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the loss; scalars. A term of weight 0 is not computed."""
        pair, config = self.pair, self.config
        found: dict[str, Tensor] = {}
        if config.photometric:
            unlike = photometric(self._left_B3HW, self._right_B3HW, disparity_BHW[:, None], pair.visible_BHW[:, None])
            found["photometric"] = config.photometric * unlike
        if config.smoothness:
            found["smoothness"] = config.smoothness * self._smooth(disparity_BHW[:, None])
        if config.closeness:
            close = smooth_l1(disparity_BHW, pair.teacher_BHW, pair.weight_BHW)
            if "logits" in self.answer.groups:  # what moves a score from a wrong bin to a far one
                close = close + bin_cross_entropy(scores_BDhw, pair.teacher_BHW, pair.weight_BHW > _SURE, self._bins)
            found["closeness"] = config.closeness * close.mean()
        if self._relighting is not None:
            at = self.progress.step / max(config.steps - 1, 1)
            found["relight"] = config.relight * self._relighting.loss(self._unpadded(disparity_BHW), progress=at)
        return found

    # -------------------------------------------------------------------------------------------- state

    def _save(self, keeping: Keeping) -> None:
        keeping.save(
            self.progress.step,
            progress={**vars(self.progress)},
            values={name: group.detach().clone() for name, group in self.answer.groups.items()},
            optimizer=self.answer.optimizer.state_dict(),
            **({} if self._relighting is None else {"generator": self._relighting.generator.get_state()}),
        )

    @torch.no_grad()
    def _resume(self) -> None:
        """Take up the newest state, if that was asked for."""
        state = self.keeping.load() if self.keeping is not None else None
        if state is None:
            return
        self.progress = found = _Progress(**state["progress"])
        if found.last_good_BHW is not None:
            found.last_good_BHW = found.last_good_BHW.to(self.pair.left_B3HW)
        for name, group in self.answer.groups.items():
            group.copy_(state["values"][name])
        self.answer.optimizer.load_state_dict(state["optimizer"])
        if self._relighting is not None:
            self._relighting.generator.set_state(state["generator"])


class _evaluating:  # noqa: N801 - a context manager
    """The network in evaluation mode, and given back as it was."""

    def __init__(self, net: nn.Module) -> None:
        self._modes = {module: module.training for module in net.modules()}
        self._net = net

    def __enter__(self) -> None:
        self._net.eval()

    def __exit__(self, *problem: object) -> None:
        for module, mode in self._modes.items():
            module.training = mode
