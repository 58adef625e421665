"""The benchmark: turns, ratios, floors, counts, and rows that cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from depthlight.core.errors import ConfigError, InputError
from depthlight.core.registry import DEFAULT_MODEL
from depthlight.eval import bench, bench_worker
from depthlight.eval.bench import Measured, Row

PLACE = {"height": 64, "width": 256, "threads": 1}


def measured(row: Row, seconds: list[list[float]], **facts: float) -> Measured:
    return Measured(row=row, turns=[{"seconds": turn, "peak_mib": 100.0} for turn in seconds], facts=facts)


def test_a_slow_round_does_not_change_a_ratio():
    base = measured(Row(model=bench.BASELINE, backend="opencv"), [[1, 1, 1], [9, 9, 9], [1, 1, 50]])
    row = measured(Row(model="light"), [[2, 2, 2], [18, 18, 18], [2, 2, 2]])
    assert row.ratio(base) == 2
    assert base.ratio(row) == 0.5
    assert [one["of_sgbm_3way"] for one in bench.report([row, base])] == [2, 1]


def test_the_floor_is_that_of_the_same_precision():
    peaks = [
        measured(Row(model=bench.PEAK, backend="torch", precision=precision), [[seconds]], macs=1e9)
        for precision, seconds in (("fp32", 0.01), ("bf16", 0.005))
    ]
    base = measured(Row(model=bench.BASELINE, backend="opencv"), [[1]])
    net = measured(Row(model="light", backend="openvino", precision="bf16"), [[0.1]], macs=10e9)
    other_threads = measured(Row(model="light", threads=2), [[0.1]], macs=10e9)
    base2 = measured(Row(model=bench.BASELINE, backend="opencv", threads=2), [[1]])
    found = bench.report([net, *peaks, base, other_threads, base2])
    assert found[0]["gmacs_per_second"] == pytest.approx(100)
    assert found[0]["of_floor"] == pytest.approx(2)
    assert found[3]["of_floor"] is None
    assert found[4]["of_floor"] is None


def test_rows_take_turns_beside_the_baseline():
    heard: list[str] = []
    row = Row(model="sgbm:HH", backend="opencv", **PLACE)
    found, failed = bench.run([row], rounds=2, runs=2, told=heard.append)
    assert failed == {}
    assert [one.row.model for one in found] == ["sgbm:HH", "sgbm:3WAY"]
    assert [note.split()[2] for note in heard if note.startswith("round")] == ["sgbm:HH", "sgbm:3WAY"] * 2
    assert all(len(turn["seconds"]) == 2 and min(turn["seconds"]) > 0 for one in found for turn in one.turns)
    assert all(turn["peak_mib"] >= turn["before_mib"] for one in found for turn in one.turns)


def test_what_cannot_be_measured_is_named():
    with pytest.raises(InputError, match=r"light onnxruntime bf16.*onnxruntime runs in fp32"):
        bench.run([Row(model="light", precision="bf16", **PLACE)], rounds=1, runs=1)
    with pytest.raises(InputError, match="cannot be measured"):
        bench.run([Row(model="light", worker=("depthlight.no_such_worker",), **PLACE)], rounds=1, runs=1)
    with pytest.raises(ConfigError, match="at least 32x256"):
        Row(model="light", height=8)


def test_a_row_that_fails_is_left_out_and_the_others_stay():
    good, bad = Row(model="sgbm:HH", backend="opencv", **PLACE), Row(model="light", precision="bf16", **PLACE)
    heard: list[str] = []
    found, failed = bench.run([bad, good], rounds=2, runs=1, told=heard.append)
    assert [one.row for one in found] == [good, Row(model=bench.BASELINE, backend="opencv", **PLACE)]
    assert list(failed) == [bad] and "onnxruntime runs in fp32" in failed[bad]
    assert sum("light" in note for note in heard) == 1, "not tried again"
    assert len(bench.report(found)) == 2


def test_counts_of_the_bundled_network():
    facts = bench_worker.count(Row(model=DEFAULT_MODEL, backend="auto", height=60, width=256))
    assert facts["parameters"] == 2_015_961
    assert facts["macs"] == pytest.approx(23.6e9 * 64 * 256 / (384 * 1248), rel=0.1)
    assert len(facts["weights_sha256"]) == 64


def test_a_pass_is_the_network_alone_on_a_padded_pair(make_pair, tmp_path):
    left, right = make_pair(6, 60, 250)
    np.save(tmp_path / "left.npy", left)
    np.save(tmp_path / "right.npy", right)
    disparity, _ = bench_worker._one_pass(Row(model="light", **PLACE), left, right)()
    assert disparity.shape == (1, 64, 256)
    turn = bench_worker.time_passes(Row(model="light", **PLACE), tmp_path, 3)
    assert len(turn["seconds"]) == 3
