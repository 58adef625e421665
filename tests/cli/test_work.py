"""A run over a folder goes on after a bad job, and tells one mistake that all share as that mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from depthlight.cli.work import PhotoJob, run_folder
from depthlight.core.errors import CheckFailedError, ImageError, InputError
from depthlight.core.signals import StopFlag, StopRequestedError

JOBS = [PhotoJob(Path(f"{name}.png"), Path(name)) for name in "abcd"]


def failing(errors):
    def do(job):
        if job.folder.name in errors:
            raise errors[job.folder.name]

    return do


def test_a_bad_job_does_not_end_the_run(capsys):
    outcome = run_folder(
        "t", JOBS, failing({"b": ImageError("no image")}), lambda job: job.folder.name == "c", quiet=True
    )
    assert (outcome.done, outcome.kept, list(outcome.failed)) == (["a", "d"], ["c"], ["b"])
    assert capsys.readouterr().err == "b: no image.\n"
    with pytest.raises(CheckFailedError, match="1 of 4 photos failed, first b") as caught:
        outcome.raise_failures("photos")
    assert caught.value.exit_status == 1


def test_what_all_share_is_told_once_and_is_wrong_input(capsys):
    errors = {job.folder.name: InputError("the range is too large") for job in JOBS}
    outcome = run_folder("t", JOBS, failing(errors), lambda job: False, quiet=True)
    assert capsys.readouterr().err == "a: the range is too large.\n"
    with pytest.raises(InputError, match="the range is too large") as caught:
        outcome.raise_failures("photos")
    assert caught.value.exit_status == 2


def test_a_stop_ends_the_run_after_the_job_at_hand():
    stop, done = StopFlag(), []

    def do(job):
        done.append(job.folder.name)
        stop.requested = 15

    with pytest.raises(StopRequestedError):
        run_folder("t", JOBS, do, lambda job: False, quiet=True, stop=stop)
    assert done == ["a"]
