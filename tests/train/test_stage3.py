import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from depthlight.core.errors import ConfigError, DepthlightError, FileFormatError, InputError
from depthlight.core.signals import StopRequestedError
from depthlight.data.folders import PairFolder
from depthlight.data.samples import StereoSample
from depthlight.data.scenes import SceneFolder
from depthlight.infer import passes as infer_passes
from depthlight.infer.prediction import ModelIdentity, StereoPrediction
from depthlight.io.disparity_files import read_disparity, write_disparity
from depthlight.train import stage3
from depthlight.train.config import TeacherConfig, TrainConfig
from depthlight.train.distributed import Ranks

Tiny = Callable[..., TrainConfig]
PLAIN = TeacherConfig(ensemble=False, left_right=False, edges=False, spread_px=0.0)


class Answer:
    """A model that answers one disparity per px of width, times ``factor``."""

    def __init__(self, factor: float, max_disp: int = 192) -> None:
        self.name, self.factor, self.max_disp = "answer", factor, max_disp
        self.identity = ModelIdentity("answer", f"weights of {factor}", "", "", "")

    def predict(self, left: Any, right: Any, *, max_disp: int | None = None) -> StereoPrediction:
        height, width = left.shape[:2]
        disparity = np.full((height, width), self.factor * width, np.float32)
        flat = np.ones_like(disparity)
        return StereoPrediction(disparity, flat, flat > 0, 0.0, self.identity, self.max_disp, 0.0, None)


def teacher(monkeypatch: pytest.MonkeyPatch, config: TeacherConfig, *factors: float) -> stage3.Teacher:
    models = iter([Answer(factor) for factor in factors])
    monkeypatch.setattr(stage3, "load", lambda name, backend, device: next(models))
    names = tuple(f"m{i}" for i in range(len(factors)))
    return stage3.Teacher(TeacherConfig(**{**vars(config), "models": names}), start="")


def shot(folder: Path, *names: str) -> PairFolder:
    """Pairs of those names in a folder, as Flickr1024 has them: ``Train/0001_L.png`` and ``_R``."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for side in "LR":
            cv2.imwrite(str(folder / f"{name}_{side}.png"), np.zeros((64, 128, 3), np.uint8))
    return PairFolder(folder)


def draw_sky(folder: Path, *names: str) -> Path:
    """Masks of those names: sky above, in the first 20 rows."""
    mask = np.zeros((64, 128), np.uint8)
    mask[:20] = 255
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{name}.png"), mask)
    return folder


@pytest.fixture
def sample(pool: Path) -> StereoSample:
    return SceneFolder(pool)[0]  # 64×128


def test_models_are_averaged(monkeypatch: pytest.MonkeyPatch, sample: StereoSample) -> None:
    disparity, trusted = teacher(monkeypatch, PLAIN, 0.1, 0.2).label(sample)
    np.testing.assert_allclose(disparity, 0.15 * 128, rtol=1e-6)
    assert trusted.all()


def test_all_variants_come_back_at_the_pairs_own_scale(monkeypatch: pytest.MonkeyPatch, sample: StereoSample) -> None:
    config = TeacherConfig(left_right=False, edges=False)
    disparity, trusted = teacher(monkeypatch, config, 0.1).label(sample)
    np.testing.assert_allclose(disparity, 12.8, rtol=1e-4)
    assert trusted.all()


def test_where_passes_disagree_nothing_is_learned(monkeypatch: pytest.MonkeyPatch, sample: StereoSample) -> None:
    made = teacher(monkeypatch, TeacherConfig(left_right=False, edges=False), 0.1)
    odd = np.full((64, 128), 12.8, np.float32)
    odd[:, :40] += 10
    monkeypatch.setattr(infer_passes, "run_pass", lambda *_: (odd, np.ones_like(odd)))
    _, trusted = made.label(sample)
    assert not trusted[:, :40].any() and trusted[:, 40:].all()


def test_matches_outside_the_right_view_are_left_out(monkeypatch: pytest.MonkeyPatch, sample: StereoSample) -> None:
    config = TeacherConfig(ensemble=False, edges=False)
    _, trusted = teacher(monkeypatch, config, 0.1).label(sample)
    assert not trusted[:, :12].any() and trusted[:, 13:].all()


def test_sky_is_far_and_trusted(monkeypatch: pytest.MonkeyPatch, sample: StereoSample, tmp_path: Path) -> None:
    sky = np.zeros((64, 128), np.uint8)
    sky[:20] = 255
    cv2.imwrite(str(tmp_path / "plane-0.png"), sky)
    config = TeacherConfig(ensemble=False, edges=False, sky=str(tmp_path))
    disparity, trusted = teacher(monkeypatch, config, 0.1).label(sample)
    assert (disparity[:20] == 0).all() and trusted[:20].all()
    write_disparity(tmp_path / "label.png", disparity, valid_HW=trusted, sidecar=False)
    kept = read_disparity(tmp_path / "label.png")
    assert kept.valid_HW[:20].all() and kept.disparity_HW[:20].max() < 0.01
    cv2.imwrite(str(tmp_path / "plane-0.png"), sky[:10])
    with pytest.raises(FileFormatError, match=r"plane-0\.png"):
        teacher(monkeypatch, config, 0.1).label(sample)


def test_labels_are_made_once_and_taken_up_after_a_stop(
    monkeypatch: pytest.MonkeyPatch, tiny: Tiny, pool: Path, tmp_path: Path
) -> None:
    pairs = SceneFolder(pool, need_truth=False)
    said: list[str] = []
    calls = iter(range(100))

    def stop_at_third() -> None:
        if next(calls) == 3:
            raise StopRequestedError

    with pytest.raises(StopRequestedError):
        stage3.make_labels([pairs], teacher(monkeypatch, PLAIN, 0.1), tmp_path, said.append, stop_at_third)
    assert len(said) == 3
    stage3.make_labels([pairs], teacher(monkeypatch, PLAIN, 0.2), tmp_path, said.append, lambda: None)
    assert len(said) == 8
    labelled = stage3.Labelled(pairs, tmp_path)
    kept = [float(np.asarray(labelled[i].disparity_HW).mean()) for i in range(8)]
    assert kept == pytest.approx([12.8] * 3 + [25.6] * 5, abs=0.01)


def test_a_stop_is_heard_before_every_pass(monkeypatch: pytest.MonkeyPatch, sample: StereoSample) -> None:
    made = teacher(monkeypatch, TeacherConfig(edges=False), 0.1, 0.1)
    checks, passes = [], []
    real = Answer.predict

    def predict(self: Answer, *views: Any, **options: Any) -> StereoPrediction:
        passes.append(len(checks))
        return real(self, *views, **options)

    monkeypatch.setattr(Answer, "predict", predict)
    made.label(sample, lambda: checks.append(1))
    assert passes == list(range(1, 15))  # two models: six passes each, and the mirrored one


def test_only_pairs_get_labels_and_a_given_folder_is_used(tiny: Tiny, pool: Path, tmp_path: Path) -> None:
    for scene in SceneFolder(pool)._names:
        write_disparity(tmp_path / pool.name / f"{scene}.png", np.full((64, 128), 3, np.float32), sidecar=False)
    data = [{"path": str(pool)}, {"path": str(pool), "kind": "pairs"}]
    config = tiny(stage=3, data=data, teacher={"labels": str(tmp_path)})
    labelled, pairs = SceneFolder(pool), SceneFolder(pool, need_truth=False)
    out = stage3.with_labels([labelled, pairs], config, tmp_path / "run", Ranks(), print, lambda: None)
    assert out[0] is labelled
    assert (np.asarray(out[1][0].disparity_HW) == 3).all()
    with pytest.raises(InputError, match="unlabelled pairs"):
        stage3.with_labels([labelled], tiny(stage=3), tmp_path, Ranks(), print, lambda: None)


def test_folders_of_one_name_would_share_their_labels(tiny: Tiny, pool: Path, tmp_path: Path) -> None:
    shutil.copytree(pool, tmp_path / pool.name)
    data = [{"path": str(pool), "kind": "pairs"}, {"path": str(tmp_path / pool.name), "kind": "pairs"}]
    sets = [SceneFolder(one["path"], need_truth=False) for one in data]
    with pytest.raises(InputError, match=f"2 folders of pairs are called {pool.name}"):
        stage3.with_labels(sets, tiny(stage=3, data=data), tmp_path, Ranks(), print, lambda: None)


def test_labels_of_another_teacher_are_not_taken_up(
    tiny: Tiny, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [{"path": str(pool), "kind": "pairs"}]
    pairs = [SceneFolder(pool, need_truth=False)]

    def ask(start: str, factor: float = 0.1, **teacher: Any) -> None:
        monkeypatch.setattr(stage3, "load", lambda name, backend, device: Answer(factor))
        config = tiny(stage=3, data=data, start=start, teacher={**vars(PLAIN), **teacher})
        stage3.with_labels(pairs, config, tmp_path, Ranks(), print, lambda: None)

    ask("a/model.safetensors")
    ask("moved/elsewhere.safetensors")
    for options in ({"spread_px": 2.0}, {"factor": 0.2}):  # another rule; other weights under the same name
        with pytest.raises(ConfigError, match="another teacher"):
            ask("a/model.safetensors", **options)


def test_ranks_label_each_pair_once_and_none_is_left(
    tiny: Tiny, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = SceneFolder(pool, need_truth=False)
    said: list[list[str]] = [[], []]
    made = teacher(monkeypatch, PLAIN, 0.1)
    calls = iter(range(100))

    def stop_at_second() -> None:
        if next(calls) == 2:
            raise StopRequestedError

    def label(rank: int, check: Callable[[], None] = lambda: None) -> None:
        stage3.make_labels([pairs], made, tmp_path, said[rank].append, check, Ranks(rank, 2))

    with pytest.raises(StopRequestedError):
        label(0, stop_at_second)
    label(1)
    names = [[line.split(":")[1].split(",")[0].strip() for line in lines] for lines in said]
    scenes = [f"{pool.name}/plane-{index}" for index in range(8)]
    assert names == [scenes[0:4:2], [*scenes[1::2], scenes[6], scenes[4]]], "its own, then what the other has left"
    label(0)
    assert len(said[0]) == 2, "all are there"


def test_a_pair_that_cannot_be_read_is_left_without_a_label(
    monkeypatch: pytest.MonkeyPatch, pool: Path, tmp_path: Path
) -> None:
    shutil.copytree(pool, tmp_path / "holed")
    (tmp_path / "holed" / "plane-2" / "left.png").write_bytes(b"no image")
    pairs = SceneFolder(tmp_path / "holed", need_truth=False)
    said: list[str] = []
    made = teacher(monkeypatch, PLAIN, 0.1)
    stage3.make_labels([pairs], made, tmp_path / "labels", said.append, lambda: None)
    assert [line for line in said if "bad sample holed/plane-2" in line] and len(said) == 8
    assert sorted(path.stem for path in (tmp_path / "labels").rglob("*.png")) == [
        f"plane-{index}" for index in range(8) if index != 2
    ]
    with pytest.raises(InputError, match="bad sample holed/plane-2"):
        stage3.make_labels([pairs], made, tmp_path / "strict", said.append, lambda: None, strict=True)


def test_sky_masks_of_another_format_are_refused(
    monkeypatch: pytest.MonkeyPatch, sample: StereoSample, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "plane-0.jpg"), np.zeros((64, 128), np.uint8))
    with pytest.raises(InputError, match=r"plane-0\.jpg would not be found"):
        teacher(monkeypatch, TeacherConfig(sky=str(tmp_path)), 0.1)
    with pytest.raises(FileFormatError, match=r"plane-0\.jpg has another format"):
        teacher(monkeypatch, PLAIN, 0.1).label(sample, sky=tmp_path / "plane-0.jpg")


def test_a_pair_gets_the_sky_of_its_full_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pairs = shot(tmp_path / "flickr", "Train/0001", "Test/0001", "Test/0002")
    sky = draw_sky(tmp_path / "sky", "Train/0001", "0002")
    made = teacher(monkeypatch, TeacherConfig(**{**vars(PLAIN), "sky": str(sky)}), 0.1)
    stage3.make_labels([pairs], made, tmp_path / "labels", lambda _: None, lambda: None)
    labelled = stage3.Labelled(pairs, tmp_path / "labels")
    far = {labelled[i].name: float(np.asarray(labelled[i].disparity_HW)[:20].max()) < 0.01 for i in range(3)}
    assert far == {"Train/0001": True, "Test/0001": False, "Test/0002": True}, "0002 is the only one to end so"


def test_a_sky_that_several_pairs_could_have_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pairs = [shot(tmp_path / "flickr", "Train/0001", "Test/0001"), shot(tmp_path / "holopix", "0002")]
    sky = draw_sky(tmp_path / "sky", "Train/0001", "0001")
    made = teacher(monkeypatch, TeacherConfig(**{**vars(PLAIN), "sky": str(sky)}), 0.1)
    with pytest.raises(InputError, match=r"sky/0001\.png could be that of 2 pairs.*sky/flickr/Test/0001\.png"):
        stage3.make_labels(pairs, made, tmp_path / "labels", print, lambda: None)
    assert not (tmp_path / "labels").exists()
    draw_sky(sky, "flickr/Test/0001", "0002")
    masks = {"flickr/Train/0001": "Train/0001", "flickr/Test/0001": "flickr/Test/0001", "holopix/0002": "0002"}
    assert stage3.sky_masks(pairs, sky) == {name: sky / f"{mask}.png" for name, mask in masks.items()}
    with pytest.raises(InputError, match=r"0002\.png could be that of 2 pairs"):
        stage3.sky_masks([*pairs, shot(tmp_path / "uasol", "0002")], sky)
    assert stage3.sky_masks([shot(tmp_path / "mixed", "0001", "Train/0001")], sky) == {
        "mixed/0001": sky / "0001.png",
        "mixed/Train/0001": sky / "Train/0001.png",
    }, "each has its full name"


def test_a_folder_without_masks_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no sky masks"):
        teacher(monkeypatch, TeacherConfig(sky=str(tmp_path / "none")), 0.1)


def test_labels_made_elsewhere_lie_where_their_pairs_do(tiny: Tiny, tmp_path: Path) -> None:
    pairs = shot(tmp_path / "flickr", "Train/0001", "Test/0001", "Test/0002")
    labels = tmp_path / "labels"
    for name, disparity in (("Train/0001", 3), ("Test/0001", 5)):
        (labels / "flickr" / name).parent.mkdir(parents=True)
        raw = np.full((64, 128), 256 * disparity, np.uint16)
        raw[:20] = 0
        cv2.imwrite(str(labels / "flickr" / f"{name}.png"), raw)
    made = stage3.label_path(labels, pairs, 0)
    assert pairs.sample_name(0) == "Test/0001" and made.name == "Test_0001-15d03154.png"
    write_disparity(made, np.full((64, 128), 7, np.float32), sidecar=False)
    config = tiny(stage=3, data=[{"path": str(pairs.root), "kind": "pairs"}], teacher={"labels": str(labels)})
    labelled = stage3.with_labels([pairs], config, tmp_path / "run", Ranks(), print, lambda: None)[0]
    with pytest.raises(InputError, match=r"flickr/Test/0002 has no label; expected .*labels/flickr/Test/0002\.png"):
        labelled[1]
    for index, disparity in ((0, 5), (2, 3)):
        got = labelled[index]
        assert got.disparity_HW is not None and got.valid_HW is not None
        assert (got.disparity_HW[20:] == disparity).all() and got.valid_HW[20:].all() and not got.valid_HW[:20].any()
    (labels / "flickr" / "Test" / "0001.png").unlink()
    assert (np.asarray(labelled[0].disparity_HW) == 7).all(), "one that was made here"


def test_a_label_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    pairs = shot(tmp_path / "flickr", "Train/0001")
    write_disparity(tmp_path / "other" / "0001.png", np.full((64, 128), 3, np.float32), sidecar=False)
    (tmp_path / "labels" / "flickr").mkdir(parents=True)
    (tmp_path / "labels" / "flickr" / "Train").symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match=r"has no label.*Links that lead out are not followed"):
        stage3.Labelled(pairs, tmp_path / "labels")[0]


def test_a_missing_or_foreign_label_is_a_bad_sample(pool: Path, tmp_path: Path) -> None:
    pairs = stage3.Labelled(SceneFolder(pool, need_truth=False), tmp_path)
    with pytest.raises(DepthlightError, match=r"plane-0\.png"):
        pairs[0]
    write_disparity(tmp_path / pool.name / "plane-0.png", np.ones((8, 8), np.float32), sidecar=False)
    with pytest.raises(FileFormatError, match="shape"):
        pairs[0]


def test_odd_names_get_files_of_their_own(tmp_path: Path) -> None:
    class Odd:
        name = "odd"

        def sample_name(self, index: int) -> str:
            return ["a/b", "a_b", "a?b", "x" * 300][index]

    paths = {stage3.label_path(tmp_path, Odd(), i) for i in range(4)}  # type: ignore[arg-type]
    assert len(paths) == 4
    assert all(path.parent == tmp_path / "odd" and len(path.name) < 120 for path in paths)
    assert stage3.find_label(tmp_path, Odd(), 3) == stage3.label_path(tmp_path, Odd(), 3)  # type: ignore[arg-type]


def test_a_teacher_must_be_named() -> None:
    with pytest.raises(InputError, match="no teacher"):
        stage3.Teacher(TeacherConfig(), start="")
