"""What a run writes, evaluates, refuses; T7."""

import json
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

import depthlight
from depthlight.cli import main
from depthlight.core.errors import DepthlightError, InputError
from depthlight.data.samples import StereoSample
from depthlight.data.scenes import SceneFolder
from depthlight.io.images import read_image
from depthlight.train import command, evaluation, pictures
from depthlight.train.config import TrainConfig
from depthlight.train.log import BAD, METRICS, BadLog, RunLog, append_row, read_rows
from depthlight.train.loop import CHECKPOINTS, CONFIG_FILE, Run, write_config
from depthlight.train.machine import convolution_layout
from depthlight.train.release import MODEL_FILE
from depthlight.train.start import make_start

Tiny = Callable[..., TrainConfig]


def test_the_model_of_a_run_loads_and_says_where_it_comes_from(tiny: Tiny, tmp_path: Path, pool: Path) -> None:
    first = Run(tiny(), tmp_path / "first", recipe="tiny", quiet=True)
    assert first.run() == 0
    again = tiny(start=str(tmp_path / "first" / MODEL_FILE), seed=7, network_config={})
    Run(again, tmp_path / "second", recipe="more", quiet=True).run()
    model = depthlight.load(str(tmp_path / "second" / MODEL_FILE))
    assert model.name == "light.second"
    scene = SceneFolder(pool)[0]
    assert model.predict(scene.left_HW3, scene.right_HW3, max_disp=32).disparity.shape == (64, 128)
    start = make_start(tiny(start=str(tmp_path / "second" / MODEL_FILE)))
    assert [entry["recipe"] for entry in start.lineage] == ["tiny", "more"]
    assert [entry["samples"] for entry in start.lineage] == [12, 12]
    assert start.lineage[0]["start_sha256"] == "" and len(start.lineage[1]["start_sha256"]) == 64
    assert start.net.max_disp == 32


def test_the_shipped_weights_are_the_averaged_ones(tiny: Tiny, tmp_path: Path) -> None:
    run = Run(tiny(), tmp_path, quiet=True)
    run.run()
    shipped = make_start(tiny(start=str(tmp_path / MODEL_FILE))).net.state_dict()
    assert run.ema is not None
    for name, value in run.ema.values.items():
        assert torch.equal(shipped[name], value)
    assert any(not torch.equal(shipped[name], value) for name, value in run.net.state_dict().items())


def test_it_evaluates_itself_into_a_table(tiny: Tiny, tmp_path: Path, pool: Path) -> None:
    names = tmp_path / "list.txt"
    names.write_text("plane-1\nplane-4\n")
    config = tiny(evaluate={"folder": str(pool), "list": str(names), "minutes": 0.0})
    Run(config, tmp_path / "run", quiet=True).run()
    rows = read_rows(tmp_path / "run" / evaluation.TABLE)
    assert [row["samples"] for row in rows] == ["2", "4", "6", "8", "10", "12", "12"]
    assert {"core_hours", "lr", "epe", "bad1", "bad2", "bad3", "d1", "plane_epe"} <= set(rows[0])
    assert rows[-1] == rows[-2] and float(rows[0]["epe"]) != float(rows[-1]["epe"])
    for picture in ("loss.png", "evaluation.png", "samples/plane-1.png", "samples/plane-4.png"):
        assert read_image(tmp_path / "run" / picture).std() > 10, picture
    assert (tmp_path / "run" / evaluation.TABLE).with_suffix(".md").read_text().count("\n") == 2 + len(rows)


def test_minutes_to_an_evaluation_outlast_a_stop(tiny: Tiny, tmp_path: Path, pool: Path) -> None:
    run = Run(tiny(evaluate={"folder": str(pool), "minutes": 30.0}), tmp_path, quiet=True)
    run.progress.core_seconds = 31 * 60.0  # of sessions before this one, in which no evaluation came about
    run.run()
    rows = read_rows(tmp_path / evaluation.TABLE)
    assert [row["samples"] for row in rows] == ["2", "12"], "at once, and at the end"


def test_every_step_has_a_row(tiny: Tiny, tmp_path: Path) -> None:
    Run(tiny(log_every=1), tmp_path, quiet=True).run()
    rows = read_rows(tmp_path / METRICS)
    assert [int(row["step"]) for row in rows] == list(range(1, 7))
    terms = ("full", "coarse", "bins")
    assert all(float(row["loss"]) == pytest.approx(sum(float(row[t]) for t in terms)) for row in rows)


def test_terms_that_come_and_go_keep_their_columns(tmp_path: Path) -> None:
    log = RunLog(tmp_path, quiet=True)
    log.row({"step": 1, "loss": 2.0, "coarse": 1.0, "lr": 0.1})
    log.flush()
    log.row({"lr": 0.2, "step": 2, "loss": 3.0})
    log.flush()
    log.row({"step": 3, "loss": 4.0, "lr": 0.3, "feature": 0.5})
    log.flush()
    rows = read_rows(tmp_path / METRICS)
    assert [(row["step"], row["loss"], row["coarse"], row["lr"]) for row in rows] == [
        ("1", "2.0", "1.0", "0.1"),
        ("2", "3.0", "", "0.2"),
        ("3", "4.0", "", "0.3"),
    ]
    assert [row["feature"] for row in rows] == ["", "", "0.5"]


def test_data_without_truth_teach_nothing_and_are_refused(tiny: Tiny, tmp_path: Path, pool: Path) -> None:
    shutil.copytree(pool, tmp_path / "bare")
    for path in (tmp_path / "bare").rglob("disp*.png"):
        path.unlink()
    data = [{"path": str(tmp_path / "bare"), "kind": "pairs"}]
    with pytest.raises(DepthlightError, match="no disparity to learn from"):
        Run(tiny(data=data, bad_samples="stop"), tmp_path / "one", quiet=True).run()
    Run(tiny(schedule={"samples": 2}), tmp_path / "start", quiet=True).run()
    start = {"start": str(tmp_path / "start" / MODEL_FILE), "network_config": {}}
    config = tiny(data=data, stage=2, schedule={"samples": 2}, augment={"mirrored_swap": 0.0}, **start)
    assert Run(config, tmp_path / "two", quiet=True).run() == 0, "stage 2 learns from its teacher"


def test_stage_two_without_a_start_has_no_teacher(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"stage 2 has no teacher; expected a start model\. --set start="):
        Run(tiny(stage=2), tmp_path, quiet=True)


def test_a_table_may_grow_columns_and_lose_a_torn_line(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    append_row(table, {"a": 1})
    append_row(table, {"a": 2, "b": 3})
    with table.open("a") as stream:
        stream.write("4,5")
    assert read_rows(table) == [{"a": "1", "b": ""}, {"a": "2", "b": "3"}]


@pytest.fixture
def holed(pool: Path, tmp_path: Path) -> Path:
    """The pool with two scenes that cannot be read."""
    root = tmp_path / "holed"
    shutil.copytree(pool, root)
    (root / "plane-2" / "left.png").write_bytes(b"no image")
    damaged = root / "plane-5" / "disp.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    return root


def test_bad_samples_are_told_and_counted(
    tiny: Tiny, tmp_path: Path, holed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tiny(data=[{"path": str(holed)}], schedule={"samples": 16}), tmp_path / "run")
    assert run.run() == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bad sample")]
    assert len(told) == run.progress.bad == 4  # two epochs
    assert sum("plane-2" in line for line in told) == sum("plane-5" in line for line in told) == 2


def test_bad_samples_are_listed_however_quiet_the_run(tiny: Tiny, tmp_path: Path, holed: Path) -> None:
    config = tiny(data=[{"path": str(holed)}], schedule={"samples": 16})
    Run(config, tmp_path / "run", quiet=True).run()
    rows = read_rows(tmp_path / "run" / BAD)
    assert len(rows) == 4
    assert {row["sample"] for row in rows} == {"holed/plane-2", "holed/plane-5"}
    assert all(str(holed / row["sample"].split("/")[1]) in row["error"] for row in rows)
    log = BadLog(tmp_path / "run", 0)
    log.resume(int(rows[2]["position"]))
    assert read_rows(tmp_path / "run" / BAD) == rows[:2], "positions that come again are listed again"


def test_a_sample_drawn_often_is_one_bad_sample(tiny: Tiny, tmp_path: Path, holed: Path) -> None:
    config = tiny(data=[{"path": str(holed)}], schedule={"samples": 16}, max_bad_samples=2)
    run = Run(config, tmp_path / "run", quiet=True)
    assert run.run() == 0
    assert run.progress.bad == 4 and run.progress.bad_names == ("holed/plane-2", "holed/plane-5")


def test_nothing_but_bad_samples_ends_a_run(tiny: Tiny, tmp_path: Path, holed: Path) -> None:
    for name in ("plane-2", "plane-5"):
        shutil.copytree(holed / name, tmp_path / "bad" / name)
    config = tiny(data=[{"path": str(tmp_path / "bad")}], schedule={"samples": 10_000}, max_bad_samples=2)
    with pytest.raises(DepthlightError, match=r"none of the last 100 samples could be read"):
        Run(config, tmp_path / "run", quiet=True).run()


def test_a_run_without_a_checkpoint_begins_its_tables_anew(tiny: Tiny, tmp_path: Path, holed: Path) -> None:
    config = tiny(data=[{"path": str(holed)}], schedule={"samples": 8})
    rows = []
    for _ in range(2):
        Run(config, tmp_path / "run", quiet=True).run()
        rows.append((read_rows(tmp_path / "run" / BAD), len(read_rows(tmp_path / "run" / METRICS))))
        shutil.rmtree(tmp_path / "run" / CHECKPOINTS)
    assert rows[0] == rows[1]


def test_ten_kinds_of_damage_are_ten_bad_samples(
    tiny: Tiny, tmp_path: Path, pool: Path, scene_writer: Callable[..., None]
) -> None:
    """T7: each is named with a reason, none ends the run, and the good ones are learned from."""
    root = tmp_path / "holed"
    shutil.copytree(pool, root)
    for index in range(10):
        scene_writer(root / f"bad-{index}", index)
    scene_writer(tmp_path / "larger", 0, (96, 160))

    def damage(index: int, name: str, data: bytes) -> None:
        (root / f"bad-{index}" / name).write_bytes(data)

    left, disparity = ((root / "bad-0" / name).read_bytes() for name in ("left.png", "disp.png"))
    damage(0, "left.png", b"")
    damage(1, "left.png", b"no image")
    damage(2, "left.png", left[:100])
    damage(3, "right.png", left[: len(left) // 2])
    damage(4, "right.png", bytes(len(left)))
    damage(5, "right.png", (tmp_path / "larger" / "right.png").read_bytes())
    damage(6, "disp.png", disparity[:100])
    damage(7, "disp.png", left)  # a picture, no map
    damage(8, "disp.png", (tmp_path / "larger" / "disp.png").read_bytes())
    damage(9, "disp_right.png", b"no image")
    run = Run(tiny(data=[{"path": str(root)}], schedule={"samples": 18}), tmp_path / "run", quiet=True)
    assert run.run() == 0
    rows = read_rows(tmp_path / "run" / BAD)
    assert sorted(row["sample"] for row in rows) == [f"holed/bad-{index}" for index in range(10)]
    assert all(row["error"] for row in rows)
    assert run.progress.bad == 10 and run.progress.samples == 18


def test_bad_samples_stop_a_strict_run_and_too_many_any(tiny: Tiny, tmp_path: Path, holed: Path) -> None:
    data = [{"path": str(holed)}]
    with pytest.raises(InputError, match=r"plane-[25]"):
        Run(tiny(data=data, bad_samples="stop"), tmp_path / "strict", quiet=True).run()
    with pytest.raises(DepthlightError, match="max_bad_samples = 1"):
        Run(tiny(data=data, max_bad_samples=1), tmp_path / "few", quiet=True).run()


def test_a_stop_during_an_evaluation_is_taken_at_the_next_step(
    tiny: Tiny, tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tiny(evaluate={"folder": str(pool), "minutes": 0.0}), tmp_path, quiet=True)
    seen: list[str] = []

    def write(sample: StereoSample, _: object) -> None:
        seen.append(sample.name)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(pictures, "sample_writer", lambda folder: write)
    assert run.run() == 143
    assert seen == ["plane-0"], "nothing is evaluated after the signal"
    assert run.progress.step == 2
    assert not (tmp_path / evaluation.TABLE).exists()


def test_a_run_is_kept_with_absolute_paths(tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pool.parent)
    here, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    settings = ["crop=[64,96]", "network_config.max_disp=96", "schedule.samples=2", "workers=0", "batch=2", "threads=1"]
    command.start("cpu", [pool.name], [*settings, f"evaluate.folder={pool.name}"], here, quiet=True)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert command.start(None, [], ["schedule.samples=4"], here, resume=True, quiet=True) == 0
    written = json.loads((here / CONFIG_FILE).read_text())["config"]
    assert written["data"][0]["path"] == written["evaluate"]["folder"] == str(pool.resolve())


def test_a_run_begun_before_a_setting_was_dropped_resumes(tiny: Tiny, tmp_path: Path) -> None:
    Run(tiny(), tmp_path, quiet=True)
    write_config(tiny(), tmp_path, "cpu")
    content = json.loads((tmp_path / CONFIG_FILE).read_text())
    content["config"]["data"][0]["limit"] = 0
    (tmp_path / CONFIG_FILE).write_text(json.dumps(content))
    assert command.start(None, [], [], tmp_path, resume=True, quiet=True) == 0


def test_a_folder_with_a_run_is_not_overwritten(tiny: Tiny, tmp_path: Path, pool: Path) -> None:
    out = tmp_path / "run"
    settings = ["crop=[64,96]", "network_config.max_disp=96", "schedule.samples=4", "workers=0", "batch=2", "threads=1"]
    assert command.start("cpu", [str(pool)], settings, out, quiet=True) == 0
    with pytest.raises(InputError, match="--resume"):
        command.start("cpu", [str(pool)], settings, out, quiet=True)
    assert command.start(None, [], ["schedule.samples=6"], out, resume=True, quiet=True) == 0
    assert json.loads((out / CONFIG_FILE).read_text())["config"]["schedule"]["samples"] == 6
    assert (out / CHECKPOINTS / "step-000000003.json").is_file()


def test_a_resume_that_fails_leaves_the_configuration_as_it_was(
    tiny: Tiny, tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(tiny(), tmp_path, "cpu")
    Run(tiny(schedule={"samples": 2}), tmp_path, quiet=True).run()
    before = (tmp_path / CONFIG_FILE).read_bytes()

    def resume(*settings: str, data: Sequence[str] = (), ranks: int = 1) -> int:
        return command.start(None, data, settings, tmp_path, resume=True, ranks=ranks, quiet=True)

    with pytest.raises(InputError, match="typo"):
        resume(data=["typo"])
    for wrong, message in (("evaluate.folder=typo", "typo"), ("stage=2", "no teacher")):
        with pytest.raises(InputError, match=message):
            resume(wrong)
    assert (tmp_path / CONFIG_FILE).read_bytes() == before
    with monkeypatch.context() as patch:
        patch.setattr(command, "launch", lambda *_, **__: 2)  # the ranks read the configuration from the folder
        assert resume("evaluate.folder=typo", ranks=2) == 2
        assert (tmp_path / CONFIG_FILE).read_bytes() == before
        patch.setattr(command, "launch", lambda *_, **__: 143)
        assert resume("keep=7", ranks=2) == 143
    assert json.loads((tmp_path / CONFIG_FILE).read_text())["config"]["keep"] == 7, "a stop is no failure"
    assert resume("keep=3") == 0


def test_a_resume_that_has_saved_keeps_its_configuration(tiny: Tiny, tmp_path: Path, pool: Path) -> None:
    write_config(tiny(), tmp_path / "run", "cpu")
    Run(tiny(schedule={"samples": 2}), tmp_path / "run", quiet=True).run()
    shutil.copytree(pool / "plane-0", tmp_path / "scenes" / "one")
    (tmp_path / "scenes" / "one" / "disp.png").write_bytes(b"no map")
    settings = [f"evaluate.folder={tmp_path / 'scenes'}", "schedule.samples=4", "schedule.warmup=0"]
    with pytest.raises(InputError, match="evaluation scenes"):  # at its end
        command.start(None, [], settings, tmp_path / "run", resume=True, quiet=True)
    assert json.loads((tmp_path / "run" / CONFIG_FILE).read_text())["config"]["schedule"]["samples"] == 4


def test_wrong_starts_end_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one of"):
        command.start(None, [], [], tmp_path)
    with pytest.raises(InputError, match="no run that could be resumed"):
        command.start(None, [], [], tmp_path / "none", resume=True)
    with pytest.raises(InputError, match="no data"):
        command.start("cpu", [], [], tmp_path / "empty", quiet=True)


def test_bf16_trains_ranges_that_torchs_kernels_get_wrong(tiny: Tiny, tmp_path: Path) -> None:
    """A volume of two bins (see ``nets.ops.conv3d``): what memory held before must not matter."""
    weights = []
    for name in ("one", "two"):
        spoilt = [torch.full((1 << size,), torch.nan) for size in range(4, 19) for _ in range(20)]
        del spoilt
        run = Run(tiny(amp="bf16", schedule={"samples": 4}), tmp_path / name, quiet=True)
        assert run.run() == 0
        weights.append(torch.cat([value.flatten() for value in run.net.parameters()]))
    assert weights[0].isfinite().all() and torch.equal(*weights)


def test_each_convolution_gets_the_layout_of_its_rank() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.Conv3d(4, 8, 3), torch.nn.ConvTranspose3d(4, 8, 2))
    convolution_layout(net)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert net[2].weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_the_command_line_shows_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["train", "cpu", "--data", "pool", "--set", "batch=8", "--show"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["batch"] == 8 and shown["data"][0]["path"] == "pool"


@pytest.mark.parametrize(
    "arguments", [["train"], ["train", "cpuu"], ["train", "cpu", "--set", "lr=1"], ["train", "--resume"]]
)
def test_the_command_line_refuses_in_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("depthlight: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_evaluation_without_a_single_good_scene_is_told(tiny: Tiny, tmp_path: Path, pool: Path) -> None:
    broken = tmp_path / "scenes"
    shutil.copytree(pool / "plane-0", broken / "one")
    (broken / "one" / "disp.png").write_bytes(b"no map")
    config = tiny(evaluate={"folder": str(broken)})
    with pytest.raises(InputError, match=r"none of the 1 evaluation scenes.*disp\.png"):
        Run(config, tmp_path / "run", quiet=True).run()
    assert list((tmp_path / "run" / CHECKPOINTS).glob("step-*.json")), "the work done is saved"


def test_precision_is_settled_when_a_run_begins(tiny, tmp_path, monkeypatch):
    from depthlight.train import machine

    seconds = {torch.float32: 1.0, torch.bfloat16: 2.0}
    monkeypatch.setattr(machine, "_convolution_seconds", seconds.get)
    assert machine.resolve_precision("auto", "cpu") == "fp32"
    assert machine.resolve_precision("bf16", "cpu") == "bf16"
    assert Run(tiny(amp="auto"), tmp_path, quiet=True).config.amp == "fp32"
    seconds[torch.bfloat16] = 0.5
    assert machine.resolve_precision("auto", "cpu") == "bf16"


def test_precision_is_measured_on_this_machine():
    from depthlight.train import machine

    assert machine.resolve_precision("auto", "cpu") in ("bf16", "fp32")
