"""``depthlight refine``: files, folders, resuming, and every way it can be asked for the wrong thing."""

import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from depthlight.infer import mono
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
    assert sorted(facts["files"]) == sorted(set(files.OWNED) - {"result.json"} - metric), "everything is listed"
    assert {path.name for path in (workshop / "out").iterdir()} == set(files.OWNED) - metric, (
        "and nothing else is there"
    )
    assert (facts["model"], facts["prior"]["name"], facts["recipe"]) == ("tiny", "pull", "r.toml")
    assert (facts["config"]["seed"], facts["config"]["steps"], facts["steps_done"]) == (9, 4, 4)
    assert facts["weights_sha256"] == "0" * 64 and facts["stopped"] == "" and facts["seconds"] > 0
    before, after = (np.load(workshop / "out" / f"{name}.npy") for name in ("before", "after"))
    assert before.dtype == after.dtype == np.float32 and before.shape == after.shape == (48, 64)
    assert not np.array_equal(before, after)
    stored, meta = read_inverse_depth(workshop / "out" / "inverse_depth.png")
    assert np.abs(stored - after).max() <= meta["encodings"]["png"]["scale"]
    for name in files.OWNED:
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


@pytest.mark.parametrize("number", [1, 2, 3, 4, 8, 12])
def test_a_full_disk_leaves_no_result_that_claims_to_be_whole(number, workshop, call, monkeypatch):
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == number:
            raise OSError(28, "No space left on device")
        return real(handle)

    command = ("refine", "photo.png", "-o", "out", "--recipe", "r.toml", "--prior", "none")
    assert call(*command)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, _, err = call(*command)
    if status:
        assert status == 2 and "No space left" in err and len(err.strip().splitlines()) == 1
        assert not (workshop / "out" / "result.json").exists()
    else:
        assert number % 2 == 0, "only the fsync of a folder may fail silently"
    assert not list((workshop / "out").glob(".*")), "a temporary file was left"
    assert call(*command)[0] == 0


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
        (["photo.png", "--focal", "-3"], "--focal"),
        (["photo.png", "--seed", "-1"], "seed"),
        (["r.toml"], "r.toml"),
        (["photo.png", "-o", "photo.png"], "photo.png"),
        (["out/before.npy", "-o", "out"], "would be replaced"),
    ],
)
def test_wrong_requests_are_one_line_and_status_2(arguments, said, workshop, call):
    (workshop / "empty").mkdir()
    (workshop / "out").mkdir()
    np.save(workshop / "out" / "before.npy", np.zeros((4, 4)))
    status, out, err = call("refine", *arguments)
    assert status == 2 and said in err and len(err.strip().splitlines()) == 1 and not out


def test_a_model_that_cannot_be_refined(workshop, call, net):
    net.quantity = "depth"
    status, _, err = call("refine", "photo.png", "-o", "out", "--recipe", "r.toml")
    assert status == 2 and "relative inverse depth" in err
    net.quantity, net.splits = "inverse_depth", False
    assert call("refine", "photo.png", "-o", "out", "--recipe", "r.toml")[0] == 2
