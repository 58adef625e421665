"""Calibration files: exact round trips (I6), detection, units, and mutations that must end in one clear line."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlight import StereoRig
from depthlight.core.errors import DepthlightError, FileFormatError, InputError
from depthlight.geometry.calibration import FORMATS, Calibration, read_calibration, write_calibration
from depthlight.geometry.calibration.exact import length
from depthlight.geometry.cameras import Camera, StereoCameras, to_matrix

RIG = StereoRig(
    fx=721.5377, fy=721.5377, cx=609.5593, cy=172.854, baseline=0.5327119, doffs=1.25, width=1242, height=375
)
PLAIN = replace(RIG, doffs=0.0)
ROTATION = to_matrix(cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))[0])
LENS = Camera(
    fx=718.3351,
    fy=718.3712,
    cx=600.3891,
    cy=181.5122,
    width=1242,
    height=375,
    distortion=(-0.33, 0.12, 1e-5, -0.0007, 0.01),
)
RAW = StereoCameras(left=LENS, right=replace(LENS, cx=610.25), R=ROTATION, T=(-0.5371, 0.0011, -0.0102))
FISH = StereoCameras(
    left=replace(LENS, model="fisheye", distortion=(0.01, -0.002, 0.0003, 1e-6), fx=400.1, fy=400.2),
    right=replace(LENS, model="fisheye", distortion=(0.02, -0.001, 0.0, 0.0), fx=401.1, fy=401.2),
    R=ROTATION,
    T=RAW.T,
)
FOUR = replace(LENS, distortion=LENS.distortion[:4])
TWO_FILES = ("ros", "eth3d")


def target(folder, name):
    return folder if name in TWO_FILES else folder / f"calibration-{name}.txt"


def back(folder, name, what, **how):
    write_calibration(target(folder, name), what, name)
    return read_calibration(target(folder, name), **how)


sizes = st.integers(16, 8000)
rigs = st.builds(
    lambda width, height, share, aspect, x, y, baseline, doffs: StereoRig(
        fx=width * share,
        fy=width * share * aspect,
        cx=width * x,
        cy=height * y,
        baseline=baseline,
        doffs=doffs,
        width=width,
        height=height,
    ),
    *(sizes, sizes, st.floats(0.21, 9.9), st.floats(0.6, 1.8), st.floats(-0.4, 1.4), st.floats(-0.4, 1.4)),
    *(st.floats(0.0021, 2.99), st.floats(-200, 200)),
)


@pytest.mark.parametrize("name", ["middlebury", "kitti", "foundation", "eth3d", "opencv", "ros", "json"])
@settings(max_examples=40, deadline=None)
@given(rig=rigs)
def test_a_rectified_rig_comes_back_to_the_last_bit(tmp_path_factory, name, rig):
    rig = replace(rig, doffs=0.0) if name == "foundation" else rig
    found = back(tmp_path_factory.mktemp(name), name, rig, size=(rig.width, rig.height))
    assert found.rig == rig
    assert found.format == name


@pytest.mark.parametrize("name", ["kitti", "opencv", "json"])
@pytest.mark.parametrize("lens", ["pinhole", "fisheye"])
def test_raw_cameras_come_back_to_the_last_bit(tmp_path, name, lens):
    if (name, lens) == ("kitti", "fisheye"):
        with pytest.raises(FileFormatError, match="cannot hold this lens"):
            back(tmp_path, name, FISH)
        return
    raw = FISH if lens == "fisheye" else RAW
    found = back(tmp_path, name, raw)
    assert found.cameras == raw
    with pytest.raises(InputError, match="not rectified"):
        found.need_rig("x")


@pytest.mark.parametrize("name", ["kitti", "opencv", "json", "ros"])
def test_raw_and_rectified_stand_side_by_side(tmp_path, name):
    found = back(tmp_path, name, Calibration(format=name, cameras=RAW, rig=RIG))
    assert found.rig == RIG
    assert found.cameras.left == RAW.left


def test_rotations_come_back_to_rounding_where_the_format_stores_another_form(tmp_path):
    from depthlight.geometry.rectify import rectification

    for name, raw in (("eth3d", RAW), ("eth3d", FISH), ("ros", RAW), ("ros", FISH)):
        rig = replace(rectification(raw).rig, baseline=raw.baseline)
        found = back(
            tmp_path / f"{name}-{raw.left.model}", name, Calibration(format=name, cameras=raw, rig=rig)
        ).cameras
        np.testing.assert_allclose(found.R, raw.R, atol=1e-12)
        np.testing.assert_allclose(found.T, raw.T, atol=1e-12)
        assert found.left.fx == raw.left.fx
        assert found.left.distortion[:4] == raw.left.distortion[:4]


def test_opencv_reads_what_we_write_and_we_what_opencv_writes(tmp_path):
    ours = tmp_path / "ours.yml"
    write_calibration(ours, Calibration(format="opencv", cameras=RAW, rig=RIG), "opencv")
    storage = cv2.FileStorage(str(ours), cv2.FILE_STORAGE_READ)
    np.testing.assert_array_equal(storage.getNode("K1").mat(), RAW.left.matrix())
    np.testing.assert_array_equal(storage.getNode("D2").mat().ravel(), RAW.right.distortion)
    np.testing.assert_array_equal(storage.getNode("R").mat(), RAW.R)
    storage.release()
    theirs = tmp_path / "theirs.yml"
    storage = cv2.FileStorage(str(theirs), cv2.FILE_STORAGE_WRITE)
    for key, value in {"M1": RAW.left.matrix(), "D1": np.array([RAW.left.distortion]), "M2": RAW.right.matrix(),
                       "D2": np.array([RAW.right.distortion]), "R": np.array(RAW.R), "T": np.array([RAW.T]).T * 1000,
                       "size": np.array([[1242, 375]])}.items():  # fmt: skip
        storage.write(key, value)
    storage.release()
    found = read_calibration(theirs, unit="mm").cameras
    assert found.left == RAW.left
    assert found.R == RAW.R
    np.testing.assert_allclose(found.T, RAW.T, rtol=1e-15)
    with pytest.raises(InputError, match="in which unit"):
        read_calibration(theirs)


def test_the_samples_of_opencv_split_it_into_two_files(tmp_path):
    write_calibration(tmp_path / "all.yml", RAW, "opencv")
    text = (tmp_path / "all.yml").read_text().replace("unit: m\n", "")
    text = text.replace("K1:", "M1:").replace("K2:", "M2:")
    head, tail = text.split("R: !!")
    (tmp_path / "intrinsics.yml").write_text(head.replace("image_width: 1242\nimage_height: 375\n", ""))
    (tmp_path / "extrinsics.yml").write_text("%YAML:1.0\n---\nR: !!" + tail)
    for name in ("intrinsics.yml", "extrinsics.yml"):
        assert read_calibration(tmp_path / name, unit="m", size=(1242, 375)).cameras == RAW
        with pytest.raises(InputError, match="image size"):
            read_calibration(tmp_path / name, unit="m")


def test_four_coefficients_want_a_lens(tmp_path):
    write_calibration(tmp_path / "f.yml", FISH, "opencv")
    text = (tmp_path / "f.yml").read_text().replace("distortion_model: fisheye\n", "")
    (tmp_path / "g.yml").write_text(text)
    with pytest.raises(InputError, match="--lens"):
        read_calibration(tmp_path / "g.yml")
    assert read_calibration(tmp_path / "g.yml", lens="fisheye").cameras == FISH
    assert read_calibration(tmp_path / "g.yml", lens="pinhole").cameras.left.model == "pinhole"


def kitti_text():
    """``calib_cam_to_cam.txt`` as the devkit describes it, numbers in %e, poses relative to a camera 0."""
    poses = {
        "02": ([0.003, -0.004, 0.005], [0.0601, 0.0003, 0.0026]),
        "03": ([0.002, -0.024, -0.017], [-0.473, 0.005, -0.005]),
    }
    lines = {"calib_time": "01-Jan-2020 12:00:00", "corner_dist": [0.0995]}
    for key, (turn, shift) in poses.items():
        lines[f"S_{key}"] = [1392, 512]
        lines[f"K_{key}"] = [959.8, 0, 696.0, 0, 956.9, 224.2, 0, 0, 1]
        lines[f"D_{key}"] = [-0.369, 0.197, 1.35e-3, 5.68e-4, -0.0677]
        lines[f"R_{key}"] = cv2.Rodrigues(np.array(turn))[0].ravel()
        lines[f"T_{key}"] = shift
        lines[f"S_rect_{key}"] = [1242, 375]
        lines[f"P_rect_{key}"] = [721.5, 0, 609.6, 721.5 * shift[0], 0, 721.5, 172.9, 0.2, 0, 0, 1, 0.0027]
    shown = (f"{k}: {v if isinstance(v, str) else ' '.join(f'{x:e}' for x in v)}" for k, v in lines.items())
    return "\n".join(shown) + "\n"


def test_kitti_raw_holds_both(tmp_path):
    (tmp_path / "calib_cam_to_cam.txt").write_text(kitti_text())
    found = read_calibration(tmp_path / "calib_cam_to_cam.txt")
    assert found.rig.baseline == pytest.approx(0.5331, abs=1e-5)
    assert (found.rig.width, found.rig.height, found.rig.doffs) == (1242, 375, 0)
    assert found.cameras.left.size == (1392, 512)
    assert found.cameras.baseline == pytest.approx(0.5332, abs=2e-3)
    with pytest.raises(FileFormatError, match="neither P0 nor K_00"):
        read_calibration(tmp_path / "calib_cam_to_cam.txt", format="kitti-gray")


def test_kitti_object_files_ask_for_the_size(tmp_path):
    rows = [line.replace("P_rect_0", "P") for line in kitti_text().splitlines() if line.startswith("P_rect")]
    (tmp_path / "000001.txt").write_text("\n".join(rows))
    with pytest.raises(InputError, match="which image size"):
        StereoRig.from_file(tmp_path / "000001.txt")
    rig = StereoRig.from_file(tmp_path / "000001.txt", size=(1242, 375))
    assert rig.baseline == pytest.approx(0.5331, abs=1e-5)


def test_foundation_k(tmp_path):
    path = tmp_path / "K.txt"
    path.write_text(
        "754.6680908203125 0.0 489.3794860839844 0.0 754.6680908203125 265.16162109375 0.0 0.0 1.0\n0.063\n"
    )
    rig = StereoRig.from_file(path, size=(960, 540))
    assert (rig.fx, rig.cy, rig.baseline, rig.width) == (754.6680908203125, 265.16162109375, 0.063, 960)
    path.write_text(path.read_text().replace("0.063", "63"))
    with pytest.raises(InputError, match="the baseline would be 63 m"):
        StereoRig.from_file(path, size=(960, 540))
    assert StereoRig.from_file(path, size=(960, 540), unit="mm").baseline == 0.063
    with pytest.raises(FileFormatError, match="cannot hold doffs"):
        write_calibration(path, RIG, "foundation")


def test_eth3d_is_in_metres_when_named(tmp_path):
    (tmp_path / "cameras.txt").write_text(
        "# Camera list\n" + "".join(f"{i} PINHOLE 941 490 541.764 541.764 553.869 232.396\n" for i in (0, 1))
    )
    (tmp_path / "images.txt").write_text(
        "# poses\n0 1 0 0 0 0 0 0 0 im0.png\n12.5 3.25 -1\n1 1 0 0 0 -0.0598896 0 0 1 im1.png\n\n"
    )
    with pytest.raises(InputError, match="in which unit"):
        read_calibration(tmp_path / "cameras.txt")
    rig = read_calibration(tmp_path, format="eth3d").rig
    assert (rig.baseline, rig.cx, rig.doffs) == (0.0598896, 553.369, 0.0)


def test_ros_images_with_a_k_of_their_own_are_raw(tmp_path):
    write_calibration(tmp_path, RIG, "ros")
    left = tmp_path / "left.yaml"
    assert read_calibration(tmp_path).cameras is None  # K and P are one: rectified by the driver
    text = left.read_text()
    k = text[text.index("camera_matrix") : text.index("distortion_model")]
    left.write_text(text.replace(k, k.replace(repr(RIG.fx), "700.0")))
    found = read_calibration(tmp_path)
    assert found.rig == RIG
    assert found.cameras is not None and found.cameras.left.fx == 700


@pytest.mark.parametrize(("name", "unit"), [("middlebury", "m"), ("kitti", "mm"), ("json", "mm"), ("ros", "mm")])
def test_a_unit_that_spoils_what_the_format_states_is_refused(tmp_path, name, unit):
    write_calibration(target(tmp_path, name), RIG, name)
    with pytest.raises(InputError, match=f"with --unit {unit}; expected the format's own unit, which gives 0.5327"):
        read_calibration(target(tmp_path, name), unit=unit, size=(RIG.width, RIG.height))
    far = replace(RIG, baseline=40.0)  # odd as it is: then the user's word counts
    write_calibration(target(tmp_path, name), far, name)
    kept = {"middlebury": "mm"}.get(name, "m")
    assert read_calibration(target(tmp_path, name), unit=kept, size=(RIG.width, RIG.height)).rig == far


def test_a_rectified_rig_needs_no_lens_model(tmp_path):
    both = Calibration(format="opencv", cameras=replace(RAW, left=FOUR, right=FOUR), rig=RIG)
    path = tmp_path / "a.yml"
    write_calibration(path, both, "opencv")
    path.write_text(path.read_text().replace("distortion_model: pinhole\n", ""))
    with pytest.raises(InputError, match="--lens"):
        read_calibration(path)
    assert StereoRig.from_file(path) == RIG  # stereo has no --lens, and needs none


def test_ros_pairs_in_one_file_or_two(tmp_path):
    from depthlight.geometry.rectify import rectification

    both = Calibration(format="ros", cameras=RAW, rig=replace(rectification(RAW).rig, baseline=RAW.baseline))
    write_calibration(tmp_path, both, "ros")
    expected = read_calibration(tmp_path / "left.yaml")
    left, right = ((tmp_path / f"{side}.yaml").read_text() for side in ("left", "right"))
    (tmp_path / "two.yaml").write_text(f"{left}---\n{right}")
    indented = ["".join(f"  {line}\n" for line in text.splitlines()) for text in (left, right)]
    (tmp_path / "named.yaml").write_text(f"left:\n{indented[0]}right:\n{indented[1]}")
    assert read_calibration(tmp_path / "two.yaml") == expected
    assert read_calibration(tmp_path / "named.yaml") == expected
    (tmp_path / "right.yaml").unlink()
    with pytest.raises(FileFormatError, match="right\\.yaml does not exist"):
        read_calibration(tmp_path / "left.yaml")
    (tmp_path / "cam.yaml").write_text(left)
    with pytest.raises(FileFormatError, match="holds one camera"):
        read_calibration(tmp_path / "cam.yaml")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fx": 30.0, "fy": 30.0}, "fx is 30 px and the image 1242 px wide"),
        ({"fx": 13000.0, "fy": 13000.0}, "fx is 13000 px"),
        ({"fy": 200.0}, "fx is 721.538 px and fy 200 px"),
        ({"cx": 2000.0}, "cx is 2000 px"),
        ({"cy": -300.0}, "cy is -300 px"),
        ({"baseline": 120.0}, "the baseline would be 120 m"),
        ({"baseline": 0.0005}, "the baseline would be 0.0005 m"),
    ],
)
def test_what_no_camera_has_is_refused(tmp_path, change, says):
    write_calibration(tmp_path / "a.json", replace(RIG, **change), "json")
    with pytest.raises(InputError, match=says):
        StereoRig.from_file(tmp_path / "a.json")
    assert read_calibration(tmp_path / "a.json", check=False).rig == replace(RIG, **change)


def test_a_stated_unit_answers_the_question(tmp_path):
    write_calibration(tmp_path / "a.json", replace(RIG, baseline=120.0), "json")
    assert StereoRig.from_file(tmp_path / "a.json", unit="mm").baseline == 0.12
    assert StereoRig.from_file(tmp_path / "a.json", unit="m").baseline == 120.0


def test_doffs_that_contradict_the_principal_points_are_refused(tmp_path):
    write_calibration(tmp_path / "calib.txt", RIG, "middlebury")
    text = (tmp_path / "calib.txt").read_text().replace("doffs=1.25", "doffs=12.5")
    (tmp_path / "calib.txt").write_text(text)
    with pytest.raises(FileFormatError, match=r"doffs is 12\.5"):
        StereoRig.from_file(tmp_path / "calib.txt")


def test_swapped_cameras_are_told(tmp_path):
    write_calibration(tmp_path / "c.txt", RIG, "kitti")
    text = (tmp_path / "c.txt").read_text()
    lines = dict(line.split(": ") for line in text.splitlines())
    (tmp_path / "c.txt").write_text(f"P2: {lines['P3']}\nP3: {lines['P2']}\n")
    with pytest.raises(FileFormatError, match="Swap the two cameras"):
        StereoRig.from_file(tmp_path / "c.txt", size=(1242, 375))


@pytest.mark.parametrize("text", ["", "hello", "1 2 3", "a: b", "\n\n", "- 1\n- 2", "%YAML:1.0\n---\n"])
def test_what_is_no_calibration_is_told(tmp_path, text):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(DepthlightError) as caught:
        read_calibration(tmp_path / "x.txt")
    assert "\n" not in str(caught.value)


def test_names_are_checked(tmp_path):
    for how in ({"format": "middelbury"}, {"unit": "inch"}, {"lens": "fish"}):
        with pytest.raises(InputError, match="unknown"):
            read_calibration(tmp_path / "x", **how)
    with pytest.raises(FileFormatError, match="folder without a calibration"):
        read_calibration(tmp_path)


@pytest.mark.parametrize(("text", "metres"), [("25mm", 0.025), ("2.5 cm", 0.025), ("0.025m", 0.025), ("1e1mm", 0.01)])
def test_lengths_have_units(text, metres):
    assert length(text, "x") == metres


@pytest.mark.parametrize("text", ["25", "mm", "-25mm", "0mm", "25in", "nan mm", "1e999mm", ""])
def test_lengths_without_units_are_refused(text):
    with pytest.raises(DepthlightError):
        length(text, "x")


def _mutated(text: str, rng: random.Random) -> str:
    """The text with one to three faults of the kinds files get: cut, flipped, doubled, swapped, hostile."""
    hostile = [
        "nan",
        "inf",
        "-1",
        "0",
        "1e400",
        "9" * 400,
        "\x00",
        "é",
        "[",
        "{",
        "]",
        ":",
        "=",
        "&a [*a]",
        "!!python/x",
        "- ",
    ]
    for _ in range(rng.randint(1, 3)):
        i, j = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        lines = text.splitlines(keepends=True) or [""]
        kind = rng.randrange(6)
        if kind == 0:
            text = text[:i]
        elif kind == 1:
            text = text[:i] + rng.choice(hostile) + text[i:]
        elif kind == 2:
            text = text[:i] + text[min(j, i + 20) :]
        elif kind == 3:
            rng.shuffle(lines)
            text = "".join(lines)
        elif kind == 4:
            text = "".join([*lines[:-1], rng.choice(lines)])
        elif i < len(text):
            text = text[:i] + chr(rng.randrange(32, 127)) + text[i + 1 :]
        text = text or " "
    return text


def test_200_mutated_files_of_each_format_give_a_calibration_or_one_clear_line(tmp_path):  # I6
    both = Calibration(format="json", cameras=RAW, rig=RIG)
    refused = 0
    for name in set(FORMATS) - {"kitti-gray"}:
        folder = tmp_path / name
        what = PLAIN if name == "foundation" else RIG if name == "middlebury" else both
        if name in TWO_FILES:
            folder.mkdir()
        files = write_calibration(folder if name in TWO_FILES else folder / f"c-{name}.txt", what, name)
        original = files[0].read_text()
        rng = random.Random(f"{name} 6")
        for _ in range(200):
            files[0].write_text(_mutated(original, rng))
            try:
                found = read_calibration(files[0], size=(1242, 375), format=rng.choice([None, name]))
            except DepthlightError as error:
                refused += 1
                assert "\n" not in str(error)
                assert len(str(error)) < 600
            else:
                assert found.rig is not None or found.cameras is not None
    assert refused > 700  # of 1400: the mutations bite


def test_json_is_strict(tmp_path):
    write_calibration(tmp_path / "a.json", RAW, "json")
    values = json.loads((tmp_path / "a.json").read_text())
    for change in ({"more": 1}, {"cameras": []}, {"cameras": {**values["cameras"], "T": [0, 0, 0]}}, {"rectified": 3}):
        (tmp_path / "b.json").write_text(json.dumps({**values, **change}))
        with pytest.raises(DepthlightError):
            read_calibration(tmp_path / "b.json")
