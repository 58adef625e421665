"""What a manifest may say: every source, shards that are all of it, and hostile ones told in one line."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlight.batch.manifest import Item, Manifest, Work, manifest_of, read_manifest
from depthlight.core.errors import InputError


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 40))
def test_shards_are_the_manifest_each_item_once(count, shards):
    items = tuple(Item(str(index), 0, {}) for index in range(count))
    parts = [Manifest((), items).shard(index, shards) for index in range(1, shards + 1)]
    assert sorted(item.name for part in parts for item in part) == sorted(item.name for item in items)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), min_size=1, max_size=4))
def test_whatever_a_table_says_stays_inside_or_is_refused(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("m")
    rows = {"photo": ["a.png"] * len(names), "name": names}
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "t.parquet")
    try:
        items = manifest_of([Work(kind="mono", table=str(folder / "t.parquet"))]).items
    except InputError as error:
        assert "\n" not in str(error)
        return
    places = [Path("/root", item.name).resolve() for item in items]
    assert len(set(places)) == len(names)
    assert all(place.is_relative_to("/root") and place != Path("/root") for place in places)


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_brackets_and_question_marks_are_letters(tmp_path):
    touch(tmp_path, "a[1]/x?.png", "a1/xy.png")
    found = manifest_of([Work(kind="mono", photo="a[1]/*?.png")], str(tmp_path)).items
    assert [item.inputs["photo"] for item in found] == [str(tmp_path / "a[1]/x?.png")]


def listed(manifest, root):
    inputs = [{role: str(Path(path).relative_to(root)) for role, path in i.inputs.items()} for i in manifest.items]
    return dict(zip((item.name for item in manifest.items), inputs, strict=True))


def test_every_source_in_one_manifest(tmp_path):
    touch(
        tmp_path, "d/s1/im0.png", "d/s1/im1.png", "d/s1/calib.txt", "d/s2/x/im0.png", "p/a.jpg", "p/b.txt", "p/c.d.png"
    )
    touch(
        tmp_path, "flickr/left/q.png", "flickr/right/q.png", "sky/q.png", "scenes/one/left.png", "scenes/one/right.png"
    )
    (tmp_path / "t/list.csv").parent.mkdir()
    (tmp_path / "t/list.csv").write_text("photo,name\nsub/e.png,\n../p/a.jpg,deep/er\n")
    (tmp_path / "m.toml").write_text("""
        [[work]]
        kind = "stereo"
        left = "d/**/im0.png"
        right = "d/**/im1.png"
        calib = "d/**/calib.txt"
        model = "sgbm"
        metres.mesh = true
        [[work]]
        kind = "mono"
        photo = "p"
        into = "photos/all"
        [[work]]
        kind = "labels"
        pairs = "flickr"
        sky = "sky/*.png"
        [[work]]
        kind = "labels"
        pairs = "scenes"
        sky = "sky/*.png"
        [[work]]
        kind = "mono"
        table = "t/list.csv"
    """)
    manifest = read_manifest(str(tmp_path / "m.toml"))
    found = listed(manifest, tmp_path)
    assert found == {
        "s1/im0": {"left": "d/s1/im0.png", "right": "d/s1/im1.png", "calib": "d/s1/calib.txt"},
        "s2/x/im0": {"left": "d/s2/x/im0.png", "right": "d/s2/x/im1.png", "calib": "d/s2/x/calib.txt"},
        "photos/all/a": {"photo": "p/a.jpg"},
        "photos/all/c.d": {"photo": "p/c.d.png"},
        "flickr/q": {"left": "flickr/left/q.png", "right": "flickr/right/q.png", "sky": "sky/q.png"},
        "scenes/one": {"left": "scenes/one/left.png", "right": "scenes/one/right.png"},
        "sub/e": {"photo": "t/sub/e.png"},
        "deep/er": {"photo": "t/../p/a.jpg"},
    }
    assert [manifest.items[index].work for index in (0, 2, 4, 5, 6)] == [0, 1, 2, 3, 4]
    assert manifest.kinds[0].metres.mesh and manifest.kinds[0].model == "sgbm"


TABLES = {
    "name climbs": ("left,right,name\na,b,../../x\n", "'../../x' is not allowed"),
    "absolute name": ("left,right,name\na,b,/etc/x\n", "'/etc/x' is not allowed"),
    "hidden name": ("left,right,name\na,b,.partial\n", "'.partial' is not allowed"),
    "device name": ("left,right,name\na,b,nul\n", "'nul' is not allowed"),
    "path climbs": ("left,right\n../../a.png,b\n", "'../../a' is not allowed"),
    "twice": ("left,right\na.png,b\na.jpg,b\n", "'a' and 'a' have one place"),
    "differs in case": ("left,right,name\na,b,X\na,b,x\n", "'X' and 'x' have one place"),
    "inside another": ("left,right,name\na,b,x/y\na,b,x\n", "'x/y' would lie inside 'x'"),
    "wrong column": ("left,rihgt\na,b\n", "did you mean 'right'"),
    "half a pair": ("left,name\na,b\n", "expected left and right, or photo"),
    "both": ("left,right,photo\na,b,c\n", "expected left and right, or photo"),
    "column twice": ("left,right,left\na,b,c\n", "expected left and right, or photo"),
    "photos": ("photo\na.png\n", "stereo is not for photos"),
    "foreign role": ("left,right,sky\na,b,c\n", "sky is not for stereo"),
    "short row": ("left,right\na\n", "row 1 of"),
    "empty cell": ("left,right\na,\n", "row 1 of"),
    "no rows": ("left,right\n", "has no items"),
    "empty": ("", "expected left and right, or photo"),
    "no text": (b"left,right\n\xff\xfe,b\n", "cannot be read"),
    "endless cell": ("left,right\n" + "a" * 200_000 + ",b\n", "cannot be read"),
    "torn quote": ('left,right\n"a,b\n', "cannot be read"),
}


@pytest.mark.parametrize(("text", "says"), TABLES.values(), ids=TABLES)
def test_hostile_tables_end_in_one_line(call, tmp_path, text, says):
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    status, out, err = call(tmp_path / "t.csv", "-o", tmp_path / "out", "-m", "sgbm")
    assert (status, out, err.count("\n")) == (2, "", 1) and says in err
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv"}, "nothing was made"


def test_hostile_parquet(call, tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"left": [1], "right": ["b"]}), tmp_path / "numbers.parquet")
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "numbers.parquet").read_bytes()[:-20])
    pyarrow.parquet.write_table(
        pyarrow.table({"left": ["a"], "right": pyarrow.array([None], "string")}), tmp_path / "none.parquet"
    )
    for name, says in (("numbers", "'left' of"), ("torn", "cannot be read"), ("none", "row 1 of")):
        status, _, err = call(tmp_path / f"{name}.parquet", "-o", tmp_path / "out")
        assert (status, err.count("\n")) == (2, 1) and says in err
    assert not (tmp_path / "out").exists()


WORKS = {
    "no work": ("a = 1", "expected [[work]]"),
    "no TOML": ("[[work", "expected TOML"),
    "no files": ("[[work]]\nkind = 'mono'", "names no files"),
    "two sources": ("[[work]]\nkind = 'mono'\nphoto = 'a'\npairs = 'b'", "names photo and pairs"),
    "kind": ("[[work]]\nkind = 'steroe'\nphoto = 'p.png'", "did you mean 'stereo'"),
    "setting": ("[[work]]\nkind = 'mono'\nphoto = 'p.png'\nmodle = 'x'", "did you mean 'mono.model'"),
    "type": ("[[work]]\nkind = 'mono'\nphoto = 'p.png'\nworking = 'big'", "mono.working"),
    "into": ("[[work]]\nkind = 'mono'\nphoto = 'p.png'\ninto = '../up'", "'../up/p' is not allowed"),
    "wildcards": ("[[work]]\nkind = 'stereo'\nleft = '*.png'\nright = 'r.png/*/*'", "has 2 wildcards"),
    "threads": ("[[work]]\nkind = 'mono'\nphoto = 'p.png'\nthreads = 0", "threads is 0"),
    "protocol": ("[[work]]\nkind = 'mono'\nphoto = 'nosuch://p.png'", "cannot be opened"),
    "open end": ("[[work]]\nkind = 'mono'\nphoto = '**'", "Write ** as **/*"),
    "missing": ("[[work]]\nkind = 'mono'\nphoto = 'q*.png'", "finds no image"),
}


@pytest.mark.parametrize(("text", "says"), WORKS.values(), ids=WORKS)
def test_wrong_works_end_in_one_line(call, tmp_path, text, says):
    touch(tmp_path, "p.png", "a/b/c.png")
    (tmp_path / "m.toml").write_text(text)
    status, _, err = call(tmp_path / "m.toml", "-o", tmp_path / "out")
    assert (status, err.count("\n")) == (2, 1) and says in err
    assert not (tmp_path / "out").exists()


OPTIONS = {
    "shard 0/2": "from 1 to n",
    "shard 3/2": "from 1 to n",
    "shard x": "from 1 to n",
    "set max_disp": "key=value",
    "set max_disp=9999999999": "at most 2032 px",
    "set formats=['exr']": "stereo.formats",
    "set find_range=true": "find_range",
    "model nosuch": "unknown model",
}


@pytest.mark.parametrize(("option", "says"), OPTIONS.items())
def test_wrong_options_are_told_before_the_work(call, tmp_path, make_pairs, option, says):
    name, value = option.split(" ")
    status, _, err = call(*make_pairs(1)[:3], "-m", "sgbm", f"--{name}", value, "-o", tmp_path / "out")
    assert (status, err.count("\n")) == (2, 1) and says in err
    assert not (tmp_path / "out").exists()


def test_absurd_sizes_fail_alone(call, tmp_path, make_pairs):
    work, out = make_pairs(2), tmp_path / "out"
    bomb = bytearray((tmp_path / "lefts/000.png").read_bytes())
    bomb[16:24] = b"\x00\x0f\xff\xff" * 2  # the header's width and height
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (tmp_path / "lefts/000.png").write_bytes(bomb)
    status, _, err = call(*work, "-o", out, "-q")
    assert status == 1 and "1,099,509,530,625 pixels" in err
    assert list(json.loads((out / "batch-report.json").read_text())["failed"]) == ["000"] and (out / "001").is_dir()
