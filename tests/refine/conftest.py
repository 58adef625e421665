"""A small depth network, a prior with a known answer, and photos, so that nothing here needs trained weights."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthlight.infer.mono import MonoModel
from depthlight.nets.mono.base import MonoNet
from depthlight.refine.config import RefineConfig
from depthlight.refine.guidance import Scene
from depthlight.refine.keeping import Keeping
from depthlight.refine.loop import Refinement
from depthlight.refine.patches import standard_raw
from depthlight.refine.render import normals_pinhole, pseudo_depth, relight


class TinyNet(MonoNet):
    """Two token maps (strides 4 and 8) and a head of two convolutions."""

    multiple = 8
    working = 64

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 6, 4, 4)
        self.coarse = nn.Conv2d(6, 6, 2, 2)
        self.mix = nn.Conv2d(12, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 1, 3, padding=1)

    def encode(self, image_B3HW: Tensor) -> list[Tensor]:
        self.check_input(image_B3HW)
        fine = torch.tanh(self.fine(image_B3HW))
        return [fine, torch.tanh(self.coarse(fine))]

    def decode(self, tokens: list[Tensor], size: tuple[int, int]) -> Tensor:
        fine, coarse = tokens
        both = torch.cat([fine, F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")], 1)
        small = F.softplus(self.out(torch.tanh(self.mix(both))))
        return F.interpolate(small, size=size, mode="bilinear")

    def head_parameters(self) -> list[nn.Parameter]:
        return [*self.mix.parameters(), *self.out.parameters()]


@dataclass
class Pull:
    """A prior with a known answer: re-lit photos should look as they would with the normals of ``target_B1hw``."""

    target_B1hw: Tensor
    unit: float
    fault: str = ""  # "loss" or "gradient": what is not finite at ``fault_at`` of the progress
    fault_at: float = 2.0
    name: str = "pull"

    def loss(self, scene: Scene, *, progress: float, generator: torch.Generator) -> Tensor:
        height, width = scene.photo_B3HW.shape[-2:]
        target = F.interpolate(self.target_B1hw, size=(height, width), mode="area")
        focal = float(max(height, width))
        centre = (width - 1) / 2, (height - 1) / 2
        normals = normals_pinhole(pseudo_depth(target / self.unit), focal, focal, *centre)
        aim = relight(scene.photo_B3HW, normals, scene.lighting)
        noise = 1e-3 * torch.randn(aim.shape, generator=generator)
        loss = 100 * (scene.relit_BL3HW - aim + noise).square().mean()
        if progress >= self.fault_at:
            return loss * float("nan") if self.fault == "loss" else _SpoilGradient.apply(loss)
        return loss

    def level(self, progress: float) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


class _SpoilGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * float("inf")


def make_tiny_net() -> TinyNet:
    generator = torch.Generator().manual_seed(3)
    net = TinyNet()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5)
    return net.eval()


def make_photo(height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / 16
    waves = np.stack([np.sin(x + i) + np.cos(y * (i + 1) / 2) for i in range(3)], -1)
    return np.uint8(np.clip(128 + 45 * waves + rng.normal(0, 4, waves.shape), 0, 255))


def make_pull(net: TinyNet, photo: np.ndarray[Any, Any], **fault: Any) -> Pull:
    """The target is the network's own answer with a smooth bump on it."""
    with torch.no_grad():
        start = net(as_tensor(photo))
    height, width = start.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    bump = torch.exp(-4 * (x**2 + y**2))
    return Pull(start + 0.3 * bump, float(start.max() / standard_raw(start).max()), **fault)


def make_run(steps: int, keeping: Keeping | None) -> Refinement:
    """A run of two restarts over all groups of the paper, for processes of their own."""
    net, photo = make_tiny_net(), make_photo()
    config = RefineConfig(longest=64, steps=steps, restarts=2, lights=2, unit="standard", lr_head=1e-3)
    return Refinement(net, as_tensor(photo), config, make_pull(net, photo), keeping=keeping)


@pytest.fixture
def net() -> TinyNet:
    return make_tiny_net()


@pytest.fixture
def model(net: TinyNet) -> MonoModel:
    return MonoModel("tiny", net, weights_sha256="0" * 64, device="cpu")


@pytest.fixture
def photo() -> np.ndarray[Any, Any]:
    return make_photo()


def as_tensor(photo: np.ndarray[Any, Any]) -> Tensor:
    """(1, 3, H, W) sRGB in 0..1."""
    return torch.from_numpy(photo.astype(np.float32) / 255).permute(2, 0, 1)[None]


@pytest.fixture
def tensor(photo: np.ndarray[Any, Any]) -> Tensor:
    return as_tensor(photo)


@pytest.fixture
def pull(net: TinyNet, photo: np.ndarray[Any, Any]) -> Pull:
    return make_pull(net, photo)


@pytest.fixture
def quick() -> Callable[..., RefineConfig]:
    """A configuration of a few steps; keywords change it."""

    def make(**changes: Any) -> RefineConfig:
        values: dict[str, Any] = {
            "longest": 64,
            "steps": 6,
            "restarts": 1,
            "lights": 2,
            "lr_tokens": 3e-3,
            "unit": "standard",
            "camera": "pinhole",
            "normals": "surface",
            "residual": True,
            "smoothness": 0.1,
        }
        return RefineConfig(**(values | changes))

    return make


def newest(state: Path) -> int:
    """The step of the newest checkpoint in a folder of them."""
    return max((int(path.stem[5:]) for path in state.glob("step-*.json")), default=0)


@pytest.fixture
def kill_and_finish() -> Callable[..., None]:
    """``(start, state, kills)``: kill a process a few steps after its start, again and again, then let it finish."""

    def run(start: Callable[[], subprocess.Popen[bytes]], state: Path, kills: int) -> None:
        for kill in range(kills):
            process = start()
            first = newest(state)
            while process.poll() is None and newest(state) < first + 2 + 3 * (kill % 3):
                time.sleep(0.003)
            assert process.poll() is None, "it finished before it could be killed: too few steps"
            process.kill()
            process.wait()
        assert start().wait(timeout=300) == 0

    return run
