"""The errors say what was wrong, what was expected and what to do, in one line."""

from __future__ import annotations

import inspect

import pytest

from depthlight.core import errors
from depthlight.core.extras import require


def test_message_has_the_three_parts_in_one_line():
    error = errors.InputError("left.png\nis 3x4", expected="5x6", hint="Crop it", path="left.png")
    assert str(error) == "left.png is 3x4; expected 5x6. Crop it."
    assert error.details == {"path": "left.png"}
    assert error.exit_status == 2


def test_unknown_name_offers_the_nearest():
    error = errors.UnknownNameError("model", "las2s", ["light", "las2-s", "sgbm"])
    assert "did you mean 'las2-s'?" in str(error)
    assert error.details["known"] == ["las2-s", "light", "sgbm"]


def test_every_error_has_its_own_code():
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.DepthlightError)]
    own = [c.code for c in classes if "code" in vars(c)]
    assert len(own) == len(classes)
    assert len(set(own)) == len(own)


def test_missing_extra_names_the_pip_command():
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'depthlight\[demo\]'"):
        require("a_module_that_is_not_there", extra="demo")


def test_an_import_error_inside_an_extra_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text("import something_else_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_else") as caught:
        require("broken_extra", extra="demo")
    assert not isinstance(caught.value, errors.DepthlightError)


def test_a_sentence_ends_once():
    error = errors.UnknownNameError("protocol", "kiti", ["kitti"])
    assert str(error).endswith("did you mean 'kitti'?")
    assert ".." not in str(errors.InputError("no.", expected="yes.", hint="Try."))
