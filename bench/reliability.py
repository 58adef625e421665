"""Section ``reliability``: every bar of docs/reliability.md with what was measured.

Runs the tests of the default run that stand behind the bars and takes the values that they record (pytest's
``record_property``), the largest where several tests record one; the other sections' JSON gives the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bench.report import RAW, ROOT, in_words, machine, table, write_section

from depthlight.eval.invariance import BARS as INVARIANCES

DOC = ROOT / "docs" / "reliability.md"


@dataclass(frozen=True)
class Bar:
    """A promise, the tests behind it, and how the measured values are told.

    ``told`` is filled with the recorded values and with ``passed``, the number of tests that passed.
    """

    name: str
    promise: str
    tests: tuple[str, ...]
    told: str = "{passed} passed"


BARS = (
    Bar(
        "I1",
        "1,000 mutated images and depth files: no crash, no hang, every failure a clear error, below 1.5 GiB",
        ("tests/io/test_images_hostile.py::test_mutated_files_never_crash_hang_or_raise_anything_else",),
        "0 crashes, {i1_refused:.0f} clear errors, {i1_peak_mib:.0f} MiB",
    ),
    Bar(
        "I2",
        "decompression bombs and lying headers refused before decoding, with less than 1 MiB",
        ("tests/io/test_images_hostile.py",),
        "{passed} passed; nothing decoded",
    ),
    Bar("I3", "every image mode, EXIF 1-8, 1×1 to 31×33, one row, one column", ("tests/io/test_images.py",)),
    Bar(
        "I4",
        "faults of a pair caught in ≥ 95 % of 200 engine pairs, false alarms ≤ 2 % ([all](how-to/doctor.md))",
        ("tests/infer/test_doctor.py",),
        "{doctor_caught:.1f} % of the worst fault, {doctor_alarms:.1f} % false alarms",
    ),
    Bar(
        "I5",
        "NaN and infinity refused with their position; constant images give zero confidence",
        ("tests/infer/test_stereo.py",),
    ),
    Bar(
        "I6",
        "calibration files of seven layouts: exact round trips; 200 mutated files each end in a clear error",
        ("tests/geometry/test_calibration_files.py",),
    ),
    Bar("I7", "hostile names write nothing outside the output folder", ("tests/io/test_names.py",)),
    Bar(
        "U1",
        "hostile checkpoints: nothing runs, memory at most twice the file (and 2 MiB), a clear error",
        ("tests/nets/test_checkpoints.py",),
        "{passed} passed, at most {u1_peak_mib:.1f} MiB",
    ),
    Bar(
        "U2",
        "no pickle, `eval`, unsafe `torch.load`, `shell=True` in `src/`",
        ("tests/core/test_house_rules.py",),
    ),
    Bar("U3", "bundled weights equal the hash in their card, are finite and small", ("tests/core/test_registry.py",)),
    Bar(
        "X1-X3, X5, X6, X8",
        "repeatability, threads, batches, padding, flips, shifts, scale ([all](benchmarks.md#invariances))",
        ("tests/eval/test_invariance.py",),
        "{invariances_held} of {invariances_count} targets reached; none worse than stored",
    ),
    Bar(
        "X4",
        "tiles equal the whole (`light`): p99 ≤ 0.1 px",
        ("tests/infer/test_tiles.py::test_tiles_agree_with_the_whole",),
        "{x4_p99_px:.2g} px",
    ),
    Bar(
        "X7, X15",
        "±10 % gain, ±5 levels, gray cost ≤ 10 %; no region of the frozen pairs worse than stored",
        ("tests/eval/test_quality_regression.py",),
    ),
    Bar(
        "X9, X10",
        "Lite Any Stereo 1 and 2 equal the official code: five networks, three sizes, 1e-4 px in float64",
        ("tests/nets/test_las_golden.py",),
        "{x10_px:.1g} px at most",
    ),
    Bar(
        "X11",
        "bundled graphs equal torch to 1e-3 px at three sizes on a real pair",
        ("tests/export/test_onnx.py",),
        "{x11_px:.2g} px at most",
    ),
    Bar(
        "X11",
        "the gate of every export: six networks, onnxruntime and OpenVINO, three sizes",
        ("tests/export/test_export_gate.py",),
        "{passed} passed; networks of full size: slow tests",
    ),
    Bar(
        "X12",
        "gradcheck in float64: normals, renderer, smoothness, operations, losses",
        ("tests/refine/test_render.py", "tests/nets/test_ops.py", "tests/nets/test_losses.py"),
    ),
    Bar(
        "X13",
        "disparity and depth to 1e-6; K and resizing commute; 1,000 random rigs rectify to 0.01 px",
        ("tests/geometry/test_depth.py", "tests/geometry/test_cameras.py", "tests/geometry/test_rectify.py"),
        "{passed} passed; {x13_vertical_px:.1g} px at most",
    ),
    Bar(
        "X14",
        "depth files round-trip within their quantum, nothing is clipped",
        ("tests/io/test_disparity_files.py", "tests/io/test_depth_files.py"),
    ),
    Bar(
        "X16",
        "metrics equal hand-worked cases and a second implementation to 1e-9",
        ("tests/eval/test_eval_metrics.py", "tests/eval/test_mono_metrics.py"),
    ),
    Bar(
        "T1",
        "killed with SIGKILL at random moments, some inside a save: resumes to the bits of an unbroken run",
        ("tests/train/test_resume_bits.py",),
        "{passed} passed; identical bits; 20 kills: slow tests",
    ),
    Bar(
        "T2",
        "SIGTERM and SIGINT save and leave within 10 s, exit status 143 and 130",
        ("tests/train/test_resume_bits.py",),
        "{t2_s:.1f} s at most",
    ),
    Bar(
        "T3, T4",
        "full disk, read-only folder, failed rename at each step of a save; damaged checkpoints: the last good one",
        ("tests/io/test_checkpoint.py",),
    ),
    Bar(
        "T5-T7",
        "non-finite values change nothing and are named; sample order; bad samples are told and counted",
        ("tests/train", "tests/data/test_loader.py", "tests/data/test_sampling.py"),
    ),
    Bar(
        "T8",
        "two ranks equal one process to 1e-5; a killed rank ends the other within 30 s",
        ("tests/train/test_ranks.py",),
        "{t8_difference:.1g} at most; {t8_kill_s:.1f} s",
    ),
    Bar(
        "T9",
        "refinement: kill and resume to the bit, never non-finite, identity without guidance",
        ("tests/refine/test_refine_loop.py",),
    ),
    Bar("T10", "each stage lowers the error on a tiny set", ("tests/train/test_learning.py",)),
    Bar(
        "M1",
        "peak memory predicted within 25 % ([all](how-to/large-images-and-ranges.md))",
        ("tests/infer/test_tiles.py",),
        "{memory_low:.0f} to {memory_high:+.0f} %",
    ),
    Bar(
        "S1, S2",
        "many clients get the serial result; bounds of queue, body, parts, pixels and time",
        ("tests/app/test_api.py", "tests/app/test_limits.py"),
        "{passed} passed; {soak_requests:.0f} requests, {soak_failed:.0f} failed",
    ),
    Bar(
        "S3",
        "100 idle or trickling connections delay nobody by 1 s; cancelled work ends within 2 s",
        ("tests/app/test_limits.py", "tests/app/test_serve.py"),
        "{s3_delay_s:.2f} s; {s3_cancel_s:.2f} s",
    ),
    Bar("S4", "no client names a path, no URL is fetched, results expire", ("tests/app/test_limits.py",)),
    Bar(
        "S5",
        "memory grows by less than 1 MiB per 1,000 requests",
        (),
        "server {soak_server:+.2f} MiB, worker {soak_worker:+.2f} MiB",
    ),
    Bar("S6", "SIGTERM drains within 15 s", ("tests/app/test_serve.py",), "{s6_drain_s:.1f} s"),
    Bar(
        "B1-B3",
        "killed 20 times at random, a bad pair among 200, a killed Ray worker: each result once, whole, same bytes",
        ("tests/batch",),
        "{passed} passed; 20 kills, 200 pairs and Ray: slow tests",
    ),
    Bar(
        "P1, P6",
        "the wheel in a new environment without a network predicts; Python 3.11, 3.12 and 3.13",
        ("tests/test_package.py",),
    ),
    Bar(
        "P2",
        "`import depthlight` and `--help` load no torch, numpy or OpenCV, and take less than 0.5 s",
        ("tests/core/test_house_rules.py",),
        "{import_s:.2f} s and {help_s:.2f} s",
    ),
    Bar("P3", "every command and Python block of the docs works", ("tests/test_docs.py", "tests/test_notebook.py")),
    Bar(
        "P4",
        "public names and flags equal the inventory",
        ("tests/core/test_house_rules.py", "tests/cli/test_main.py"),
    ),
    Bar(
        "P5",
        "branch coverage ≥ 90 % of the default tests (CI fails below); mutation score ≥ 70 %",
        (),
        "{mutation:.0f} % of {mutants} faults found",
    ),
    Bar("P7", "no warning in a normal run, nor in any test", (), "0 in {tests} tests (each would be an error)"),
)


def run() -> None:
    """Run the tests (ten minutes), collect, write the section."""
    passed, measured = run_tests()
    values: dict[str, Any] = {**measured, **from_sections(), "tests": sum(passed.values())}
    rows = []
    for bar in BARS:
        count = sum(number for test, number in passed.items() if test.startswith(tuple(map(_as_class, bar.tests))))
        where = ", ".join(f"`{test.split('::')[0]}`" for test in bar.tests) or "`tools/`, `.ci/run`"
        rows.append([bar.name, bar.promise, bar.told.format(passed=count, **values), where])
    facts = machine("pytest", "torch", "onnxruntime", "numpy")
    raw = {"machine": facts, "values": values}
    text = table(["bar", "what", "measured", "tests"], rows).replace("---:", "---")
    write_section("reliability", f"{text}\n\n{in_words(facts)}.", raw, document=DOC)


def _as_class(test: str) -> str:
    """A folder, file or test as junit's ``classname.name`` begins."""
    path, _, name = test.partition("::")
    return f"{path.removesuffix('.py').replace('/', '.')}.{name}"


def run_tests() -> tuple[dict[str, int], dict[str, float]]:
    """Tests that passed (``classname.name`` → how many parameters), and the largest of each recorded value.

    Raises:
        RuntimeError: a test failed.
    """
    passed: dict[str, int] = {}
    values: dict[str, float] = {}
    tests = sorted({test for bar in BARS for test in bar.tests})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", f"--junitxml={report}", "-o", "junit_family=xunit1"]
        if subprocess.run([sys.executable, "-m", "pytest", *options, *tests], cwd=ROOT, check=False).returncode:
            raise RuntimeError("a bar does not hold")
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname')}.{str(case.get('name')).split('[')[0]}"
            passed[name] = passed.get(name, 0) + 1
            for found in case.iter("property"):
                key, value = str(found.get("name")), float(str(found.get("value")))
                values[key] = max(value, values.get(key, value))
    return passed, values


def from_sections() -> dict[str, Any]:
    """What other tools have measured."""

    def stored(name: str) -> Mapping[str, Any]:
        return json.loads((RAW / f"{name}.json").read_text())  # type: ignore[no-any-return]

    doctor, serve, memory = stored("doctor"), stored("serve")["soak"], stored("range")["memory"]
    invariances, seconds = stored("invariances")["values"]["engine pairs"], stored("footprint")["seconds"]
    mutation = stored("mutation")["all"]
    ratios = [100 * (row["ratio"] - 1) for row in memory]
    return {
        "doctor_caught": min(fault["caught_percent"] for fault in doctor["faults"].values() if fault["pairs"] >= 200),
        "doctor_alarms": doctor["clean"]["engine"]["percent"],
        "soak_requests": serve["requests"],
        "soak_failed": serve["wrong_or_failed"],
        "soak_server": serve["server_mib_per_1000"],
        "soak_worker": serve["worker_mib_per_1000"],
        "memory_low": min(ratios),
        "memory_high": max(ratios),
        "invariances_held": sum(bar.holds(invariances[bar.name]) for bar in INVARIANCES),
        "invariances_count": len(INVARIANCES),
        "mutants": mutation["faults"],
        "mutation": 100 * mutation["found"] / mutation["faults"],
        "import_s": seconds["python -c 'import depthlight'"],
        "help_s": seconds["depthlight --help"],
    }
