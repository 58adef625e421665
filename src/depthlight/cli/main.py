"""Entry point: finds the verb, imports only that verb's file, and turns every error into one line and a status.

Exit status: 0 good; 1 a check did not hold; 2 wrong input; 70 a fault of ours; 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from ..core.errors import DepthlightError

INTERNAL_FAILURE = 70
INTERRUPTED = 130

# verb: one line of help. The verb's file is cli/<verb>.py and holds a function of the verb's name.
VERBS = {
    "demo": "Run the bundled weights on a real pair: disparity, confidence, picture, cloud.",
    "stereo": "Disparity of a pair, of two folders, or of a side-by-side image.",
    "mono": "Depth of one photo or a folder of photos: relative, or metres by metric models.",
    "refine": "Better depth of a photo or a pair at test time.",
    "measure": "Distances and sizes in metres, from a result with a calibration.",
    "doctor": "What is wrong with a pair, and what to do about it.",
    "calibrate": "Calibrate two cameras from pictures of a board.",
    "rectify": "Raw pairs to rectified pairs and their calibration.",
    "models": "List what can be loaded, or show one model's card.",
    "compare": "Several models on one pair, side by side.",
    "eval": "Measure a model on a folder of scenes with ground truth.",
    "bench": "Time, memory and accuracy of models against each other and SGBM.",
    "synth": "Make procedural stereo pairs with exact truth.",
    "batch": "A manifest of pairs and photos: resumable, in shards, or on a Ray cluster.",
    "export": "A network as ONNX or OpenVINO file, checked against the original.",
    "train": "Train, fine-tune or adapt a network; resumable.",
    "serve": "The HTTP API: disparity, depth and refinement as a service.",
    "app": "A page in the browser: drop pictures, look at depth, turn it, save it.",
}
FUNCTION_NAMES = {"eval": "evaluate"}  # eval is a builtin


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its status."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(args: list[str]) -> int:
    """Run one command line; returns the exit status. ``--debug``, anywhere, shows tracebacks."""
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    verb = args[0] if args and args[0] in VERBS else None
    program = f"depthlight {verb}" if verb else "depthlight"
    try:
        app = _verb(verb) if verb else _overview()
        result = typer.main.get_command(app)(args[1:] if verb else args, prog_name=program, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        return _report(error, program)
    except KeyboardInterrupt:
        print("depthlight: interrupted", file=sys.stderr)
        return INTERRUPTED


def _verb(verb: str) -> typer.Typer:
    module = import_module(f".{verb}", __package__)
    app = typer.Typer(add_completion=False)
    app.command(context_settings={"help_option_names": ["-h", "--help"]})(
        getattr(module, FUNCTION_NAMES.get(verb, verb))
    )
    return app


def _overview() -> typer.Typer:
    """The page that lists the verbs; their files stay unread."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        help="Depth from images, light enough for any machine.",
        epilog="depthlight VERB --help tells more. --debug, anywhere, shows tracebacks.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, summary in VERBS.items():
        app.command(name, help=summary)(_nothing)
    app.callback()(_root)
    return app


def _nothing() -> None:
    """Stands for a verb on the overview page."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        print(f"depthlight {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Only carries the options of the overview page."""


def _report(error: Exception, program: str) -> int:
    """One line on standard error, and the status that goes with it."""
    if isinstance(error, DepthlightError):
        print(f"depthlight: {error}", file=sys.stderr)
        return error.exit_status
    usage = _usage_message(error)
    if usage is not None:
        message, status = usage
        if message:
            print(f"depthlight: {message} See: {program} --help", file=sys.stderr)
        return status
    detail = " ".join(f"{type(error).__name__}: {error}".split())
    print(f"depthlight: internal failure ({detail}). Please report it, with the output of --debug.", file=sys.stderr)
    return INTERNAL_FAILURE


def _usage_message(error: Any) -> tuple[str, int] | None:
    """Message and status of a click usage error; asked by shape, as typer may carry its own copy of click."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        return "", 0
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        message = " ".join(str(error.format_message()).split())
        return message if message.endswith((".", "?", "!")) else f"{message}.", 2
    return None


if __name__ == "__main__":
    main()
