"""I7: hostile names never lead outside the output folder; and files are paired by name or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlight.core.errors import InputError, OutputError
from depthlight.io.names import inside, pair_folders, safe_name, safe_names, split_side_by_side

HOSTILE = [
    *("", ".", "..", "...", "../x", "../../etc/passwd", "a/../../b", "..\\..\\x", "/etc/passwd", "//host/share", "/"),
    *(
        "C:\\x",
        "C:x",
        "c:/x",
        "\\\\host\\share\\x",
        "\\x",
        "\\\\?\\C:\\x",
        "a\0b",
        "\0",
        "a\nb",
        "a\rb",
        "\x1b[31m",
        "\x7f",
    ),
    *(
        "a" * 300,
        "é" * 200,
        "x" * 5000,
        "con",
        "CON",
        "con.txt",
        "PRN",
        "aux",
        "NUL",
        "nul.png",
        "com1",
        "COM9.x",
        "LPT1",
    ),
    *(
        "com¹",
        "CONIN$",
        "name.",
        "name ",
        " name",
        ".hidden",
        "a:b",
        "a*b",
        "a?b",
        'a"b',
        "a<b>",
        "a|b",
        "~",
        "~root",
        "-rf",
    ),
    *(
        "%2e%2e%2f",
        "..%2f",
        "e\u0301",
        "\u202egnp",
        "\u200b",
        "\ufeffx",
        "\ud800",
        "a\u2028b",
        "\uff0e\uff0e/",
        "\uff0fetc",
    ),
    *("$HOME", "`id`", "a;b", "a/b", "./x", "x/.", "x/..", "a//b", "file:///etc/passwd", "\U000e0001x"),
]


def test_there_are_enough_hostile_names() -> None:
    assert len(set(HOSTILE)) >= 60


def harmless(name: str) -> bool:
    return (
        0 < len(name.encode("utf-8")) <= 130
        and name not in (".", "..")
        and name == name.strip(" .")
        and all(c.isprintable() and c not in '<>:"/\\|?*' for c in name)
    )


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_becomes_one_harmless_component(name: str, tmp_path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    safe = safe_name(name)
    assert harmless(safe)
    assert safe.split(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "com9", "com¹", "lpt1", "conin$"}
    path = inside(root, safe)
    path.write_text("x")  # the system takes it, too
    assert [p.name for p in root.iterdir()] == [safe]
    assert [p.name for p in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_is_kept_inside_or_refused(name: str, tmp_path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    try:
        path = inside(root, name)
    except OutputError as error:
        assert "\n" not in str(error)
        return
    assert path.resolve().is_relative_to(root.resolve()) and path.resolve() != root.resolve()


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_becomes_harmless(name: str) -> None:
    assert harmless(safe_name(name))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="aA/\\.é\u0301 _", max_size=4), unique=True, max_size=12))
def test_different_names_stay_different_also_without_case(names: list[str]) -> None:
    safe = safe_names(names)
    assert len({name.casefold() for name in safe}) == len(names)


def test_harmless_names_stay_as_they_are() -> None:
    for name in ("000000_10", "motorcycle", "a b", "scene-1.left", "日本", "x" * 120, "café"):
        assert safe_name(name) == name
    assert safe_names(["b", "a"]) == ["b", "a"]


def test_case_and_unicode_forms_do_not_collide() -> None:
    upper, lower = safe_names(["Scene", "scene"])
    assert upper.casefold() != lower.casefold()
    assert safe_name("e\u0301") != safe_name("é")
    with pytest.raises(InputError, match="'a' is there twice"):
        safe_names(["a", "a"])


def test_links_out_of_the_root_are_refused(tmp_path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "file").touch()
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "file")
    (root / "loop").symlink_to(root / "loop")
    (root / "dangling").symlink_to(tmp_path / "not-yet")
    (root / "within").symlink_to(root / "real")
    for name in ("folder", "folder/x", "file", "dangling", "dangling/x"):
        with pytest.raises(OutputError, match="leads out of"):
            inside(root, name)
    assert inside(root, "within") == root / "within"
    assert inside(root, "a/b.png") == root / "a/b.png"


def test_a_root_that_is_a_link_or_begins_alike(tmp_path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert inside(tmp_path / "link", "x") == tmp_path / "link" / "x"
    (tmp_path / "real-evil").mkdir()
    (tmp_path / "real" / "out").symlink_to(tmp_path / "real-evil")  # a bare prefix test would pass it
    with pytest.raises(OutputError):
        inside(tmp_path / "real", "out")


# Pairs


def folders(tmp_path: Path, lefts: str, rights: str) -> tuple[Path, Path]:
    for name, files in (("l", lefts), ("r", rights)):
        (tmp_path / name).mkdir()
        for file in files.split():
            (tmp_path / name / file).touch()
    return tmp_path / "l", tmp_path / "r"


@pytest.mark.parametrize(
    ("lefts", "rights", "stems"),
    [
        ("b.png a.jpg", "a.png b.png", ["a", "b"]),
        ("a_left.png b_left.png", "a_right.png b_right.png", ["a", "b"]),
        ("left_1.png left_2.png", "right_1.png right_2.png", ["1", "2"]),
        ("a_L.png", "a_R.png", ["a"]),
        ("a-im0.png", "a-im1.png", ["a"]),
        ("left.png", "right.png", ["pair"]),
        ("im0.png", "im1.png", ["pair"]),
        ("ball.png", "ball.png", ["ball"]),
        ("a_l.png b.png", "a_l.png b_right.png", ["a_l", "b"]),
        ("a.png notes.txt .a.png", "a.png calib.txt", ["a"]),
        ("a.PNG", "a.tiff", ["a"]),
    ],
)
def test_pairs_by_stem_in_order(lefts: str, rights: str, stems: list[str], tmp_path) -> None:
    pairs = pair_folders(*folders(tmp_path, lefts, rights))
    assert [stem for stem, _, _ in pairs] == stems
    for _, left, right in pairs:
        assert left.parent.name == "l" and right.parent.name == "r" and left.is_file() and right.is_file()


def test_one_folder_with_both_sides(tmp_path) -> None:
    for name in ("b_left.png", "b_right.png", "a.png", "a_R.png"):
        (tmp_path / name).touch()
    pairs = pair_folders(tmp_path, tmp_path)
    assert [(s, left.name, right.name) for s, left, right in pairs] == [
        ("a", "a.png", "a_R.png"),
        ("b", "b_left.png", "b_right.png"),
    ]


@pytest.mark.parametrize(
    ("lefts", "rights", "message"),
    [
        ("a.png b.png", "a.png", "1 of 2 left images have no partner: b.png"),
        ("a.png", "a.png c.png", "1 of 2 right images have no partner: c.png"),
        ("a.png b.png c.png d.png e.png", "x.png", "5 of 5 left .*: a.png, b.png, c.png and 2 more"),
        ("ball.png", "bar.png", "no partner: ball.png"),
        ("a.png a.jpg", "a.png", "two left images are called 'a': a.jpg and a.png"),
        ("a_left.png a_L.png", "a.png", "two left images"),
        ("notes.txt", "a.png", "has no images"),
        ("", "", "has no images"),
    ],
)
def test_files_without_partner_are_named(lefts: str, rights: str, message: str, tmp_path) -> None:
    with pytest.raises(InputError, match=message):
        pair_folders(*folders(tmp_path, lefts, rights))


def test_a_missing_folder(tmp_path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="is not a folder"):
        pair_folders(tmp_path, tmp_path / "none")


def test_the_order_does_not_depend_on_the_disk(tmp_path, monkeypatch) -> None:
    left, right = folders(tmp_path, "c.png a.png b.png", "b.png c.png a.png")
    expected = pair_folders(left, right)
    listed = {path: sorted(path.iterdir(), reverse=True) for path in (left, right)}
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(listed[self]))
    assert pair_folders(left, right) == expected
    assert expected[0][1].name == "a.png"


def test_side_by_side() -> None:
    image = np.arange(2 * 6 * 3, dtype=np.uint8).reshape(2, 6, 3)
    left, right = split_side_by_side(image)
    assert np.array_equal(np.hstack([left, right]), image) and left.shape == right.shape
    with pytest.raises(InputError, match="5×2 cannot be split; expected an even width"):
        split_side_by_side(image[:, :5])
