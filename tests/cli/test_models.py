"""``depthlight models``: what can be loaded."""

from __future__ import annotations

import json

from depthlight.core import registry


def test_models_lists_and_shows(call):
    status, text, _ = call("models", "--json")
    listed = json.loads(text)
    assert status == 0
    assert listed["default"] == registry.DEFAULT_MODEL
    assert {row["name"] for row in listed["models"]} == set(registry.list_models())
    assert all(row["licence"] and row["what"] for row in listed["models"])
    _, text, _ = call("models", "light", "--json")
    assert json.loads(text)["files"]["onnx"]["sha256"]
    assert registry.DEFAULT_MODEL in call("models")[1]


def test_models_quiet_tells_by_its_status_alone(call):
    assert call("models", "-q") == (0, "", "")
    assert call("models", "light", "-q") == (0, "", "")
    status, text, err = call("models", "ligth", "-q")
    assert (status, text) == (2, "")
    assert "did you mean 'light'" in err
