"""Shared fixtures, and the rule that CI skips nothing."""

from __future__ import annotations

import os

import numpy as np
import pytest

_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("CI") and _skipped and exitstatus == 0:
        print("\nIn CI a skipped test is a failure (a missing extra?):", *_skipped, sep="\n  ")
        session.exitstatus = 1


@pytest.fixture(scope="session")
def motorcycle():
    """Left, right (500, 741, 3) uint8 and true disparity (500, 741) px, infinite where unknown: a real pair."""
    from depthlight.cli.demo import motorcycle as load_pair

    return load_pair()


@pytest.fixture
def call(capsys):
    """A function of one command line; returns (status, standard output, standard error)."""
    from depthlight.cli import main as cli

    def run(*args):
        status = cli.run([str(arg) for arg in args])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def shifted_pair(shift: int, height: int = 96, width: int = 160, seed: int = 0):
    """A textured pair whose true disparity is ``shift`` px everywhere."""
    import cv2

    rng = np.random.default_rng(seed)
    wide = np.zeros((height, width + shift, 3), np.float32)
    for octave in (4, 8, 16, 48):
        noise = rng.random((max(2, height * octave // 96), max(2, width * octave // 96), 3), dtype=np.float32)
        wide += cv2.resize(noise, (width + shift, height), interpolation=cv2.INTER_CUBIC)
    wide = np.clip((wide - wide.min()) / (wide.max() - wide.min()) * 255, 0, 255).astype(np.uint8)
    # x_right = x_left - d: what stands at column x on the left stands at x - shift on the right
    return wide[:, :width].copy(), wide[:, shift : shift + width].copy()


@pytest.fixture
def make_pair():
    return shifted_pair
