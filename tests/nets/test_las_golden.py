"""Our Lite Any Stereo networks answer as the official code does, from the same weights."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from depthlight.core.tolerances import tolerance  # noqa: E402
from depthlight.nets.stereo import build  # noqa: E402
from depthlight.nets.stereo.base import StereoNet, parameter_count  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"
FAMILIES = ("las1", "las2-s", "las2-m", "las2-l", "las2-h")
SIZES = ((96, 160), (128, 256), (160, 320))
MILLION_PARAMETERS = {"las1": 7.60, "las2-s": 6.0, "las2-m": 10.4, "las2-l": 27.1, "las2-h": 11.6}


def _fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fill = _fill()


@pytest.fixture(scope="module")
def nets() -> Iterator[dict[str, StereoNet]]:
    """Networks by family, each built when first asked for."""
    built: dict[str, StereoNet] = {}
    yield built
    built.clear()


def _official(family: str, nets: dict[str, StereoNet]) -> StereoNet:
    if family not in nets:
        keys = json.loads((GOLDEN / f"{family}.keys.json").read_text())
        state = {key: torch.from_numpy(fill.weight(key, tuple(shape))) for key, (shape, _) in keys.items()}
        net = build(family)
        net.load_state_dict(state, strict=True)
        nets[family] = net.double().eval()
    return nets[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_las_state_dict_is_the_official_one(family: str) -> None:
    official = json.loads((GOLDEN / f"{family}.keys.json").read_text())
    net = build(family)
    ours = {key: [list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in net.state_dict().items()}
    assert ours == official
    assert parameter_count(net) / 1e6 == pytest.approx(MILLION_PARAMETERS[family], abs=0.06)


@pytest.mark.parametrize(
    ("family", "height", "width"),
    [(f, h, w) for f in FAMILIES for h, w in SIZES],
    ids=[f"{f}-{h}x{w}" for f in FAMILIES for h, w in SIZES],
)
def test_golden(
    nets: dict[str, StereoNet], family: str, height: int, width: int, record_property: Callable[[str, object], None]
) -> None:
    net = _official(family, nets)
    left, right = (torch.from_numpy(view).double()[None] for view in fill.pair(height, width))
    with torch.no_grad():
        disparity = net(left, right).disparity_B1HW[0, 0].numpy()
    with np.load(GOLDEN / f"{family}.golden.npz", allow_pickle=False) as stored:
        expected = stored[f"disparity_{height}x{width}"].reshape(height, width)
    assert disparity.dtype == np.float64
    largest = float(np.abs(disparity - expected).max())
    assert largest <= tolerance("golden.las.float64")
    record_property("x10_px", largest)
