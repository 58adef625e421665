"""Stage 2: self-distillation. A fixed copy of the start sees the clean views, the student strongly perturbed ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from ..core.errors import InputError
from ..data.loader import Batch
from ..nets.losses import LossConfig, disparity_terms, feature_cosine, supervised_terms
from ..nets.stereo.base import StereoNet
from .stage1 import end_point_error, usable
from .task import StageOutput


class SelfDistillation:
    """LAS1's stage 2: smooth-L1 to the teacher's disparity and 1 - cosine of the left features.

    The two see one crop: the teacher as it is, the student after everything in ``augment`` and the strong jitter.

    With ``config.truth`` > 0 the supervised loss on the exact truth is added: on synthetic data it is free, and a small
    teacher is not always right.
    """

    def __init__(
        self, teacher: StereoNet, config: LossConfig, autocast: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self.teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
        self.config = config
        self.autocast = autocast

    def __call__(self, net: StereoNet, batch: Batch) -> StageOutput:
        if batch.student_left_B3HW is None or batch.student_right_B3HW is None:
            raise InputError("stage 2 got a batch without perturbed views")
        with self.autocast(), torch.no_grad():
            clean = self.teacher.forward_train(batch.left_B3HW.float(), batch.right_B3HW.float())
        with self.autocast():
            output = net.forward_train(batch.student_left_B3HW.float(), batch.student_right_B3HW.float())
        target = clean.disparities[0][:, 0].float().detach()
        mask = usable(batch, net.max_disp)
        terms = disparity_terms(output.disparities, target, torch.ones_like(mask), self.config)
        if self.config.feature:
            student = [feature.float() for feature in output.features]
            terms["feature"] = self.config.feature * feature_cosine(student, [f.float() for f in clean.features])
        if self.config.truth:
            for name, value in supervised_terms(output, batch.disp_BHW, mask, self.config).items():
                terms[f"truth_{name}"] = self.config.truth * value
        return StageOutput(terms, end_point_error(output.disparities[0], batch.disp_BHW, mask))
