"""``depthlight eval``: a model on scenes with ground truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from depthlight.io.disparity_files import write_disparity


@pytest.fixture
def scenes(save, tmp_path, make_pair):
    root = tmp_path / "scenes"
    for i in range(2):
        left, right = make_pair(6, 48, 80, seed=i)
        save(root / f"made-{i}/left.png", left)
        save(root / f"made-{i}/right.png", right)
        write_disparity(root / f"made-{i}/disp.png", np.full((48, 80), 6, np.float32), sidecar=False)
    return root


def test_eval_writes_the_schema_and_checks_assertions(call, tmp_path, scenes):
    result = tmp_path / "r.json"
    status, text, _ = call("eval", scenes, "--json", result, "--csv", tmp_path / "r.csv", "--pictures", tmp_path / "p")
    assert (status, "made" in text) == (0, True)
    facts = json.loads(result.read_text())
    assert set(facts["scenes"]) == {"made-0", "made-1"}
    assert {"epe", "bad1", "bad2", "bad3", "d1", "density"} <= set(facts["mean"])
    assert facts["groups"]["made"]["n"] == 2
    assert {path.name for path in (tmp_path / "p").iterdir()} == {"made-0.png", "made-1.png"}
    assert call("eval", scenes, "--assert", "mean.epe<=100", "-q")[0] == 0
    status, _, err = call("eval", scenes, "--assert", "mean.epe<=0.0001", "-q")
    assert status == 1
    assert "mean.epe" in err


def test_eval_takes_a_list_and_counts_failures(call, tmp_path, scenes):
    (tmp_path / "names.txt").write_text("made-1\n")
    _, text, _ = call("eval", scenes, "--list", tmp_path / "names.txt", "--json", "-")
    assert list(json.loads(text)["scenes"]) == ["made-1"]
    (scenes / "made-0/right.png").write_bytes(b"gone")
    status, text, err = call("eval", scenes, "--json", "-")
    assert status == 1
    assert json.loads(text)["counts"] == {"scenes": 1, "noc": 0, "failed": 1}
    assert "made-0" in err
