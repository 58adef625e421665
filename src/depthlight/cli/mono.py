"""``depthlight mono``: a photo or a folder of photos in; prediction folders out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ..core.errors import InputError, UnknownNameError
from ..core.registry import sha256_of
from ..infer.folder import is_complete, need_apart, need_writable
from ..infer.mono import load_mono
from ..infer.mono_folder import FORMATS, save_mono
from ..infer.second_view import need_percent, side_by_side
from ..io.depth_files import read_depth
from ..io.images import read_image
from ..refine.anchor import anchor_prediction
from .common import DEPTH_UNITS, DeviceOption, JsonFlag, PrecisionOption, QuietFlag, emit_json, say
from .work import PhotoJob, chosen, photo_jobs, run_folder

if TYPE_CHECKING:
    from ..infer.mono import MonoModel
    from ..infer.mono_prediction import Quantity

QUANTITIES = {"inverse-depth": "inverse_depth", "depth": "depth"}


@dataclass(frozen=True)
class Settings:
    """What the user asked for, the same for every photo."""

    model: MonoModel
    focal: float | None
    formats: tuple[str, ...]
    anchor: Path | None = None  # measured depth
    sbs: float | None = None  # per cent of the width

    def request(self, job: PhotoJob) -> dict[str, Any]:
        """Everything the result depends on: a result of another request is done again."""
        return {
            "photo": sha256_of(job.photo),
            **asdict(self.model.identity),
            "quantity": self.model.quantity,
            "working": self.model.working,
            "focal": self.focal,
            "formats": list(self.formats),
            **({"anchor": sha256_of(self.anchor)} if self.anchor else {}),
            **({"sbs": self.sbs} if self.sbs is not None else {}),
        }


def mono(
    photo: Annotated[Path, typer.Argument(help="Photo, or a folder of photos.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("depthlight-out"),
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Name (see `depthlight models`), .safetensors file, hub id or folder."),
    ] = None,
    focal: Annotated[
        float | None, typer.Option(help="Focal length, px of the photo (metric models; else EXIF's): adds a cloud.")
    ] = None,
    working: Annotated[
        int | None, typer.Option(help="Longest side, px, at which the network sees the photo (its own).")
    ] = None,
    quantity: Annotated[
        str | None, typer.Option(help="What a hub model answers if it does not say: inverse-depth or depth.")
    ] = None,
    anchor: Annotated[
        Path | None,
        typer.Option(help=f"Measured depth of the photo ({DEPTH_UNITS}): gives metres."),
    ] = None,
    sbs: Annotated[
        float | None,
        typer.Option(
            help="Also side_by_side.jpg for 3-D viewers; the nearest moves by so many % of the width (2 to 4)."
        ),
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="Besides png, npy (comma-separated).")] = "png",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do photos again whose result is there.")] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Depth of single photos: relative inverse depth (no unit) or, of metric models, metres.

    A folder run writes OUT/<name>/ per photo, goes on after a bad photo (status 1 at the end), and when started again
    does only what is missing.
    """
    jobs = photo_jobs(photo, out)
    if anchor is not None and photo.is_dir():
        raise InputError("--anchor goes with one photo, and a folder was given", hint="Run it photo by photo")
    names = chosen(formats, FORMATS)
    others = [Path(model) if model else None, anchor]
    need_apart([job.folder for job in jobs], [*(job.photo for job in jobs), *others])
    loaded = load_mono(model, device=device, precision=precision, working=working, quantity=_quantity(quantity))
    if focal is not None and loaded.quantity != "depth" and anchor is None:
        raise InputError(f"--focal is for metric models, and {loaded.name} is none", hint="Leave it out")
    settings = Settings(loaded, focal, names, anchor, need_percent(sbs))
    if photo.is_dir():
        need_writable(out)
        outcome = run_folder(
            "mono",
            jobs,
            lambda job: _do(job, settings),
            lambda job: not overwrite and is_complete(job.folder, settings.request(job)),
            quiet=quiet,
        )
        outcome.tell(as_json=as_json, quiet=quiet)
        outcome.raise_failures("photos")
        return
    result = _do(jobs[0], settings)
    if as_json:
        emit_json(result)
    unit = " m" if result["unit"] == "m" else ""
    say(
        f"{out}: {result['quantity']} {result['min']:.3g} to {result['max']:.3g}{unit} by {result['model']} "
        f"in {result['seconds']:.2f} s.",
        quiet=quiet,
        as_json=as_json,
    )


def _quantity(text: str | None) -> Quantity | None:
    if text is None:
        return None
    if text not in QUANTITIES:
        raise UnknownNameError("quantity", text, QUANTITIES)
    return cast("Quantity", QUANTITIES[text])


def _do(job: PhotoJob, settings: Settings) -> dict[str, Any]:
    if settings.anchor is None:
        prediction, facts = settings.model.predict(job.photo, focal=settings.focal), {}
    else:
        measured = read_depth(settings.anchor)
        relative = settings.model.predict(job.photo)
        prediction, found = anchor_prediction(
            relative, measured.depth_HW, valid_HW=measured.valid_HW, focal=settings.focal
        )
        facts = {"anchor": found.summary()}
    photo_HW3, request = read_image(job.photo), settings.request(job)
    return save_mono(
        job.folder,
        prediction,
        photo_HW3,
        formats=settings.formats,
        side_by_side=None if settings.sbs is None else side_by_side(photo_HW3, prediction, settings.sbs),
        request=request,
        facts=facts,
    )
