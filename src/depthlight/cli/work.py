"""What the verbs over photos and pairs share: their jobs, and the run over a folder that goes on after a bad one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from ..core.errors import CheckFailedError, DepthlightError, InputError
from ..core.signals import StopFlag
from ..io.names import image_files, inside, pair_folders, safe_names
from .common import emit_json, progress, say


@dataclass(frozen=True)
class PhotoJob:
    """One photo and the folder for its result."""

    photo: Path
    folder: Path


@dataclass(frozen=True)
class PairJob:
    """One pair and the folder for its result."""

    left: Path
    right: Path
    folder: Path


class Job(Protocol):
    """Whatever has a folder for its result."""

    @property
    def folder(self) -> Path: ...


AnyJob = TypeVar("AnyJob", bound=Job)


def photo_jobs(photo: Path, out: Path) -> list[PhotoJob]:
    """The photo into ``out``, or every one of a folder into a folder of its name.

    Raises:
        InputError: there is no such file, or no image in the folder.
    """
    if not photo.exists():
        raise InputError(f"{photo} does not exist", expected="a photo or a folder of photos")
    if not photo.is_dir():
        return [PhotoJob(photo, out)]
    files = image_files(photo)
    names = safe_names([path.stem for path in files])
    return [PhotoJob(path, inside(out, name)) for path, name in zip(files, names, strict=True)]


def pair_jobs(left: Path, right: Path, out: Path) -> list[PairJob]:
    """The pair into ``out``, or every one of two folders into a folder of its name.

    Raises:
        InputError: a file or folder does not exist, one is a file and one a folder, or their names do not pair up.
    """
    for path in (left, right):
        if not path.exists():
            raise InputError(f"{path} does not exist", expected="an image or a folder")
    if left.is_dir() != right.is_dir():
        raise InputError(f"{left} and {right} are a folder and a file", expected="two images or two folders")
    if not left.is_dir():
        return [PairJob(left, right, out)]
    pairs = pair_folders(left, right)
    names = safe_names([stem for stem, _, _ in pairs])
    return [PairJob(one, other, inside(out, name)) for name, (_, one, other) in zip(names, pairs, strict=True)]


def chosen(text: str, known: Collection[str]) -> tuple[str, ...]:
    """The names in ``--format``'s comma-separated list.

    Raises:
        InputError: one is not ``known``.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in known:
            raise InputError(f"--format {name!r} is not known", expected="any of " + ", ".join(known))
    return names


@dataclass
class Outcome:
    """What became of a folder's jobs, by the names of their folders."""

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, DepthlightError] = field(default_factory=dict)

    def tell(self, *, as_json: bool, quiet: bool) -> None:
        """The counts for people, the names for machines."""
        if as_json:
            failed = {name: str(error) for name, error in self.failed.items()}
            emit_json({"done": self.done, "kept": self.kept, "failed": failed})
        say(
            f"{len(self.done)} done, {len(self.kept)} already there, {len(self.failed)} failed.",
            quiet=quiet,
            as_json=as_json,
        )

    def raise_failures(self, noun: str) -> None:
        """Raise for what failed; ``noun`` says what it was (``photos``).

        Raises:
            CheckFailedError: some of them failed (status 1).
            DepthlightError: all failed for one reason; it was a mistake in what was asked for, and this is its error.
        """
        total = len(self.done) + len(self.kept) + len(self.failed)
        if not self.failed:
            return
        first, error = next(iter(self.failed.items()))
        if len(self.failed) == total and len({str(error) for error in self.failed.values()}) == 1:
            raise error
        raise CheckFailedError(f"{len(self.failed)} of {total} {noun} failed, first {first}")


def run_folder(
    title: str,
    jobs: Iterable[AnyJob],
    do: Callable[[AnyJob], object],
    is_done: Callable[[AnyJob], bool],
    *,
    quiet: bool,
    stop: StopFlag | None = None,
) -> Outcome:
    """Do every job that is not done yet, and go on after a bad one; ``title`` heads the progress bar.

    Raises:
        StopRequestedError: a stop was asked for.
    """
    jobs, outcome = list(jobs), Outcome()
    with progress(title, len(jobs), quiet=quiet) as bar:
        for job in jobs:
            name = job.folder.name
            try:
                if is_done(job):
                    outcome.kept.append(name)
                else:
                    do(job)
                    outcome.done.append(name)
            except DepthlightError as error:
                if str(error) not in map(str, outcome.failed.values()):  # what all share is told once
                    bar.warn(f"{name}: {error}")
                outcome.failed[name] = error
            bar.step(name)
            if stop is not None:
                stop.check()
    return outcome
