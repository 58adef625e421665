"""Rules of the house that a machine can check: safety (U2), lightness (P2), public names (P4), file length."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import depthlight

SOURCE = Path(depthlight.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "shelve", "marshal", "joblib"}


def _forbidden(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] in FORBIDDEN_MODULES for alias in node.names):
            yield node.lineno, "pickle-like import"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            yield node.lineno, "pickle-like import"
        if isinstance(node, ast.Call):
            yield from _forbidden_call(node)


def _forbidden_call(node: ast.Call):
    name = ast.unparse(node.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in ("eval", "exec") or name.endswith("os.system"):
        yield node.lineno, name
    if name.endswith("torch.load") and keywords.get("weights_only") != "True":
        yield node.lineno, "torch.load without weights_only=True"
    if name.endswith("yaml.load"):
        yield node.lineno, "yaml.load"
    if keywords.get("allow_pickle") == "True":
        yield node.lineno, "allow_pickle=True"
    if keywords.get("shell") == "True":
        yield node.lineno, "shell=True"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_source_is_safe(path):  # U2
    assert list(_forbidden(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "code",
    ["import pickle", "eval('1')", "torch.load(p)", "np.load(p, allow_pickle=True)", "subprocess.run(c, shell=True)"],
)
def test_the_check_sees_what_it_looks_for(code):
    assert list(_forbidden(ast.parse(code)))


def test_files_and_functions_stay_readable():
    long_files = {str(p.relative_to(SOURCE)): n for p in FILES if (n := len(p.read_text().splitlines())) > 450}
    assert long_files == {}


def _modules_after(code: str) -> set[str]:
    probe = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    ["import depthlight", "from depthlight.cli.main import run; run(['--help'])", "import depthlight as d; d.load"],
)
def test_light_by_default(code):  # P2: the cause, not the seconds
    loaded = _modules_after(code)
    assert not loaded & {"torch", "timm", "skimage", "scipy", "numba", "onnx", "huggingface_hub"}
    if code == "import depthlight":
        assert not loaded & {"numpy", "cv2", "onnxruntime", "PIL", "typer", "rich"}
    if "run" in code:
        assert not loaded & {"numpy", "cv2", "onnxruntime", "PIL"}


def test_predicting_with_the_default_needs_no_torch():
    loaded = _modules_after(
        "import numpy as np, depthlight; x = np.zeros((8, 8, 3), np.uint8); depthlight.load().predict(x, x)"
    )
    assert "onnxruntime" in loaded
    assert "torch" not in loaded


def test_public_names_equal_the_inventory():  # P4
    inventory = json.loads((Path(__file__).parents[1] / "api_surface.json").read_text())
    assert sorted(depthlight.__all__) == inventory["names"]
    assert all(getattr(depthlight, name) is not None for name in depthlight.__all__)
    assert set(dir(depthlight)) == set(depthlight.__all__)


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = depthlight.nothing_here
