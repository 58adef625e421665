"""A tiny network, tiny scenes, and runs made of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from depthlight.core.config import from_dict
from depthlight.train.config import TrainConfig
from depthlight.train.loop import write_config

TINY_NETWORK = {
    "pyramid": [8, 8, 8, 8, 8],
    "match": 8,
    "groups": 2,
    "volume": [4, 4, 4, 4],
    "upsample": 8,
    "max_disp": 32,
}
SIZE = (64, 128)


def write_scene(folder: Path, seed: int, size: tuple[int, int] = SIZE) -> None:
    """A textured plane, seen from two places; its disparity is 4..20 px."""
    height, width = size
    rng = np.random.default_rng(seed)
    texture = cv2.resize(rng.random((height // 2, width, 3), dtype=np.float32), (2 * width, height)) * 255
    y, x = np.mgrid[:height, :width].astype(np.float32)
    start, slope = rng.uniform(4, 12), rng.uniform(-0.04, 0.08)
    disparity = (start + slope * y).astype(np.float32)
    right = cv2.remap(texture, x + 30, y, cv2.INTER_LINEAR)
    left = cv2.remap(texture, x + 30 - disparity, y, cv2.INTER_LINEAR)
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "left.png"), np.rint(left).astype(np.uint8))
    cv2.imwrite(str(folder / "right.png"), np.rint(right).astype(np.uint8))
    for name in ("disp.png", "disp_right.png"):  # disparity is constant along rows
        cv2.imwrite(str(folder / name), np.rint(disparity * 256).astype(np.uint16))


@pytest.fixture(scope="session")
def scene_writer() -> Callable[..., None]:
    """:func:`write_scene`, for tests that need scenes of their own."""
    return write_scene


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight tiny scenes."""
    root = tmp_path_factory.mktemp("pool")
    for index in range(8):
        write_scene(root / f"plane-{index}", index)
    return root


@pytest.fixture(scope="session")
def tiny(pool: Path) -> Callable[..., TrainConfig]:
    """Makes a configuration of the tiny network on the tiny scenes; keywords change it."""

    def make(**changes: Any) -> TrainConfig:
        values: dict[str, Any] = {
            "network_config": TINY_NETWORK,
            "data": [{"path": str(pool)}],
            "crop": [64, 96],
            "batch": 2,
            "workers": 0,
            "threads": 1,
            "amp": "fp32",
            "ema": 0.9,
            "device": "cpu",
            "checkpoint_minutes": 1000.0,
            "schedule": {"lr": 1e-3, "warmup": 4, "samples": 12},
        }
        return from_dict(TrainConfig, values | changes)

    return make


@pytest.fixture
def start_process() -> Callable[[TrainConfig, Path], subprocess.Popen[bytes]]:
    """Starts ``python -m depthlight.train`` on a folder, in a process of its own."""

    def start(config: TrainConfig, folder: Path) -> subprocess.Popen[bytes]:
        write_config(config, folder, "test")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.Popen(
            [sys.executable, "-m", "depthlight.train", str(folder), "--quiet"],
            env=environment,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )

    return start


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
