"""Would the tests notice? Small faults are put into the code, and the share that some test finds is counted (bar P5).

Usage: mutation.py --work DIR [--count 300] [--seed 0]

mutmut (pip install mutmut) makes the faults, in a clone of the last commit in DIR; ``count`` of them are drawn from
all that it can make in lines that the tests run. Takes about an hour. The score goes into docs/benchmarks/mutation.json
and docs/reliability.md; look at what survived with ``mutmut show NAME`` in DIR.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.report import ROOT as _ROOT, machine, table, write_section

AREAS = {
    "geometry": ("geometry/*", "geometry/calibration/*"),
    "io": ("io/*",),
    "metrics": ("eval/metrics.py", "eval/confidence.py", "eval/mono_metrics.py", "eval/regions.py"),
    "checkpoints": ("io/checkpoint.py", "nets/checkpoints.py"),
}
TESTS = ("tests/geometry", "tests/io", "tests/eval", "tests/nets/test_checkpoints.py")
