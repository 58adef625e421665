"""The package as users get it: a wheel that installs alone and predicts without a network (P1, P6, P7)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TORCH_FREE = [
    "tests/core",
    "tests/io",
    "tests/infer/test_stereo.py",
    "tests/infer/test_load.py",
    "tests/infer/test_folder.py",
]
# a socket is what every download needs; warnings are errors
OFFLINE = """
import socket, sys, warnings
warnings.simplefilter("error")
def refused(*_, **__):
    raise OSError("the network is cut")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refused
from depthlight.cli.main import run
status = run(["stereo", "left.png", "right.png", "-o", "out", "-q"])
assert "torch" not in sys.modules
sys.exit(status)
"""


def pythons() -> dict[str, str]:
    """The interpreters of this machine that the core is meant for, by version."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for version in ("3.12", "3.13"):
        names = [f"python{version}"]
        if shutil.which("pyenv"):
            known = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False).stdout
            for name in (line.strip() for line in known.splitlines() if line.strip().startswith(f"{version}.")):
                prefix = subprocess.run(["pyenv", "prefix", name], capture_output=True, text=True, check=False).stdout
                names.insert(0, str(Path(prefix.strip(), "bin", "python")))
        for name in names:
            works = (
                shutil.which(name) and subprocess.run([name, "-V"], capture_output=True, check=False).returncode == 0
            )
            if works:
                found.setdefault(version, name)
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return folder


def test_the_wheel_holds_weights_recipes_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert all(name.startswith(("depthlight/", "depthlight-")) for name in names)
    for part in ("py.typed", "weights/light.synth-v1.onnx", "train/recipes/cpu.toml", "refine/recipes/fast.toml"):
        assert f"depthlight/{part}" in names
    assert not [name for name in names if name.endswith((".pyc", ".nbi", ".nbc")) or "/." in name]
    libraries = (ROOT / "src/depthlight/app/page/vendor").glob("*")
    page = {"index.html", "main.js", "samples/room/left.webp", *(f"vendor/{path.name}" for path in libraries)}
    assert {f"depthlight/app/page/{name}" for name in page} <= set(names)
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as held_files:
        held = {name.split("/", 1)[-1] for name in held_files.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "docs/index.md"} <= held


def test_the_metadata_is_what_the_index_accepts(built):
    files = [str(path) for path in built.iterdir()]
    done = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", pythons())
def test_the_core_installs_alone_and_predicts_offline(version, built, tmp_path, make_pair):
    from PIL import Image

    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "PYTHONPATH")}
    subprocess.run([pythons()[version], "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    needed = [f"{wheel}[demo]", "pytest", "pytest-timeout", "hypothesis"]
    subprocess.run([python, "-m", "pip", "install", "-q", *needed], check=True)
    for name, view in zip(("left", "right"), make_pair(6, 96, 160), strict=True):
        Image.fromarray(view).save(tmp_path / f"{name}.png")
    done = subprocess.run(
        [python, "-c", OFFLINE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "result.json").is_file()
    run = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TORCH_FREE]
    tests = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert tests.returncode == 0, tests.stdout[-3000:]
