"""How often the doctor finds what is wrong, and how often it cries wolf: docs/benchmarks/doctor.json and a table.

Usage: python tools/doctor_report.py --pool DIR [--pairs N] [--others M] [--real DIR …]

Takes pairs of a pool that ``depthlight synth … --camera off`` made, puts one fault of known size into a pair and counts
how often the finding of that name is at least a warning: N pairs for the faults of bar I4 and for clean pairs, M
for each other fault. Clean pairs and those of --real (folders of scene folders) count false alarms. The numbers go into
docs/benchmarks/doctor.json, the table between the markers in docs/how-to/doctor.md. About a second a pair and fault.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from depthlight.core.errors import DepthlightError, InputError
from depthlight.geometry.rig import StereoRig
from depthlight.infer.doctor.camera import judge_rig
from depthlight.infer.doctor.findings import Finding
from depthlight.infer.doctor.matches import WORKING_SIDE
from depthlight.infer.doctor.measure import measure
from depthlight.infer.doctor.rules import judge
from depthlight.infer.load import load
from depthlight.infer.prediction import StereoMatcher
from depthlight.io.atomic import atomic_write_bytes
from depthlight.io.disparity_files import read_disparity
from depthlight.io.images import read_image

ROOT = Path(__file__).resolve().parents[1]
MARKERS = ("<!-- doctor table -->", "<!-- /doctor table -->")
RANGE = 192
Image = np.ndarray
Random = np.random.Generator


@dataclass(frozen=True)
class Case:
    """A pair, its true disparity (px, 0 = unknown; None where a fault made it wrong) and its calibration."""

    left: Image
    right: Image
    truth: Image | None = None
    rig: StereoRig | None = None
    other: Image | None = None  # a right view of another scene


# Faults: a case and a random stream in, the case with the fault out, or None where this pair cannot show it.


def swapped(case: Case, random: Random) -> Case:
    return Case(case.right, case.left)


def vertical_offset(case: Case, random: Random) -> Case:
    shift = random.uniform(2.2, 12) * random.choice([-1, 1])
    return _warp_right(case, np.array([[1, 0, 0], [0, 1, shift]]), margin=round(abs(shift)) + 1)


def rotation(case: Case, random: Random) -> Case:
    height, width = case.left.shape[:2]
    angle = random.uniform(0.5, 4) * random.choice([-1, 1])
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
    return _warp_right(case, turn, margin=round(np.tan(np.radians(abs(angle))) * width / 2) + 1)


def scale(case: Case, random: Random) -> Case:
    height, width = case.left.shape[:2]
    zoom = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, random.uniform(1.02, 1.08))
    zoomed = _warp_right(case, zoom)
    return zoomed if random.random() < 0.5 else _mirrored(_warp_right(_mirrored(case), zoom))


def size_mismatch(case: Case, random: Random) -> Case:
    height, width = case.right.shape[:2]
    if random.random() < 0.5:
        factor = random.uniform(0.5, 0.95)
        return replace(case, right=_resized(case.right, round(width * factor), round(height * factor)))
    return replace(
        case, right=case.right[: height - int(random.integers(1, 40)), : width - int(random.integers(0, 40))]
    )


def range_saturation(case: Case, random: Random) -> Case | None:
    """Enlarged so that the nearest things leave the range: 1.5 % to 30 % of the pixels, those whose match is outside
    the right view not counted, as nothing can be seen of them."""
    assert case.truth is not None
    inside = case.truth * (case.truth <= np.arange(case.truth.shape[1])[None, :])
    factor = RANGE / max(1.0, float(np.quantile(inside, 1 - random.uniform(0.015, 0.3))))
    height, width = (round(size * factor) for size in case.left.shape[:2])
    if not 1 < factor < 4 or not 0.012 < float((inside * factor > RANGE).mean()) < 0.5:
        return None
    return Case(_resized(case.left, width, height), _resized(case.right, width, height))


def negative_disparity(case: Case, random: Random) -> Case | None:
    """The right view moved to the right until 8 % to 70 % of the pixels are below -2 px, as with converging cameras."""
    assert case.truth is not None
    known = case.truth[case.truth > 0]
    shift = int(np.ceil(np.quantile(known, random.uniform(0.08, 0.6)) + 2))
    if shift > case.left.shape[1] / 3 or float((known < shift - 2).mean()) > 0.7:
        return None
    return Case(case.left[:, shift:], case.right[:, : case.right.shape[1] - shift])


def exposure(case: Case, random: Random) -> Case:
    gain = random.uniform(1.35, 2.0)
    view = case.right.astype(np.float32) * (gain if random.random() < 0.5 else 1 / gain)
    return replace(case, right=np.clip(np.rint(view), 0, 255).astype(np.uint8))


def blur_difference(case: Case, random: Random) -> Case:
    soft = cv2.GaussianBlur(case.right, (0, 0), random.uniform(1.5, 4))
    return (
        replace(case, right=soft)
        if random.random() < 0.5
        else _mirrored(replace(_mirrored(case), right=_soft(case.left, random)))
    )


def blur(case: Case, random: Random) -> Case:
    sigma = random.uniform(3, 6)
    return replace(
        case, left=cv2.GaussianBlur(case.left, (0, 0), sigma), right=cv2.GaussianBlur(case.right, (0, 0), sigma)
    )


def duplicate(case: Case, random: Random) -> Case:
    """The same view twice, half of the time saved once more as JPEG."""
    if random.random() < 0.5:
        return replace(case, right=case.left.copy())
    _, data = cv2.imencode(".jpg", case.left, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(70, 96))])
    return replace(case, right=np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8))


def blank(case: Case, random: Random) -> Case:
    """A lens cap or a dead sensor: one level and its noise."""
    level, noise = random.uniform(0, 255), random.uniform(0, 4)
    empty = np.clip(np.rint(level + random.normal(0, noise, case.right.shape)), 0, 255).astype(np.uint8)
    return replace(case, right=empty) if random.random() < 0.5 else replace(case, left=empty)


def few_matches(case: Case, random: Random) -> Case:
    """A wall: soft shading and noise, nothing to hold on to."""
    height, width = case.left.shape[:2]
    shade = cv2.resize(
        random.uniform(60, 200, (3, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    views = [shade[..., None] + random.normal(0, random.uniform(1, 4), (height, width, 3)) for _ in range(2)]
    left, right = (np.clip(np.rint(view), 0, 255).astype(np.uint8) for view in views)
    return replace(case, left=left, right=right)


def channel_swap(case: Case, random: Random) -> Case | None:
    pixels = case.right.astype(np.int16)
    if float((np.abs(pixels[..., 0] - pixels[..., 2]) > 15).mean()) < 0.2:
        return None
    return replace(case, right=case.right[..., ::-1])


def noise(case: Case, random: Random) -> Case:
    sigma = random.uniform(12, 30)
    views = [np.clip(np.rint(view + random.normal(0, sigma, view.shape)), 0, 255) for view in (case.left, case.right)]
    return replace(case, left=views[0].astype(np.uint8), right=views[1].astype(np.uint8))


def calibration_size(case: Case, random: Random) -> Case:
    assert case.rig is not None
    return replace(case, rig=replace(case.rig, height=round(case.rig.height * random.choice([0.75, 1.25, 1.5]))))


def unrelated(case: Case, random: Random) -> Case | None:
    return None if case.other is None or case.other.shape != case.left.shape else replace(case, right=case.other)


def upside_down(case: Case, random: Random) -> Case:
    return replace(case, right=np.ascontiguousarray(case.right[::-1, ::-1]))


def intrinsics(case: Case, random: Random) -> Case:
    """K of the full-size images beside the size of the reduced ones, or the reverse."""
    assert case.rig is not None
    factor = random.choice([0.25, 0.5, 2.0, 4.0])
    rig = case.rig
    return replace(
        case, rig=replace(rig, fx=rig.fx * factor, fy=rig.fy * factor, cx=rig.cx * factor, cy=rig.cy * factor)
    )


def baseline_unit(case: Case, random: Random) -> Case:
    """Millimetres taken for metres, or the reverse."""
    assert case.rig is not None
    return replace(case, rig=replace(case.rig, baseline=case.rig.baseline * random.choice([1000.0, 0.001])))


Fault = Callable[[Case, Random], Case | None]
FAULTS: dict[str, Fault] = {
    function.__name__.replace("_", "-"): function
    for function in (
        swapped,
        vertical_offset,
        rotation,
        scale,
        size_mismatch,
        range_saturation,
        negative_disparity,
        exposure,
        blur_difference,
        blur,
        duplicate,
        blank,
        few_matches,
        unrelated,
        upside_down,
        channel_swap,
        noise,
        calibration_size,
        intrinsics,
        baseline_unit,
    )
}


CALIBRATION = ("calibration-size", "intrinsics", "baseline-unit")  # the images stay as they are
BAR = ("swapped", "vertical-offset", "size-mismatch", "range-saturation")  # I4 of docs/reliability.md
# Findings that count as the fault: what is far to the wrong side cannot be told from exchanged views.
NAMES = {"upside-down": ("rotation",), "negative-disparity": ("negative-disparity", "swapped")}


def _warp_right(case: Case, matrix: np.ndarray, margin: int = 0) -> Case:
    """The right view moved by a 2×3 matrix; ``margin`` rows of both views are cut off where it brought in nothing."""
    height, width = case.right.shape[:2]
    right = cv2.warpAffine(case.right, matrix.astype(np.float64), (width, height), flags=cv2.INTER_CUBIC)
    rows = slice(margin, height - margin)
    return Case(case.left[rows], np.asarray(right, np.uint8)[rows])


def _mirrored(case: Case) -> Case:
    """Seen in a mirror, a right view is a left one."""
    return Case(np.ascontiguousarray(case.right[:, ::-1]), np.ascontiguousarray(case.left[:, ::-1]))


def _soft(view: Image, random: Random) -> Image:
    return np.ascontiguousarray(cv2.GaussianBlur(view, (0, 0), random.uniform(1.5, 4))[:, ::-1])


def _resized(view: Image, width: int, height: int) -> Image:
    smaller = width < view.shape[1]
    return np.asarray(
        cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), np.uint8
    )


# Pairs


def scenes(pool: Path) -> list[Path]:
    """Scene folders of a pool, or of a folder of pools: then in turn from each, so that any few hold all families."""
    families: dict[Path, list[Path]] = {}
    for path in sorted([*pool.glob("[!.]*/left.*"), *pool.glob("[!.]*/[!.]*/left.*")]):
        families.setdefault(path.parent.parent, []).append(path.parent)
    if not families:
        raise InputError(f"{pool} holds no scene folders", expected="folders with left.* and right.*")
    longest = max(len(found) for found in families.values())
    return [found[i] for i in range(longest) for found in families.values() if i < len(found)]


def read_case(scene: Path) -> Case:
    left, right = (read_image(next(scene.glob(f"{side}.*"))) for side in ("left", "right"))
    truth = read_disparity(scene / "disp.png").disparity_HW if (scene / "disp.png").is_file() else None
    rig = StereoRig.from_file(scene / "calib.txt") if (scene / "calib.txt").is_file() else None
    return Case(left, right, truth, rig)


# Counting


def findings(case: Case, network: StereoMatcher | None) -> list[Finding]:
    """Without a network, for faults of the calibration alone, matches are sought on small images."""
    measured = measure(case.left, case.right, network, RANGE, side=WORKING_SIDE if network else 320)
    return judge(measured) + ([] if case.rig is None else list(judge_rig(case.rig, measured)))


def alarms(found: Sequence[Finding]) -> set[str]:
    """Names of the findings that are more than a notice."""
    return {finding.id for finding in found if finding.severity != "notice"}


def faulty(name: str, cases: Sequence[Path], count: int) -> Iterator[Case]:
    """The first ``count`` pairs that can show the fault, with the fault; the same for the same scenes."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    other: Image | None = None
    done = 0
    for scene in cases:
        if done == count:
            return
        case = replace(read_case(scene), other=other)
        other = case.right
        wrong = FAULTS[name](case, random)
        if wrong is not None:
            done += 1
            yield wrong


def row_of(name: str, cases: Sequence[Path], count: int, network: StereoMatcher) -> dict[str, Any]:
    """How often a fault was found, under its own name."""
    hits, named, error = 0, Counter[str](), 0
    total = 0
    for case in faulty(name, cases, count):
        found = findings(case, None if name in CALIBRATION else network)
        total += 1
        hits += bool(alarms(found) & set(NAMES.get(name, (name,))))
        error += any(finding.severity == "error" for finding in found)
        named.update(alarms(found))
    return {
        "pairs": total,
        "caught": hits,
        "caught_percent": round(100 * hits / max(1, total), 1),
        "with_error": error,
        "findings": dict(named.most_common()),
    }


def clean_row(cases: Sequence[Path], network: StereoMatcher) -> dict[str, Any]:
    """False alarms on pairs without a fault."""
    pairs = {}
    for scene in cases:
        found = findings(read_case(scene), network)
        pairs[f"{scene.parent.name}/{scene.name}"] = {finding.id: finding.severity for finding in found}
    count = len(pairs)
    alarmed = {name: found for name, found in pairs.items() if set(found.values()) - {"notice"}}
    errors = sum("error" in found.values() for found in pairs.values())
    return {
        "pairs": count,
        "with_warning_or_error": len(alarmed),
        "with_error": errors,
        "percent": round(100 * len(alarmed) / max(1, count), 1),
        "notices": dict(
            Counter(name for found in pairs.values() for name, level in found.items() if level == "notice")
        ),
        "which": alarmed,
    }


def page(report: dict[str, Any]) -> str:
    """The table of docs/how-to/doctor.md."""
    rows = ["| fault | pairs | caught |", "|---|---|---|"]
    for name, row in report["faults"].items():
        rows.append(f"| {name} | {row['pairs']} | {row['caught_percent']:.1f} % |")
    rows += ["", "| pairs without a fault | pairs | with a warning | with an error |", "|---|---|---|---|"]
    for name, row in report["clean"].items():
        warned = row["with_warning_or_error"] - row["with_error"]
        rows.append(f"| {name} | {row['pairs']} | {warned} | {row['with_error']} |")
    return "\n".join(rows)


def write(report: dict[str, Any]) -> None:
    report["faults"] = {name: report["faults"][name] for name in FAULTS if name in report["faults"]}
    atomic_write_bytes(ROOT / "docs/benchmarks/doctor.json", (json.dumps(report, indent=1) + "\n").encode())
    target = ROOT / "docs/how-to/doctor.md"
    before, rest = target.read_text().split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    atomic_write_bytes(target, f"{before}{MARKERS[0]}\n{page(report)}\n{MARKERS[1]}{after}".encode())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="pool of synthetic pairs, or a folder of pools")
    parser.add_argument("--pairs", type=int, default=200, help="clean pairs, and pairs of each fault of I4")
    parser.add_argument("--others", type=int, default=100, help="pairs of each other fault")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first pairs of the pool")
    parser.add_argument("--real", type=Path, action="append", default=[], help="folder of real scene folders")
    parser.add_argument("--only", help="faults, comma-separated; the others keep their stored numbers")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    stored = ROOT / "docs/benchmarks/doctor.json"
    report = json.loads(stored.read_text()) if options.only and stored.is_file() else {"clean": {}, "faults": {}}
    try:
        cases = scenes(options.pool)[options.skip :]
        mine: set[str] = set()
        network = load(threads=1)
        report |= {"model": network.identity.name, "weights_sha256": network.identity.weights_sha256, "range": RANGE}
        for name in FAULTS:
            if options.only and name not in options.only.split(","):
                continue
            mine.add(name)
            report["faults"][name] = row_of(name, cases, options.pairs if name in BAR else options.others, network)
            print(name, report["faults"][name], flush=True)
        if not options.only or "clean" in options.only:
            report["clean"]["engine"] = clean_row(cases[: options.pairs], network)
            for folder in options.real:
                report["clean"][f"real: {folder.name}"] = clean_row(scenes(folder), network)
            mine |= set(report["clean"])
            print(report["clean"], flush=True)
        if options.only and stored.is_file():  # another run may have added its own meanwhile
            latest = json.loads(stored.read_text())
            for part in ("faults", "clean"):
                report[part] = latest[part] | {name: row for name, row in report[part].items() if name in mine}
        write(report)
    except DepthlightError as error:
        print(f"doctor_report: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
