"""The command line as a whole: verbs, help, statuses, one clear line for every bad input."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from depthlight.cli import main as cli


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_has_its_file_function_and_help(call, verb):
    module = import_module(f"depthlight.cli.{verb}")
    assert callable(getattr(module, cli.FUNCTION_NAMES.get(verb, verb)))
    status, out, _ = call(verb, "--help")
    assert status == 0
    assert f"depthlight {verb}" in out


def _options(verb):
    import typer

    command = typer.main.get_command(cli._verb(verb))
    return sorted(name for parameter in command.params for name in parameter.opts if name.startswith("-"))


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_flags_equal_the_inventory(verb):  # P4
    inventory = json.loads((Path(__file__).parents[1] / "api_surface.json").read_text())
    assert _options(verb) == inventory["verbs"][verb]


def test_overview_and_version(call):
    for args in ([], ["--help"], ["-h"]):
        status, out, _ = call(*args)
        assert status == 0
        assert all(verb in out for verb in cli.VERBS)
    status, out, _ = call("--version")
    assert (status, out.split()[0]) == (0, "depthlight")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["stero"], "stereo"),
        (["stereo"], "left"),
        (["stereo", "--nope"], "--nope"),
        (["demo", "--max"], "--max"),
        (["eval"], "data"),
        (["stereo", "a.png", "b.png", "--threads", "0"], "--threads"),
    ],
)
def test_wrong_usage_is_one_line_with_status_2(call, args, says):
    status, _, err = call(*args)
    assert status == 2
    assert err.startswith("depthlight: ")
    assert err.count("\n") == 1
    assert says.lower() in err.lower()


def test_a_fault_of_ours_is_status_70_and_debug_shows_it(call, monkeypatch):
    monkeypatch.setattr("depthlight.core.registry.list_models", lambda: 1 / 0)
    status, _, err = call("models")
    assert status == 70
    assert "ZeroDivisionError" in err
    assert "Traceback" not in err
    status, _, err = call("models", "--debug")
    assert status == 70
    assert "Traceback" in err


def test_debug_keeps_the_status_of_bad_input(call):
    status, _, err = call("models", "lihgt", "--debug")
    assert status == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("depthlight: unknown model")


def test_interrupt_is_status_130(call, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr("depthlight.core.registry.list_models", stop)
    assert call("models")[0] == 130
