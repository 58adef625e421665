"""Every reader on a tiny tree of its set, written here from the documented layout by independent code."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from depthlight.core.errors import ConfigError, DepthlightError, InputError, UnknownNameError
from depthlight.data.readers import list_datasets, open_dataset

H, W = 6, 10
DISPARITY = (np.arange(H * W).reshape(H, W) % 13 + 1).astype(np.float32)  # whole px: exact in every encoding
UNKNOWN = np.zeros((H, W), bool)
UNKNOWN[2, 3] = UNKNOWN[5, 0] = True


def put(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def view(path: Path, seed: int) -> np.ndarray:
    """An image of one plain colour (JPEG keeps it nearly); returns RGB."""
    colour = np.array([40 + 3 * seed % 150, 90, 200 - seed % 100], np.uint8)
    put(path, np.broadcast_to(colour[::-1], (H, W, 3)).copy())
    return colour


def put16(path: Path, values: np.ndarray) -> None:
    put(path, values.round().astype(np.uint16))


def put_pfm(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = b"".join(struct.pack(f"<{W}f", *row) for row in values[::-1])
    path.write_bytes(f"Pf\n{W} {H}\n-1.0\n".encode() + rows)


def put_npy(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values.astype(np.float32), allow_pickle=False)


def hole(values: np.ndarray, unknown: float) -> np.ndarray:
    return np.where(UNKNOWN, unknown, values)


def sceneflow(root: Path) -> None:
    for rendering in ("clean", "final"):
        for split in ("TRAIN", "TEST"):
            for frame in ("0006", "0007"):
                inner = f"{split}/A/0000"
                view(root / f"FlyingThings3D/frames_{rendering}pass/{inner}/left/{frame}.png", 1)
                view(root / f"FlyingThings3D/frames_{rendering}pass/{inner}/right/{frame}.png", 2)
                put_pfm(root / f"FlyingThings3D/disparity/{inner}/left/{frame}.pfm", hole(DISPARITY, np.inf))
                put_pfm(root / f"FlyingThings3D/disparity/{inner}/right/{frame}.pfm", -DISPARITY)


def monkaa(root: Path) -> None:
    for name in ("eating_x2", "family_x2"):
        for side, seed in (("left", 1), ("right", 2)):
            view(root / f"frames_finalpass/{name}/{side}/0000.png", seed)
            put_pfm(root / f"disparity/{name}/{side}/0000.pfm", hole(DISPARITY, np.inf))


def fallingthings(root: Path) -> None:
    for scene in ("mixed/kitchen_0", "single/002_can/temple_1"):
        for side, seed in (("left", 1), ("right", 2)):
            view(root / f"{scene}/000003.{side}.jpg", seed)
            # 0.1 mm, fx 780 px, 6 cm; the numbers below divide 780·600 exactly
            put16(root / f"{scene}/000003.{side}.depth.png", hole(468000 / (DISPARITY * 0 + 12), 0))
        camera = {"camera_settings": [{"name": "left", "intrinsic_settings": {"fx": 780, "fy": 780}}]}
        (root / scene / "_camera_settings.json").write_text(json.dumps(camera))


def fsd(root: Path) -> None:
    for scene in ("kitchen_1", "office_2"):
        data = root / scene / "dataset/data"
        view(data / "left/rgb/0000.jpg", 1)
        view(data / "right/rgb/0000.jpg", 2)
        steps = hole(DISPARITY, 0).astype(int) * 1000
        red, rest = np.divmod(steps, 255 * 255)
        green, blue = np.divmod(rest, 255)
        put(data / "left/disparity/0000.png", np.stack([blue, green, red], 2).astype(np.uint8))


def crestereo(root: Path) -> None:
    for subset in ("tree", "hole"):
        for side, seed in (("left", 1), ("right", 2)):
            view(root / subset / f"abc_{side}.jpg", seed)
            put16(root / subset / f"abc_{side}.disp.png", hole(DISPARITY * 32, 0))


def vkitti2(root: Path) -> None:
    for variation in ("clone", "fog"):
        frames = root / "Scene01" / variation / "frames"
        for camera, seed in ((0, 1), (1, 2)):
            view(frames / f"rgb/Camera_{camera}/rgb_00012.jpg", seed)
            depth = np.full((H, W), 3200.0)
            depth[0] = 65535
            put16(frames / f"depth/Camera_{camera}/depth_00012.png", hole(depth, 0))


def tartanair(root: Path) -> None:
    for trajectory in ("office/Easy/P000", "ocean/Hard/P001"):
        for side, seed in (("left", 1), ("right", 2)):
            view(root / trajectory / f"image_{side}/000000_{side}.png", seed)
            put_npy(root / trajectory / f"depth_{side}/000000_{side}_depth.npy", hole(80 / DISPARITY, np.inf))


def tartanair2(root: Path) -> None:
    for trajectory in ("Office/Data_easy/P000", "Office/Data_hard/P001"):
        for side, seed in (("lcam", 1), ("rcam", 2)):
            view(root / trajectory / f"image_{side}_front/000000_{side}_front.png", seed)
            depth = hole(80 / DISPARITY, 0).astype("<f4")
            packed = np.frombuffer(depth.tobytes(), np.uint8).reshape(H, W, 4)  # cv2 writes B, G, R, A as they come
            put(root / trajectory / f"depth_{side}_front/000000_{side}_front_depth.png", packed)


def dynamic_replica(root: Path) -> None:
    frames = []
    for number in (0, 1):
        for side, seed, shift in (("left", 1, 0.0), ("right", 2, 0.5)):
            image = f"abc_obj_source_{side}/images/abc_{side}-{number:04d}.png"
            depth = f"abc_obj_source_{side}/depths/abc_{side}_{number:04d}.geometric.png"
            view(root / "train" / image, seed)
            # fx = 2·min(6, 10)/2 = 6 px, baseline 0.5 m: 3 / depth
            half = np.where(UNKNOWN, 0, 0.25).astype(np.float16)
            put16(root / "train" / depth, half.view(np.uint16))
            viewpoint = {
                "R": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
                "T": [0.125 + shift, 0.0, 0.0],
                "focal_length": [2.0, 2.0],
                "principal_point": [0.0, 0.0],
                "intrinsics_format": "ndc_isotropic",
            }
            entry = {"sequence_name": "abc_obj", "frame_number": number, "camera_name": side, "viewpoint": viewpoint}
            frames.append(entry | {"image": {"path": image, "size": [H, W]}, "depth": {"path": depth}})
    with gzip.open(root / "train" / "frame_annotations_train.jgz", "wt") as stream:
        json.dump(frames, stream)


def kitti(root: Path, left: str, right: str, occ: str, noc: str) -> None:
    for split in ("training", "testing"):
        for name in ("000000_10", "000001_10"):
            view(root / split / left / f"{name}.png", 1)
            view(root / split / right / f"{name}.png", 2)
        view(root / split / left / "000000_11.png", 1)  # the next frame has no truth
    for name in ("000000_10", "000001_10"):
        put16(root / "training" / occ / f"{name}.png", hole(DISPARITY * 256, 0))
        visible = hole(DISPARITY * 256, 0)
        visible[:, :2] = 0
        put16(root / "training" / noc / f"{name}.png", visible)


def kitti2012(root: Path) -> None:
    kitti(root, "colored_0", "colored_1", "disp_occ", "disp_noc")


def kitti2015(root: Path) -> None:
    kitti(root, "image_2", "image_3", "disp_occ_0", "disp_noc_0")


def eth3d(root: Path) -> None:
    for scene in ("delivery_area_1l", "terrains_2s"):
        for number in (0, 1):
            view(root / "two_view_training" / scene / f"im{number}.png", 1 + number)
            view(root / "two_view_testing" / scene / f"im{number}.png", 1 + number)
        put_pfm(root / "two_view_training_gt" / scene / "disp0GT.pfm", hole(DISPARITY, np.inf))
        put(root / "two_view_training_gt" / scene / "mask0nocc.png", nocc_mask())


def nocc_mask() -> np.ndarray:
    mask = np.where(UNKNOWN, 0, 255).astype(np.uint8)
    mask[:, :2] = np.where(mask[:, :2] == 255, 128, 0)
    return mask


def middlebury2021(root: Path) -> None:
    for scene in ("artroom1", "bandsaw2"):
        for number in (0, 1):
            view(root / "data" / scene / f"im{number}.png", 1 + number)
            put_pfm(root / "data" / scene / f"disp{number}.pfm", hole(DISPARITY, np.inf))
        view(root / "data" / scene / "ambient/L0/im0e0.png", 9)
        (root / "data" / scene / "calib.txt").write_text("cam0=[1 0 0; 0 1 0; 0 0 1]\n")


def drivingstereo(root: Path) -> None:
    for name in ("2018-07-09/000", "2018-07-10/001"):
        view(root / "train-left-image" / f"{name}.jpg", 1)
        view(root / "train-right-image" / f"{name}.jpg", 2)
        put16(root / "train-disparity-map" / f"{name}.png", hole(DISPARITY * 256, 0))
    for size, scale in (("half", 256), ("full", 128)):
        for name in ("a", "b"):
            for what, seed in (("left-image", 1), ("right-image", 2)):
                suffix = "jpg" if size == "half" else "png"
                view(root / "foggy" / f"{what}-{size}-size" / f"{name}.{suffix}", seed)
            put16(root / "foggy" / f"disparity-map-{size}-size" / f"{name}.png", hole(DISPARITY * scale, 0))


def instereo2k(root: Path) -> None:
    for scene in ("train/part1/000001", "train/part2/000002", "test/000040"):
        for side, seed in (("left", 1), ("right", 2)):
            view(root / scene / f"{side}.png", seed)
            put16(root / scene / f"{side}_disp.png", hole(DISPARITY * 100, 0))


def booster(root: Path) -> None:
    scene = root / "train/balanced/Bathroom"
    for lighting in (0, 1):
        view(scene / f"camera_00/im{lighting}.png", 1)
        view(scene / f"camera_02/im{lighting}.png", 2)
    put_npy(scene / "disp_00.npy", hole(DISPARITY, 0))
    put_npy(scene / "disp_02.npy", DISPARITY)
    put(scene / "mask_00.png", nocc_mask())


# set, writer, options, names, disparity where known (None: DISPARITY), has visible, has right truth
CASES = {
    "flyingthings": ("sceneflow", sceneflow, {}, ["TRAIN/A/0000/left/0006", "TRAIN/A/0000/left/0007"], None, 0, 1),
    "flyingthings-final-test": (
        "sceneflow",
        sceneflow,
        {"rendering": "final", "split": "test"},
        ["TEST/A/0000/left/0006", "TEST/A/0000/left/0007"],
        None,
        0,
        1,
    ),
    "monkaa": (
        "sceneflow",
        monkaa,
        {"subset": "monkaa", "rendering": "final"},
        ["eating_x2/left/0000", "family_x2/left/0000"],
        None,
        0,
        1,
    ),
    "fallingthings": (
        "fallingthings",
        fallingthings,
        {},
        ["mixed/kitchen_0/000003", "single/002_can/temple_1/000003"],
        12.0,
        0,
        1,
    ),
    "fsd": ("fsd", fsd, {}, ["kitchen_1/dataset/data/0000", "office_2/dataset/data/0000"], None, 0, 0),
    "crestereo": ("crestereo", crestereo, {}, ["hole/abc", "tree/abc"], None, 0, 1),
    "tartanair": ("tartanair", tartanair, {}, ["ocean/Hard/P001/000000", "office/Easy/P000/000000"], None, 0, 1),
    "tartanair2": (
        "tartanair",
        tartanair2,
        {"version": "v2"},
        ["Office/Data_easy/P000/000000", "Office/Data_hard/P001/000000"],
        None,
        0,
        1,
    ),
    "dynamic-replica": ("dynamic-replica", dynamic_replica, {}, ["abc_obj/0000", "abc_obj/0001"], 12.0, 0, 1),
    "kitti2012": ("kitti2012", kitti2012, {}, ["training/000000_10", "training/000001_10"], None, 1, 0),
    "kitti2015": ("kitti2015", kitti2015, {}, ["training/000000_10", "training/000001_10"], None, 1, 0),
    "eth3d": (
        "eth3d",
        eth3d,
        {},
        ["two_view_training/delivery_area_1l", "two_view_training/terrains_2s"],
        None,
        1,
        0,
    ),
    "middlebury2021": ("middlebury", middlebury2021, {}, ["data/artroom1", "data/bandsaw2"], None, 0, 1),
    "drivingstereo": (
        "drivingstereo",
        drivingstereo,
        {},
        ["train-left-image/2018-07-09/000", "train-left-image/2018-07-10/001"],
        None,
        0,
        0,
    ),
    "drivingstereo-foggy": (
        "drivingstereo",
        drivingstereo,
        {"split": "foggy"},
        ["foggy/left-image-half-size/a", "foggy/left-image-half-size/b"],
        None,
        0,
        0,
    ),
    "drivingstereo-foggy-full": (
        "drivingstereo",
        drivingstereo,
        {"split": "foggy", "size": "full"},
        ["foggy/left-image-full-size/a", "foggy/left-image-full-size/b"],
        None,
        0,
        0,
    ),
    "instereo2k": ("instereo2k", instereo2k, {}, ["train/part1/000001", "train/part2/000002"], None, 0, 1),
    "booster": (
        "booster",
        booster,
        {},
        ["train/balanced/Bathroom/im0", "train/balanced/Bathroom/im1"],
        None,
        1,
        1,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_values(case, tmp_path):
    name, write, options, names, disparity, has_visible, has_right = CASES[case]
    write(tmp_path)
    dataset = open_dataset(name, tmp_path, **options)
    assert [dataset.sample_name(i) for i in range(len(dataset))] == names
    sample = dataset[1]
    assert sample.name == names[1]
    for image, seed in ((sample.left_HW3, 1), (sample.right_HW3, 2)):
        assert image.shape == (H, W, 3) and image.dtype == np.uint8
        assert np.abs(image.astype(int) - [40 + 3 * seed, 90, 200 - seed]).max() <= 3  # JPEG
    expected = DISPARITY if disparity is None else np.full((H, W), disparity, np.float32)
    assert sample.disparity_HW.dtype == np.float32
    np.testing.assert_allclose(sample.disparity_HW, np.where(UNKNOWN, 0, expected), rtol=1e-6)
    np.testing.assert_array_equal(sample.valid_HW, ~UNKNOWN)
    assert (sample.visible_HW is not None) == bool(has_visible)
    if has_visible:
        np.testing.assert_array_equal(sample.visible_HW[:, 2:], ~UNKNOWN[:, 2:])
        assert not sample.visible_HW[:, :2].any()
    assert (sample.right_disparity_HW is not None) == bool(has_right)
    if has_right:
        np.testing.assert_allclose(sample.right_disparity_HW[~UNKNOWN], expected[~UNKNOWN], rtol=1e-6)


def test_vkitti2(tmp_path):
    vkitti2(tmp_path)
    dataset = open_dataset("vkitti2", tmp_path)
    assert [dataset.sample_name(i) for i in range(2)] == ["Scene01/clone/rgb_00012", "Scene01/fog/rgb_00012"]
    sample = open_dataset("vkitti2", tmp_path, variation="fog")[0]
    known = ~UNKNOWN
    known[0] = False  # clipped at 655.35 m
    np.testing.assert_array_equal(sample.valid_HW, known)
    np.testing.assert_allclose(sample.disparity_HW[known], 725.0087 * 0.532725 / 32.0, rtol=1e-5)


@pytest.mark.parametrize(("name", "write"), [("kitti2012", kitti2012), ("kitti2015", kitti2015), ("eth3d", eth3d)])
def test_test_splits_have_no_truth(name, write, tmp_path):
    write(tmp_path)
    dataset = open_dataset(name, tmp_path, split="testing")
    assert len(dataset) == 2
    assert dataset[0].disparity_HW is None and dataset[0].valid_HW is None and dataset[0].visible_HW is None


OLD = {  # folder, files of left, right, truth, right truth, width, scale
    "2006/ThirdSize/Aloe": ("view1.png", "view5.png", "disp1.png", "disp5.png", 427, 3),
    "2006/HalfSize/Aloe": ("view1.png", "view5.png", "disp1.png", "disp5.png", 641, 2),
    "2005/FullSize/Art": ("view1.png", "view5.png", "disp1.png", "disp5.png", 1390, 1),
    "2003/cones": ("im2.png", "im6.png", "disp2.png", "disp6.png", 450, 4),
    "2003/conesH": ("im2.ppm", "im6.ppm", "disp2.pgm", "disp6.pgm", 900, 2),
    "2001/venus": ("im2.ppm", "im6.ppm", "disp2.pgm", "disp6.pgm", 434, 8),
    "2001/map": ("im0.pgm", "im1.pgm", "disp0.pgm", "disp1.pgm", 284, 8),
    "2001/tsukuba": ("scene1.row3.col3.ppm", "scene1.row3.col4.ppm", "truedisp.row3.col3.pgm", None, 384, 16),
}


@pytest.mark.parametrize("folder", OLD)
def test_middlebury_scales_of_the_early_years(folder, tmp_path):
    left, right, truth, right_truth, width, scale = OLD[folder]
    for file in (left, right):
        put(tmp_path / folder / file, np.full((4, width) if file.endswith(".pgm") else (4, width, 3), 7, np.uint8))
    if folder == "2003/cones":  # the quarter-size archive holds nine views
        for number in (0, 1, 3, 4, 5, 7, 8):
            put(tmp_path / folder / f"im{number}.png", np.full((4, width, 3), 7, np.uint8))
    stored = np.full((4, width), 12 * scale, np.uint8)
    stored[1, 1] = 0
    for file in filter(None, (truth, right_truth)):
        put(tmp_path / folder / file, stored)
    sample = open_dataset("middlebury", tmp_path)[0]
    assert sample.name == folder
    assert np.unique(sample.disparity_HW[sample.valid_HW]).tolist() == [12.0]
    assert not sample.valid_HW[1, 1] and (~sample.valid_HW).sum() == 1
    assert (sample.right_disparity_HW is None) == (right_truth is None)


def test_middlebury_evaluation_sets(tmp_path):
    for folder in ("trainingQ/Adirondack", "testQ/Australia"):
        for number in (0, 1):
            view(tmp_path / folder / f"im{number}.png", number)
    put_pfm(tmp_path / "trainingQ/Adirondack/disp0GT.pfm", hole(DISPARITY, np.inf))
    put(tmp_path / "trainingQ/Adirondack/mask0nocc.png", nocc_mask())
    (tmp_path / "trainingQ/Adirondack/calib.txt").write_text("ndisp=70\n")
    dataset = open_dataset("middlebury", tmp_path)
    assert [dataset.sample_name(i) for i in range(len(dataset))] == ["trainingQ/Adirondack"]
    sample = dataset[0]
    np.testing.assert_array_equal(sample.visible_HW, nocc_mask() == 255)
    assert sample.extra["calib"].name == "calib.txt"
    both = open_dataset("middlebury", tmp_path, need_truth=False)
    assert len(both) == 2 and both[0].disparity_HW is None


ALL = [*((case[0], case[1], case[2]) for case in CASES.values()), ("vkitti2", vkitti2, {})]


@pytest.mark.parametrize(("name", "write", "options"), ALL)
def test_corrupt_missing_and_misfitting_files_are_named(name, write, options, tmp_path):
    write(tmp_path)
    dataset = open_dataset(name, tmp_path, **options)
    entry = dataset._entries[0]
    for path in (entry.left, entry.right, entry.truth):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DepthlightError) as damaged:
            dataset[0]
        assert str(path) in str(damaged.value)
        path.unlink()
        with pytest.raises(DepthlightError) as missing:
            dataset[0]
        assert str(path) in str(missing.value)
        path.write_bytes(whole)
    put(entry.right, np.zeros((H, W + 2, 3), np.uint8))
    with pytest.raises(DepthlightError, match=f"{W + 2}×{H}; expected {W}×{H}") as misfit:
        dataset[0]
    assert str(entry.right) in str(misfit.value)
    assert dataset[1].disparity_HW is not None  # the others are untouched


@pytest.mark.parametrize("name", sorted(set(list_datasets()) - {"scenes", "pairs"}))
def test_wrong_folders_say_what_was_expected(name, tmp_path):
    with pytest.raises(InputError, match="is not a folder; expected the root of"):
        open_dataset(name, tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="expected") as error:
        open_dataset(name, tmp_path)
    assert str(tmp_path) in str(error.value)


def test_unknown_names_and_options(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'kitti2015'"):
        open_dataset("kitti2016", tmp_path)
    with pytest.raises(ConfigError, match="kitti2015 has no option subset; expected split"):
        open_dataset("kitti2015", tmp_path, subset="x")
    with pytest.raises(ConfigError, match="expected one of training, testing"):
        open_dataset("kitti2015", tmp_path, split="val")
    with pytest.raises(ConfigError, match="expected one of train"):
        open_dataset("sceneflow", tmp_path, subset="monkaa", split="test")


def test_damaged_side_files_of_fallingthings_and_dynamic_replica(tmp_path):
    fallingthings(tmp_path / "fat")
    (tmp_path / "fat/mixed/kitchen_0/_camera_settings.json").write_text("{}")
    with pytest.raises(DepthlightError, match=r"_camera_settings\.json"):
        open_dataset("fallingthings", tmp_path / "fat")[0]
    dynamic_replica(tmp_path / "dr")
    file = tmp_path / "dr/train/frame_annotations_train.jgz"
    frames = json.loads(gzip.decompress(file.read_bytes()))
    frames[0]["image"]["path"] = "../../secret.png"
    file.write_bytes(gzip.compress(json.dumps(frames).encode()))
    with pytest.raises(DepthlightError, match="leads out of the set"):
        open_dataset("dynamic-replica", tmp_path / "dr")
    packed = bytearray(gzip.compress(json.dumps(frames).encode()))
    packed[len(packed) // 2] ^= 0xFF
    for damaged in (bytes(packed[:12]) + b"\xff" * 40, bytes(packed)):
        file.write_bytes(damaged)
        with pytest.raises(DepthlightError, match=r"frame_annotations_train\.jgz"):
            open_dataset("dynamic-replica", tmp_path / "dr")
    file.write_bytes(b"not gzip")
    with pytest.raises(DepthlightError, match=r"frame_annotations_train\.jgz"):
        open_dataset("dynamic-replica", tmp_path / "dr")


def test_swapped_cameras_of_dynamic_replica_are_noticed(tmp_path):
    dynamic_replica(tmp_path)
    file = tmp_path / "train/frame_annotations_train.jgz"
    frames = json.loads(gzip.decompress(file.read_bytes()))
    for frame in frames:
        frame["camera_name"] = {"left": "right", "right": "left"}[frame["camera_name"]]
    file.write_bytes(gzip.compress(json.dumps(frames).encode()))
    with pytest.raises(DepthlightError, match="both must be positive"):
        open_dataset("dynamic-replica", tmp_path)
