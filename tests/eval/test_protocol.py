from __future__ import annotations

import json

import pytest

from depthlight.core.errors import ConfigError, UnknownNameError
from depthlight.eval.protocol import PROTOCOLS, Headline, Protocol, get_protocol


@pytest.mark.parametrize(
    ("name", "mask", "cap", "headline"),
    [
        ("default", "all", None, ["epe/scenes", "bad1/scenes", "bad2/scenes", "d1/scenes"]),
        ("kitti", "all", 192, ["d1/pixels", "epe/scenes"]),
        ("middlebury-q", "noc", 192, ["bad2/scenes"]),
        ("middlebury-h", "noc", 192, ["bad2/scenes"]),
        ("middlebury-f", "noc", 192, ["bad2/scenes"]),
        ("eth3d", "noc", None, ["bad1/scenes"]),
        ("drivingstereo", "all", 192, ["d1/pixels", "epe/scenes"]),
        ("sceneflow", "all", 192, ["epe/scenes"]),
    ],
)
def test_the_rules_of_each_benchmark(name: str, mask: str, cap: float | None, headline: list[str]) -> None:
    protocol = get_protocol(name)
    assert (protocol.mask, protocol.cap, protocol.max_disp) == (mask, cap, 192)
    assert [f"{figure.metric}/{figure.average}" for figure in protocol.headline] == headline


def test_every_protocol_states_itself_in_plain_values() -> None:
    for name, protocol in PROTOCOLS.items():
        stated = json.loads(json.dumps(protocol.to_dict()))
        assert stated["name"] == name
        assert set(stated) == {"name", "description", "headline", "mask", "cap", "max_disp"}
        assert len(stated["description"]) > 40


def test_names() -> None:
    assert get_protocol() is get_protocol("public28") is PROTOCOLS["default"]
    with pytest.raises(UnknownNameError, match="did you mean 'kitti'"):
        get_protocol("kity")


def test_impossible_rules_are_refused() -> None:
    epe = (Headline(metric="epe"),)
    with pytest.raises(UnknownNameError):
        Headline(metric="rmse")
    with pytest.raises(UnknownNameError):
        Headline(metric="epe", average="images")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError):
        Protocol(name="x", description="", headline=epe, mask="occ")  # type: ignore[arg-type]
    for wrong in ({"cap": 0.0}, {"cap": float("nan")}, {"max_disp": 0}, {"headline": ()}):
        with pytest.raises(ConfigError):
            Protocol(**{"name": "x", "description": "", "headline": epe, **wrong})  # type: ignore[arg-type]
