"""The evidence of docs/refinement.md: refinement and its ablations on scenes with exact depth, clean and damaged.

Usage: refine_evidence.py --scenes DIR --out DIR [--list FILE] [--damage] [--rows NAME,NAME] [--recipe fast]
                          [--model NAME] [--prior NAME] [--plain-prior NAME] (run | table)

DIR of --scenes holds scene folders (image + depth, or left view + disparity). With --damage the first 24 of every 64
images of DIR stay clean and 8 each are darkened, noisy, foggy, blurred and JPEG-damaged, the same at every call and
whatever --list takes of them. ``run``
writes one JSON file per image and row, and when called again does only what is missing; ``table`` prints Markdown.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from depthlight.core.config import to_dict
from depthlight.core.errors import DepthlightError
from depthlight.eval.mono_metrics import fit_scale_shift
from depthlight.eval.mono_protocol import MonoProtocol
from depthlight.eval.mono_runner import measure_depth
from depthlight.eval.mono_scenes import DepthScene, DepthScenes
from depthlight.infer.mono import MonoModel, MonoPrediction
from depthlight.io.atomic import atomic_write_bytes
from depthlight.nets.mono.base import MonoNet, TokenMaps
from depthlight.refine.api import refine
from depthlight.refine.config import RefineConfig, changed, load_recipe
from depthlight.refine.guidance import Guidance
from depthlight.refine.upsample import brightness

Image = NDArray[np.uint8]

# ------------------------------------------------------------------------------------------------ damage

DAMAGES = ("darkened", "noisy", "foggy", "blurred", "jpeg")
SHARES = (("clean", 24), *((name, 8) for name in DAMAGES))  # of every 64 images


def damage_of(index: int) -> str:
    """What happens to the image of this position."""
    place = index % sum(count for _, count in SHARES)
    for name, count in SHARES:
        if place < count:
            return name
        place -= count
    raise AssertionError("the shares cover every place")


def damages(scenes: DepthScenes) -> dict[str, str]:
    """What happens to each scene of a whole set, by its name."""
    return {scenes.sample_name(index): damage_of(index) for index in range(len(scenes))}


def damaged(scene: DepthScene, kind: str) -> Image:
    """The scene's image after one kind of damage; the same for the same name and kind."""
    rng = np.random.default_rng(zlib.crc32(f"{scene.name}/{kind}".encode()))
    image = scene.image_HW3.astype(np.float32)
    if kind == "clean":
        return scene.image_HW3
    if kind == "darkened":  # fewer photons: less light, and its noise
        light = (image / 255) ** 2.2 * rng.uniform(0.04, 0.12)
        light += rng.normal(0, 1, image.shape) * np.sqrt(light * 1e-3 + 1e-6)
        image = 255 * np.clip(light, 0, 1) ** (1 / 2.2)
    elif kind == "noisy":
        image += rng.normal(0, rng.uniform(18, 32), image.shape)
    elif kind == "foggy":  # Koschmieder: t = exp(-beta z), half gone at 0.7 to 1.5 of the median depth
        known = scene.depth_HW > 0
        middle = float(np.median(scene.depth_HW[known]))
        depth = np.where(known, scene.depth_HW, scene.depth_HW.max()) / middle
        clear = np.exp(-math.log(2) / rng.uniform(0.7, 1.5) * depth)[..., None]
        image = image * clear + rng.uniform(190, 230) * (1 - clear)
    elif kind == "blurred":
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(1.5, 3.0))
    elif kind == "jpeg":
        quality = int(rng.integers(6, 14))
        _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
    return np.uint8(np.clip(np.rint(image), 0, 255))


# ------------------------------------------------------------------------------------------------ rows


@dataclass(frozen=True)
class Row:
    """A row of the table. ``how``: ``refine`` with ``changes`` to the recipe, or something to compare with."""

    question: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    prior: str = "prior"  # or "plain" (the unconditional one) or "none"
    how: str = "refine"


ROWS: dict[str, Row] = {
    "start": Row("the network's plain answer", how="start"),
    "refined": Row("the recipe as it is"),
    "smoothness": Row("no guidance: smoothness alone", prior="none"),
    "no-smoothness": Row("no smoothness", {"smoothness": 0.0}),
    "unlit": Row("guidance without re-lighting: the prior sees the depth map", {"scored": "depth"}),
    "depth-direct": Row("the depth map optimised directly", {"optimise": ["depth"], "lr_depth": 2e-3}),
    "head": Row("head only", {"optimise": ["head"], "lr_head": 1e-4}),
    "head-paper-rate": Row("head only, at the paper's rate", {"optimise": ["head"], "lr_head": 2e-6}),
    "tokens-head": Row(
        "tokens and head (the recipe moves tokens alone)", {"optimise": ["tokens", "head"], "lr_head": 1e-4}
    ),
    "plain-prior": Row("the unconditional prior", prior="plain"),
    "restarts-3": Row("mean of 3 restarts", {"restarts": 3}),
    "restarts-10": Row("mean of 10 restarts", {"restarts": 10}),
    "inverted-start": Row("plain answer with the sign of its relief turned", how="inverted-start"),
    "inverted": Row("refined from there: can it tell bumps from dents?", how="inverted"),
    "guided-filter": Row("a guided filter on the plain answer", how="filter"),
    "averaged": Row("mean of as many passes (flip, sizes) as take the time of `refined`", how="averaged"),
}


@dataclass(frozen=True)
class Study:
    """What is compared, and on what."""

    scenes: DepthScenes
    out: Path
    model: MonoModel
    config: RefineConfig
    priors: Mapping[str, Guidance | None]  # "prior", "plain" where there is one
    damage: Mapping[str, str] = field(default_factory=dict)  # kinds by scene; the others are clean

    def kind(self, index: int) -> str:
        """What happens to the image of this scene."""
        return self.damage.get(self.scenes.sample_name(index), "clean")

    def request(self, name: str, index: int) -> dict[str, Any]:
        """What a row's answers depend on: those of another request are computed again."""
        row = ROWS[name]
        prior = self.priors.get(row.prior)
        facts = {
            "row": [row.how, row.prior, to_dict(changed(self.config, row.changes))],
            "model": [self.model.identity.name, self.model.identity.weights_sha256, self.model.working],
            "prior": prior.describe() if prior is not None else None,
            "damage": self.kind(index),
        }
        return dict(json.loads(json.dumps(facts)))

    def file(self, name: str, index: int) -> Path:
        return self.out / name / f"{self.scenes.sample_name(index)}.json"

    def read(self, name: str, index: int) -> dict[str, Any] | None:
        """The figures of one image and row, if they are there and of this request."""
        try:
            found = json.loads(self.file(name, index).read_text())
        except (OSError, ValueError):
            return None
        return dict(found) if found.get("request") == self.request(name, index) else None

    def run(self, names: Sequence[str], *, say: Callable[[str], None] = print) -> None:
        """Compute what is missing, image by image so that every row has the same images early."""
        for index in range(len(self.scenes)):
            todo = [name for name in names if self.read(name, index) is None and self.possible(name)]
            if not todo:
                continue
            scene = self.scenes[index]
            kind = self.kind(index)
            image = damaged(scene, kind)
            for name in todo:
                answer = self.answer(name, image, (self.read("refined", index) or {}).get("seconds", 0.0))
                figures = {
                    how: measure_depth(answer, scene, MonoProtocol(alignment=how)).figures()
                    for how in ("affine", "paper")
                }
                facts = {
                    "request": self.request(name, index),
                    "damage": kind,
                    "seconds": answer.seconds,
                    **figures["affine"],
                }
                facts["abs_rel_paper"] = figures["paper"]["abs_rel"]
                atomic_write_bytes(self.file(name, index), json.dumps(facts).encode())
                say(f"{index + 1}/{len(self.scenes)} {scene.name} {kind} {name}: normals {facts['normal_mean']}")

    def possible(self, name: str) -> bool:
        """Whether the prior of this row is there."""
        return ROWS[name].how != "refine" or ROWS[name].prior == "none" or ROWS[name].prior in self.priors

    def answer(self, name: str, image: Image, budget: float = 0.0) -> MonoPrediction:
        """The row's depth of an image; ``seconds`` is the time of all of it. ``budget`` is what the refinement took."""
        row = ROWS[name]
        plain = self.model.predict(image)
        if row.how == "start":
            return plain
        if row.how == "filter":
            started = time.perf_counter()
            values = filtered(plain.values, image)
            return replace(plain, values=values, seconds=plain.seconds + time.perf_counter() - started)
        if row.how == "averaged":
            return averaged(self.model, image, budget)
        model = self.model if row.how == "refine" else inverted(self.model)
        if row.how == "inverted-start":
            return model.predict(image)
        config = changed(self.config, row.changes)
        guidance = self.priors.get(row.prior)
        started = time.perf_counter()
        result = refine(image, model=model, prior="none" if guidance is None else guidance, recipe=config)
        return replace(plain, values=result.after, seconds=time.perf_counter() - started)


# ------------------------------------------------------------------------------------------------ compared with


def filtered(values_HW: NDArray[np.float32], image: Image, share: float = 0.02, contrast: float = 0.05) -> Any:
    """A guided filter (He et al., 2010), radius a share of the longer side, ``contrast`` of the guide in 0..1."""
    side = 2 * max(1, round(share * max(values_HW.shape))) + 1

    def mean(map_HW: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(map_HW, (side, side), borderType=cv2.BORDER_REFLECT))

    guide = brightness(image)
    slope = (mean(guide * values_HW) - mean(guide) * mean(values_HW)) / (
        mean(guide**2) - mean(guide) ** 2 + contrast**2
    )
    rest = mean(values_HW) - slope * mean(guide)
    return np.maximum(mean(slope) * guide + mean(rest), 0)


SIZES = (1.0, 0.75, 1.25, 0.875, 1.125, 0.625, 1.375, 0.5, 1.5)  # shares of the working size


def averaged(model: MonoModel, image: Image, budget: float) -> MonoPrediction:
    """The mean over the image and its mirror image at many sizes, each fitted to the first.

    There are at least two passes, and more until the next would take longer than ``budget`` seconds in all.
    """
    first = model.predict(image)
    total, seconds, count = np.zeros_like(first.values, np.float64), 0.0, 0
    for share, turned in itertools.product(SIZES, (False, True)):
        sized = copy.copy(model)
        sized.working = round(share * model.working)
        answer = sized.predict(np.ascontiguousarray(image[:, ::-1]) if turned else image)
        values = answer.values[:, ::-1] if turned else answer.values
        scale, shift = fit_scale_shift(values.ravel(), first.values.ravel())
        total += scale * values + shift
        seconds, count = seconds + answer.seconds, count + 1
        if count >= 2 and seconds + answer.seconds > budget:
            break
    return replace(first, values=np.maximum(total / count, 0).astype(np.float32), seconds=seconds)


class Inverted(MonoNet):
    """A network whose relief has the other sign: what stands out of the blurred answer lies as deep in it."""

    def __init__(self, net: MonoNet, share: float = 0.06) -> None:
        super().__init__()
        self.net, self.share = net, share
        self.multiple, self.quantity, self.working = net.multiple, net.quantity, net.working

    def encode(self, image_B3HW: torch.Tensor) -> TokenMaps:
        tokens = self.net.encode(image_B3HW)
        size = (image_B3HW.shape[-2], image_B3HW.shape[-1])
        raw = self.net.decode(tokens, size)[0, 0].numpy()
        blurred = cv2.GaussianBlur(raw, (0, 0), self.share * max(size))
        return [*tokens, torch.from_numpy(blurred)[None, None]]

    def decode(self, tokens: TokenMaps, size: tuple[int, int]) -> torch.Tensor:
        *tokens, blurred = tokens
        return (2 * blurred - self.net.decode(tokens, size)).clamp(min=0)

    def head_parameters(self) -> list[torch.nn.Parameter]:
        return self.net.head_parameters()


def inverted(model: MonoModel) -> MonoModel:
    """The model with its relief turned; the blurred map is as fine as the image, so ``min_stride`` leaves it alone."""
    identity = model.identity
    return MonoModel(
        f"{identity.name}, inverted",
        Inverted(model.net),
        weights_sha256=identity.weights_sha256,
        device=str(model.device),
        working=model.working,
    )


# ------------------------------------------------------------------------------------------------ tables


def sign_test(better: int, worse: int) -> float:
    """Two-sided p of a fair coin showing sides at least this unequal; ties are left out by the caller."""
    count = better + worse
    if count == 0:
        return 1.0
    tail = sum(math.comb(count, k) for k in range(max(better, worse), count + 1)) / 2**count
    return min(1.0, 2 * tail)


def compare(rows: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]], figure: str) -> dict[str, float]:
    """Means of one figure (smaller is better) over the images that both have, and how often it got better."""
    pairs = [
        (row[figure], other[figure])
        for row, other in zip(rows, base, strict=True)
        if row[figure] is not None and other[figure] is not None
    ]
    if not pairs:
        return {"n": 0, "mean": math.nan, "base": math.nan, "change": math.nan, "better": math.nan, "p": 1.0}
    mean, start = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    better, worse = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
    return {
        "n": len(pairs),
        "mean": mean,
        "base": start,
        "change": 100 * (mean / start - 1) if start else math.nan,
        "better": 100 * better / len(pairs),
        "p": sign_test(better, worse),
    }


def table(study: Study, names: Sequence[str], against: str = "start") -> str:
    """Markdown: every row against another, over the images that both have."""
    lines = [
        (
            f"| row | n | normals, degrees | against {against} | better | p | AbsRel | change "
            "| AbsRel by the paper's alignment | δ1 | boundary F1 | s |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        rows, base = _shared(study, name, against)
        if not rows:
            continue
        figures = ("normal_mean", "abs_rel", "abs_rel_paper")
        normals, abs_rel, paper = (compare(rows, base, figure) for figure in figures)
        delta, edges, seconds = (_mean([row[key] for row in rows]) for key in ("delta1", "boundary_f1", "seconds"))
        lines.append(
            f"| {ROWS[name].question} | {normals['n']} | {normals['mean']:.2f} | {normals['change']:+.1f} % "
            f"| {normals['better']:.0f} % | {normals['p']:.2g} | {abs_rel['mean']:.4f} | {abs_rel['change']:+.1f} % "
            f"| {paper['change']:+.1f} % | {delta:.1f} | {edges:.3f} | {seconds:.1f} |"
        )
    return "\n".join(lines)


def by_damage(study: Study, name: str, against: str = "start") -> str:
    """Markdown: one row of the table for every kind of damage."""
    lines = ["| images | n | normals | change | better | AbsRel change |", "|---|---|---|---|---|---|"]
    rows, base = _shared(study, name, against)
    for kind in dict.fromkeys(row["damage"] for row in rows):
        pairs = [(row, other) for row, other in zip(rows, base, strict=True) if row["damage"] == kind]
        some, others = ([pair[i] for pair in pairs] for i in (0, 1))
        normals, abs_rel = (compare(some, others, figure) for figure in ("normal_mean", "abs_rel"))
        lines.append(
            f"| {kind} | {normals['n']} | {normals['mean']:.2f} | {normals['change']:+.1f} % "
            f"| {normals['better']:.0f} % | {abs_rel['change']:+.1f} % |"
        )
    return "\n".join(lines)


def _shared(study: Study, name: str, against: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    pairs = [(study.read(name, i), study.read(against, i)) for i in range(len(study.scenes))]
    whole = [(row, base) for row, base in pairs if row is not None and base is not None]
    return [row for row, _ in whole], [base for _, base in whole]


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


# ------------------------------------------------------------------------------------------------ the command


def main(argv: Sequence[str]) -> int:
    """Run or print; the status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("run", "table"))
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--list", type=Path)
    parser.add_argument("--damage", action="store_true")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--model")
    parser.add_argument("--prior")
    parser.add_argument("--plain-prior")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    names = [name for name in args.rows.split(",") if name]
    if unknown := sorted(set(names) - set(ROWS)):
        parser.error(f"unknown row {unknown[0]}; known are {', '.join(ROWS)}")
    study = _study(args)
    if args.do == "run":
        study.run(names)
    print(table(study, names))
    if args.damage and "refined" in names:
        print("\n" + by_damage(study, "refined"))
    if {"refined", "smoothness"} <= set(names):
        print("\n" + table(study, ["refined"], against="smoothness"))
    return 0


def _study(args: argparse.Namespace) -> Study:
    from depthlight.infer.mono import load_mono
    from depthlight.refine.priors import load_guidance

    model = load_mono(args.model)
    config = load_recipe(args.recipe)
    priors = {"prior": load_guidance(args.prior, config, device=model.device)}
    if args.plain_prior:
        priors["plain"] = load_guidance(args.plain_prior, config, device=model.device)
    names = args.list.read_text().split() if args.list else None
    damage = damages(DepthScenes(args.scenes)) if args.damage else {}
    return Study(DepthScenes(args.scenes, names), args.out, model, config, priors, damage)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DepthlightError as error:
        sys.exit(f"refine_evidence: {error}")
