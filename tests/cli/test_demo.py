"""``depthlight demo``: the main job from a fresh installation."""

from __future__ import annotations

import pytest

FILES = {"disparity.png", "disparity.json", "valid.png", "confidence.png", "preview.png", "result.json"}


def test_demo_works_from_the_package_alone(call, tmp_path):
    out = tmp_path / "demo"
    status, text, _ = call("demo", "-o", out)
    assert status == 0
    assert {path.name for path in out.iterdir()} == FILES | {"depth.npy", "depth.json", "depth_sigma.npy", "cloud.ply"}
    error = float(text.split("mean error ")[1].split(" px")[0])
    assert error < 3


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--device", "cuda", "--backend", "onnxruntime"], "cuda"), (["--weights", "none.pth"], "none.pth")],
)
def test_demo_takes_the_options_of_every_network(call, tmp_path, options, says):
    status, text, err = call("demo", "-o", tmp_path / "demo", *options)
    assert (status, text, err.count("\n")) == (2, "", 1)
    assert says in err
    assert not (tmp_path / "demo").exists()
