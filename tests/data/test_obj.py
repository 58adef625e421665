"""OBJ and MTL: what is read, what is refused, and that nothing outside the library is touched."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from depthlight.core.errors import DepthlightError, FileFormatError, InputError, LimitError
from depthlight.data.synth import library as library_module
from depthlight.data.synth import obj
from depthlight.data.synth.library import MeshLibrary

SQUARE = b"v 0 0 0\nv 2 0 0\nv 2 2 0\nv 0 2 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"


def nothing(_: str) -> bytes | None:
    return None


def test_a_quad_becomes_a_fan_with_its_uvs() -> None:
    mesh = obj.parse_obj(SQUARE + b"f 1/1 2/2 3/3 4/4\n", nothing).mesh
    assert mesh.positions_F33.shape == (2, 3, 3)
    assert np.ptp(mesh.positions_F33.reshape(-1, 3), axis=0).tolist() == pytest.approx([2, 2, 0])
    assert mesh.uvs_F32[0].tolist() == [[0, 1], [1, 1], [1, 0]]
    np.testing.assert_allclose(np.abs(mesh.normals_F33[..., 2]), 1)


def test_negative_indices_count_from_the_end() -> None:
    straight = obj.parse_obj(SQUARE + b"f 1/1 2/2 3/3\n", nothing).mesh
    backwards = obj.parse_obj(SQUARE + b"f -4/-4 -3/-3 -2/-2\n", nothing).mesh
    assert np.array_equal(straight.positions_F33, backwards.positions_F33)
    assert np.array_equal(straight.uvs_F32, backwards.uvs_F32)


@pytest.mark.parametrize("face", [b"f 1 2 3", b"f 1// 2// 3//", b"f 1/9 2/9 3/9", b"f 1/1/5 2/2/5 3/3/5"])
def test_missing_uvs_and_normals_are_made_up(face: bytes) -> None:
    mesh = obj.parse_obj(SQUARE + face + b"\n", nothing).mesh
    assert np.isfinite(mesh.uvs_F32).all()
    np.testing.assert_allclose(np.linalg.norm(mesh.normals_F33, axis=-1), 1, atol=1e-5)


def test_materials_by_name_and_a_missing_mtl() -> None:
    text = b"mtllib my stuff.mtl\n" + SQUARE + b"usemtl dark wood\nf 1 2 3\nusemtl unknown\nf 1 3 4\n"
    mtl = b"newmtl dark wood\nKd 0.1 0.2 7\nNs 50\nd 0.5\nmap_Kd -s 1 1 1 my wood.jpg\nKs broken\n"
    model = obj.parse_obj(text, {"my stuff.mtl": mtl}.get)
    wood = model.materials[model.mesh.slot_F[0]]
    assert wood == obj.ObjMaterial(diffuse=(0.1, 0.2, 1.0), exponent=50.0, opacity=0.5, texture="my wood.jpg")
    assert model.materials[model.mesh.slot_F[1]] == obj.ObjMaterial()
    assert obj.parse_obj(text, nothing).materials[1] == obj.ObjMaterial()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "no faces"),
        (b"\x00\xff\xfe garbage", "no faces"),
        (SQUARE, "no faces"),
        (SQUARE + b"f 1 2 9\n", "line 9"),
        (SQUARE + b"f 0 1 2\n", "line 9"),
        (SQUARE + b"f 1 2 -99\n", "line 9"),
        (SQUARE + b"f one two three\n", "line 9"),
        (b"v 0 0\nf 1 1 1\n", "line 1"),
        (b"v 0 0 x\n", "line 1"),
        (b"v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
        (b"v 0 0 1e300\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
        (b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "no extent"),
        (b"v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n", "without area"),
        (SQUARE + b"f " + b"1 " * 5000 + b"\n", "corners"),
    ],
)
def test_damaged_files_are_refused_in_one_line(text: bytes, match: str) -> None:
    with pytest.raises(FileFormatError, match=match) as caught:
        obj.parse_obj(text, nothing, "chair.obj")
    assert "chair.obj" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_triangles_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obj, "MAX_TRIANGLES", 5)
    with pytest.raises(LimitError, match="triangles"):
        obj.parse_obj(SQUARE + b"f 1 2 3\n" * 9, nothing)
    monkeypatch.setattr(obj, "MAX_BYTES", 10)
    with pytest.raises(LimitError, match="MB"):
        obj.parse_obj(SQUARE, nothing)


LINES = st.sampled_from(
    [
        "v 1 2 3",
        "v 0 0 0",
        "v 5 -1 2",
        "vt .1 .2",
        "vn 0 0 0",
        "f 1 2 3",
        "f -1 -2 -3 -4",
        "f 1/1/1 2//1 3/1",
        "f 1",
        "usemtl a",
        "mtllib",
        "mtllib m\n    ",
        "f 1e9 2 3",
        "v 1e39 0 0",
        "vt nan 0",
        "g x",
        "f 1/ 2/ 3/",
        "\\",
        "Kd 1 nan 0",
        "map_Kd -s",
        "Ns",
        "Tr inf",
        "newmtl",
    ]
)


@given(st.lists(LINES | st.text(max_size=12), max_size=25))
def test_any_text_gives_a_sound_model_or_one_error(lines: list[str]) -> None:
    mtl = "newmtl a\n" + "\n".join(lines)
    try:
        model = obj.parse_obj("\n".join(lines).encode(), lambda _: mtl.encode())
    except DepthlightError:
        return
    mesh = model.mesh
    assert all(np.isfinite(a).all() for a in (mesh.positions_F33, mesh.normals_F33, mesh.uvs_F32))
    assert mesh.slot_F.max() < len(model.materials)


def picture(colour: tuple[int, ...] = (10, 200, 30), size: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", (size, size), colour).save(stream, "PNG")
    return stream.getvalue()


def model(texture: str) -> dict[str, bytes]:
    return {
        "a.obj": b"mtllib a.mtl\n" + SQUARE + b"usemtl m\nf 1/1 2/2 3/3 4/4\n",
        "a.mtl": f"newmtl m\nmap_Kd {texture}\n".encode(),
        "a.png": picture(),
    }


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_a_folder_and_an_archive_give_the_same_model(tmp_path: Path) -> None:
    files = model("a.png")
    plain = MeshLibrary(written(tmp_path / "plain", {f"deep/{k}": v for k, v in files.items()}))
    (tmp_path / "zipped").mkdir()
    with zipfile.ZipFile(tmp_path / "zipped" / "x.sh3f", "w") as archive:
        for name, data in files.items():
            archive.writestr(f"deep/{name}", data)
    zipped = MeshLibrary(tmp_path / "zipped")
    a, b = plain.asset(0), zipped.asset(0)
    assert np.array_equal(a.mesh.positions_F33, b.mesh.positions_F33)
    assert a.textures[1] is not None
    assert b.textures[1] is not None
    assert a.textures[1][0, 0].tolist() == b.textures[1][0, 0].tolist() == [10, 200, 30]
    points = a.mesh.positions_F33.reshape(-1, 3)
    assert points[:, 1].min() == 0
    assert np.ptp(points, axis=0).max() == pytest.approx(1)
    assert a.metres == pytest.approx(2)


def test_the_cache_changes_nothing(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", model("a.png"))
    fresh = MeshLibrary(folder).asset(0)
    MeshLibrary(folder, cache=tmp_path / "cache").asset(0)
    cached = MeshLibrary(folder, cache=tmp_path / "cache").asset(0)
    for name in ("positions_F33", "normals_F33", "uvs_F32", "slot_F"):
        assert np.array_equal(getattr(fresh.mesh, name), getattr(cached.mesh, name))
        assert getattr(fresh.mesh, name).dtype == getattr(cached.mesh, name).dtype
    assert (fresh.materials, fresh.metres, fresh.name) == (cached.materials, cached.metres, cached.name)
    assert np.array_equal(fresh.textures[1], cached.textures[1])  # type: ignore[arg-type]
    next((tmp_path / "cache").glob("*.npz")).write_bytes(b"not an archive")
    with pytest.raises(FileFormatError, match="Delete the cache"):
        MeshLibrary(folder, cache=tmp_path / "cache").asset(0)


@pytest.mark.parametrize("texture", ["../secret.png", "/etc/hostname", "missing.png", "a.obj", "..\\..\\secret.png"])
def test_textures_outside_or_unreadable_are_left_out(tmp_path: Path, texture: str) -> None:
    (tmp_path / "secret.png").write_bytes(picture((255, 0, 0)))
    library = MeshLibrary(written(tmp_path / "inside", model(texture)))
    assert library.asset(0).textures == (None, None)


def test_large_textures_shrink_and_keep_their_alpha(tmp_path: Path) -> None:
    library = MeshLibrary(written(tmp_path, {**model("a.png"), "a.png": picture((9, 9, 9, 100), 700)}))
    texture = library.asset(0).textures[1]
    assert texture is not None
    assert texture.shape == (library_module.TEXTURE_SIDE, library_module.TEXTURE_SIDE, 4)
    assert texture[5, 5, 3] == 100


def test_empty_missing_and_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        MeshLibrary(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no \.obj"):
        MeshLibrary(tmp_path)
    (tmp_path / "x.sh3f").write_bytes(b"PK but no more")
    with pytest.raises(FileFormatError, match="zip"):
        MeshLibrary(tmp_path)


def test_a_damaged_model_in_an_archive_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("box.obj", "".join(f"v {i} {i % 7} {i % 3}\n" for i in range(400)) + "f 1 2 3\n")
    data = bytearray((tmp_path / "x.zip").read_bytes())
    for place in (45, 60, len(data) // 2):
        damaged = bytearray(data)
        damaged[place : place + 8] = b"\xff" * 8
        (tmp_path / "x.zip").write_bytes(damaged)
        with pytest.raises(FileFormatError, match=r"x\.zip:box\.obj is damaged"):
            MeshLibrary(tmp_path).asset(0)


def test_heavy_models_are_passed_over_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = MeshLibrary(written(tmp_path, model("a.png")))
    assert len(library.sample(np.random.default_rng(0)).mesh) == 2
    monkeypatch.setattr(library_module, "MAX_PLACED", 1)
    with pytest.raises(LimitError, match="in a row"):
        library.sample(np.random.default_rng(0))
