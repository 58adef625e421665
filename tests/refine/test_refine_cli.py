"""``depthlight refine``: files, folders, resuming, and every way it can be asked for the wrong thing."""

import json
import os
import signal
import stat
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from depthlight.cli import refine_task
from depthlight.cli.common import Progress
from depthlight.infer import mono
from depthlight.infer.owned import EVERY, REFINED_PHOTO
from depthlight.io.depth_files import write_depth
from depthlight.io.inverse_depth import read_inverse_depth
from depthlight.refine import files, priors

RECIPE = """
longest = 64
steps = 6
restarts = 1
lights = 2
lr_tokens = 3e-3
residual = true
unit = "standard"
smoothness = 0.1
"""


@pytest.fixture
def workshop(tmp_path, monkeypatch, photo, model, pull):
    """A folder with a photo and a recipe; the model and the prior are those of the tests."""
    monkeypatch.setattr(mono, "load_mono", lambda name, **options: model, raising=False)
    monkeypatch.setattr(priors, "load_guidance", lambda name, *a, **k: None if name == "none" else pull)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("photo.png")
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


def facts_of(folder):
    return json.loads((folder / "result.json").read_text())


def test_one_photo(workshop, call):
    status, out, err = call("refine", "photo.png", "-o", "out", "--recipe", "r.toml", "--steps", 4, "--seed", 9)
    assert status == 0 and "tiny" in out and "4 steps" in out and not err
    facts = facts_of(workshop / "out")
    metric = {"depth.npy", "depth.png", "depth.json"}
    assert sorted(facts["files"]) == sorted(set(REFINED_PHOTO) - {"result.json"} - metric), "everything is listed"
    there = {path.name for path in (workshop / "out").iterdir()}
    assert there == set(REFINED_PHOTO) - metric, "and nothing else is there"
    assert (facts["model"], facts["prior"]["name"], facts["recipe"]) == ("tiny", "pull", "r.toml")
    assert (facts["config"]["seed"], facts["config"]["steps"], facts["steps_done"]) == (9, 4, 4)
    assert facts["weights_sha256"] == "0" * 64 and facts["stopped"] == "" and facts["seconds"] > 0
    before, after = (np.load(workshop / "out" / f"{name}.npy") for name in ("before", "after"))
    assert before.dtype == after.dtype == np.float32 and before.shape == after.shape == (48, 64)
    assert not np.array_equal(before, after)
    stored, meta = read_inverse_depth(workshop / "out" / "inverse_depth.png")
    assert np.abs(stored - after).max() <= meta["encodings"]["png"]["scale"]
    for name in REFINED_PHOTO:
        if name.endswith(".png") and name not in ("inverse_depth.png", "depth.png"):
            with Image.open(workshop / "out" / name) as picture:
                assert picture.mode == "RGB"
    assert len((workshop / "out" / "losses.csv").read_text().splitlines()) == 5


def test_measured_depth_gives_metres(workshop, call, model, photo):
    before = model.predict(photo).values
    metres = 1 / (0.2 + 0.6 * (before - before.min()) / np.ptp(before))
    write_depth(workshop / "measured.npy", np.where(np.arange(64)[None, :] < 40, metres, 0).astype(np.float32))
    how = ("-o", "out", "--recipe", "r.toml", "--prior", "none")
    assert call("refine", "photo.png", *how, "--anchor", "measured.npy")[0] == 0
    facts = facts_of(workshop / "out")
    assert {"depth.npy", "depth.png", "depth.json"} <= set(facts["files"]) and "anchored" in facts["losses"]
    assert facts["anchor"]["trusted_share"] > 0.8
    depth = np.load(workshop / "out/depth.npy")
    assert np.median(np.abs(depth / metres - 1)) < 0.05
    assert call("refine", "photo.png", *how)[0] == 0
    assert not (workshop / "out/depth.npy").exists(), "not of this request"
    (workshop / "many").mkdir()
    status, _, err = call("refine", "many", *how, "--anchor", "measured.npy")
    assert status == 2 and err.count("\n") == 1


def test_no_prior_is_smoothness_alone(workshop, call):
    status, out, _ = call("refine", "photo.png", "-o", "out", "--recipe", "r.toml", "--prior", "none", "--json", "-q")
    assert status == 0
    facts = json.loads(out)
    assert facts["prior"] is None and set(facts["losses"]) == {"smoothness", "loss"}


def test_same_seed_same_files(workshop, call):
    for name in ("a", "b"):
        assert call("refine", "photo.png", "-o", name, "--recipe", "r.toml")[0] == 0
    for name in facts_of(workshop / "a")["files"]:
        assert (workshop / "a" / name).read_bytes() == (workshop / "b" / name).read_bytes(), name


def test_a_folder_goes_on_and_is_taken_up_again(workshop, call, photo):
    (workshop / "photos").mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(photo).save(workshop / "photos" / f"{name}.png")
    (workshop / "photos" / "b.png").write_bytes(b"\x89PNG but not really")
    command = ("refine", "photos", "-o", "out", "--recipe", "r.toml")
    status, out, err = call(*command)
    assert status == 1 and "2 done, 0 already there, 1 failed" in out and "b.png" in err
    Image.fromarray(photo[:, ::-1].copy()).save(workshop / "photos" / "b.png")
    (workshop / "out" / "c" / "after.npy").unlink()
    status, out, _ = call(*command)
    assert status == 0 and "2 done, 1 already there, 0 failed" in out, "b was bad, c incomplete"
    status, out, _ = call(*command, "--seed", 3)
    assert "3 done, 0 already there" in out, "another request is done again"
    assert "3 done" in call(*command, "--seed", 3, "--overwrite")[1]


def test_interrupted_and_resumed(workshop, call, pull, monkeypatch):
    command = ("refine", "photo.png", "--recipe", "r.toml", "--restarts", 2)
    assert call(*command, "-o", "whole")[0] == 0
    real = type(pull).loss
    asked = []

    def interrupting(self, scene, **options):
        asked.append(1)
        if len(asked) == 8:
            signal.raise_signal(signal.SIGINT)
        return real(self, scene, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(pull), "loss", interrupting)
        status, _, err = call(*command, "-o", "parts")
    assert status == 130 and "--resume" in err
    assert list((workshop / "parts" / "state").glob("step-000000008.pt"))
    assert not (workshop / "parts" / "result.json").exists()
    status, _, err = call(*command, "-o", "parts", "--resume", "--seed", 5)
    assert status == 2 and "another refinement" in err
    with monkeypatch.context() as patch:
        patch.setattr(type(pull), "loss", interrupting)
        assert call(*command, "-o", "parts", "--resume")[0] == 0
    assert len(asked) == 12, "eight steps before, four after"
    for name in ("before.npy", "after.npy", "losses.csv"):
        assert (workshop / "whole" / name).read_bytes() == (workshop / "parts" / name).read_bytes()
    assert not (workshop / "parts" / "state").exists()
    written = (workshop / "parts" / "result.json").stat().st_mtime_ns
    assert call(*command, "-o", "parts", "--resume")[0] == 0
    assert (workshop / "parts" / "result.json").stat().st_mtime_ns == written, "nothing was left to do"


def test_a_fault_ends_with_the_last_good_depth_and_status_1(workshop, call, pull):
    pull.fault, pull.fault_at = "gradient", 0.5
    status, _, err = call("refine", "photo.png", "-o", "out", "--recipe", "r.toml")
    assert status == 1 and "gradient of the tokens is not finite at step 4" in err and "was kept" in err
    assert len(err.strip().splitlines()) == 1
    facts = facts_of(workshop / "out")
    assert "step 4" in facts["stopped"] and facts["steps_done"] == 3
    after = np.load(workshop / "out" / "after.npy")
    assert np.isfinite(after).all() and after.max() > 0


def test_a_photo_that_ended_early_is_done_again(workshop, call, photo, pull):
    (workshop / "photos").mkdir()
    Image.fromarray(photo).save(workshop / "photos" / "a.png")
    command = ("refine", "photos", "-o", "out", "--recipe", "r.toml")
    pull.fault, pull.fault_at = "loss", 0.5
    assert call(*command)[0] == 1
    pull.fault_at = 2.0
    status, out, _ = call(*command)
    assert status == 0 and "1 done, 0 already there" in out


NO_PRIOR = ("refine", "photo.png", "-o", "out", "--recipe", "r.toml", "--prior", "none")


@pytest.mark.parametrize("whole", [0, 1, 5, len(REFINED_PHOTO) - 4])  # all but the metres; result.json is the last
def test_a_full_disk_leaves_no_result_that_claims_to_be_whole(whole, workshop, call, monkeypatch):
    """The disk is full once so many files are written."""
    real, written = os.fsync, []

    def full(handle):
        if stat.S_ISREG(os.fstat(handle).st_mode):
            if len(written) == whole:
                raise OSError(28, "No space left on device")
            written.append(handle)
        return real(handle)

    assert call(*NO_PRIOR)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, _, err = call(*NO_PRIOR)
    assert status == 2 and "No space left" in err and len(err.strip().splitlines()) == 1
    there = {path.name for path in (workshop / "out").iterdir()}
    assert "result.json" not in there and len(there) == whole and there <= set(REFINED_PHOTO), "nor a temporary file"
    assert call(*NO_PRIOR)[0] == 0


def test_a_folder_that_cannot_be_synced_is_no_reason_to_fail(workshop, call, monkeypatch):
    real = os.fsync

    def files_only(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        return real(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    assert call(*NO_PRIOR)[0] == 0 and (workshop / "out" / "result.json").is_file()


def test_a_result_of_another_kind_leaves_nothing_behind(workshop, call):
    (workshop / "out").mkdir()
    for name in EVERY:
        (workshop / "out" / name).write_bytes(b"of an earlier result")
    (workshop / "out" / "result.json").write_text(json.dumps({"files": EVERY}))
    assert call(*NO_PRIOR)[0] == 0
    assert {path.name for path in (workshop / "out").iterdir()} == {*facts_of(workshop / "out")["files"], "result.json"}


def test_an_unfinished_run_is_not_lost_by_mistake(workshop, call, pull, monkeypatch):
    real = type(pull).loss

    def interrupting(self, scene, **options):
        signal.raise_signal(signal.SIGINT)
        return real(self, scene, **options)

    command = ("refine", "photo.png", "-o", "out", "--recipe", "r.toml")
    with monkeypatch.context() as patch:
        patch.setattr(type(pull), "loss", interrupting)
        assert call(*command)[0] == 130
    status, _, err = call(*command)
    assert status == 2 and "--resume" in err and "--overwrite" in err and len(err.strip().splitlines()) == 1
    assert call(*command, "--overwrite")[0] == 0
    assert facts_of(workshop / "out")["steps_done"] == 6 and not (workshop / "out" / "state").exists()
    first = (workshop / "out" / "result.json").stat().st_mtime_ns
    assert call(*command, "--resume", "--overwrite")[0] == 0
    assert (workshop / "out" / "result.json").stat().st_mtime_ns != first, "what is there is done again"


class Bar:
    """A progress bar that tells where it is."""

    def __init__(self):
        self.at, self.resets = [], 0

    def update(self, task, *, completed, note):
        self.at.append(completed)

    def reset(self, task, *, completed, note):
        self.resets += 1
        self.at.append(completed)


def test_the_bar_of_a_resumed_run_begins_where_it_was_left(workshop, call, pull, monkeypatch):
    bars = []

    @contextmanager
    def shown(title, total, **_):
        assert total == 12, "two restarts of six steps"
        bars.append(Bar())
        yield Progress(bars[-1], 0)

    monkeypatch.setattr(refine_task, "progress", shown)
    real, asked = type(pull).loss, []

    def interrupting(self, scene, **options):
        asked.append(1)
        if len(asked) == 8:
            signal.raise_signal(signal.SIGINT)
        return real(self, scene, **options)

    monkeypatch.setattr(type(pull), "loss", interrupting)
    command = ("refine", "photo.png", "-o", "out", "--recipe", "r.toml", "--restarts", 2)
    assert call(*command)[0] == 130
    assert call(*command, "--resume")[0] == 0
    assert [bar.at for bar in bars] == [[*range(1, 9)], [*range(9, 13)]]
    assert [bar.resets for bar in bars] == [0, 1], "the steps of the earlier run count for no rate"


def test_the_guidance_is_drawn_without_the_weight_of_its_noise():
    """The level t falls over the run, and its weight with it: by itself that is no progress."""
    levels = np.linspace(0.75, 0.3, 40)
    weights = np.tan(np.pi / 2 * levels)
    rows = [
        {"restart": 1, "step": step, "guidance": 0.2 * weight, "t": t, "guidance_raw": 0.2, "loss": 0.2 * weight}
        for step, (t, weight) in enumerate(zip(levels, weights, strict=True), 1)
    ]
    lines = files.curve(rows)
    assert set(lines) == {"guidance"} and {share for _, share in lines["guidance"]} == {1.0}
    assert files.table(rows).decode().splitlines()[0] == "restart,step,guidance,t,guidance_raw,loss"
    plain = [{name: row[name] for name in ("restart", "step", "guidance", "loss")} for row in rows]
    assert files.curve(plain)["guidance"][-1][1] < 0.25, "as it is where the level is not known"


def test_a_prompt_and_a_precision_are_for_the_prior_that_is_loaded(workshop, call):
    said = ("--prompt", "a chair", "--precision", "bf16", "--recipe", "r.toml")
    status, _, err = call("refine", "photo.png", "-o", "out", "--prior", "sd-1.5", *said)
    assert status == 0 and not err and facts_of(workshop / "out")["config"]["guidance"]["prompt"] == "a chair"


def test_a_prior_that_is_not_there_is_told_once_before_any_photo_is_read(workshop, call, monkeypatch):
    (workshop / "two").mkdir()
    for name in ("a.png", "b.png"):
        (workshop / "two" / name).write_bytes(b"not looked at")
    status, _, err = call("refine", "two", "-o", "out", "--prior", "./nowhere", "--recipe", "r.toml")
    assert status == 2 and "nowhere" in err and len(err.strip().splitlines()) == 1 and not (workshop / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.png"], "gone.png does not exist"),
        (["photo.png", "photo.png", "--prompt", "a chair"], "--prompt is for one photo"),
        (["empty"], "no images"),
        (["photo.png", "--recipe", "fats"], "unknown recipe 'fats'"),
        (["photo.png", "--recipe", "gone.toml"], "gone.toml does not exist"),
        (["photo.png", "--steps", "0"], "steps"),
        (["photo.png", "--restarts", "-3"], "restarts"),
        (["photo.png", "--focal", "-3"], "the focal length is -3"),
        (["photo.png", "--focal", "1e-9"], "the focal length is 1e-09"),
        (["photo.png", "--focal", "nan"], "the focal length is nan"),
        (["photo.png", "--precision", "fp17"], "unknown precision 'fp17'"),
        (["photo.png", "--precision", "fp17", "--prior", "none"], "unknown precision 'fp17'"),
        (["photo.png", "--precision", "bf16", "--prior", "none"], "--precision is for a run with a prior"),
        (["photo.png", "--prompt", "a chair", "--prior", "none"], "--prompt is for a run with a prior"),
        (["photo.png", "--prior", "sd-1.5", "--recipe", "off.toml"], "guidance.weight is 0"),
        (["photo.png", "--steps", "9" * 20], "steps is 99"),
        (["photo.png", "--seed", "-1"], "seed"),
        (["r.toml"], "r.toml"),
        (["photo.png", "-o", "photo.png"], "photo.png"),
        (["out/before.npy", "-o", "out"], "would be replaced"),
    ],
)
def test_wrong_requests_are_one_line_and_status_2(arguments, said, workshop, call):
    (workshop / "empty").mkdir()
    (workshop / "out").mkdir()
    (workshop / "off.toml").write_text("[guidance]\nweight = 0")
    np.save(workshop / "out" / "before.npy", np.zeros((4, 4)))
    status, out, err = call("refine", *arguments)
    assert status == 2 and said in err and len(err.strip().splitlines()) == 1 and not out


def test_a_model_that_cannot_be_refined(workshop, call, net):
    net.quantity = "depth"
    status, _, err = call("refine", "photo.png", "-o", "out", "--recipe", "r.toml")
    assert status == 2 and "relative inverse depth" in err
    net.quantity, net.splits = "inverse_depth", False
    (workshop / "photo.png").write_bytes(b"not looked at")
    status, _, err = call("refine", "photo.png", "-o", "out", "--recipe", "r.toml")
    assert status == 2 and "split" in err
