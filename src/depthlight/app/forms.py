"""What clients may ask for: one class of form fields per kind of job, and the reader of multipart forms.

The names are those of the command line's options. File names that a client gives are never used.
"""

from __future__ import annotations

import asyncio
import io
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ..backends import MAX_RANGE
from ..core.config import to_dict
from ..core.errors import ImageError, InputError, LimitError, MissingExtraError, UnknownNameError
from ..geometry.calibration import FORMATS as CALIBRATIONS
from ..geometry.cloud import CLOUD_FORMATS
from ..infer.folder import FORMATS
from ..infer.metres import DEPTH_FORMATS, Metres
from ..infer.mono_folder import FORMATS as MONO_FORMATS
from ..io.guard import ImageLimits, sniff
from .errors import Refusal
from .settings import ServeConfig

MAX_CALIBRATION = 2**20  # bytes, as geometry reads
_MOST_FIELDS, _MOST_FILES, _FIELD_BYTES = 24, 4, 2**14
_IMAGES = ("left", "right", "side_by_side", "image")


def _list_of(names: tuple[str, ...], example: str, what: str) -> Any:
    one = "|".join(names)
    return Field(
        pattern=f"^({one})(,({one}))*$",
        max_length=60,
        description=f"{what}: any of {', '.join(names)}, separated by commas.",
        examples=[example],
    )


Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Positive = Annotated[float, Field(gt=0, lt=1e6)]
MaxDisp = Annotated[int, Field(ge=1, le=MAX_RANGE, description="End of the range searched, px.")]


class Form(BaseModel, ABC):
    """Fields of a form; ``files`` are those that carry a file, and ``whole`` which sets of them make a request."""

    model_config = ConfigDict(extra="forbid")
    files: ClassVar[tuple[str, ...]]
    whole: ClassVar[tuple[frozenset[str], ...]]

    @abstractmethod
    def task(self, config: ServeConfig, files: Collection[str]) -> dict[str, Any]:
        """What the worker is told, given the files that came.

        Raises:
            InputError: fields that contradict each other or the files.
            UnknownNameError, Refusal: no such model here.
        """

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Raise InputError if one of these fields is not as it is by default."""
        for name in names:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise InputError(f"{name} {why}", hint="Leave it out")


class _Metric(Form, ABC):
    """Fields that need a calibration."""

    calib_format: Literal[CALIBRATIONS] | None = Field(None, description="Of calib; by default its content tells.")  # type: ignore[valid-type]
    unit: Literal["mm", "cm", "m"] | None = Field(None, description="Of the lengths in calib.")


class StereoForm(_Metric):
    """``POST /v1/stereo``."""

    files: ClassVar = ("left", "right", "side_by_side", "calib")
    whole: ClassVar = (frozenset({"left", "right"}), frozenset({"side_by_side"}))

    model: Name | None = Field(None, description="One of /v1/models; by default its first.", examples=["sgbm"])
    max_disp: MaxDisp | None = None
    min_disp: int = Field(0, ge=-MAX_RANGE, le=MAX_RANGE, description="Begin of the range searched, px.")
    find_range: bool = Field(False, description="Let a quick look choose the range.")
    left_right: bool = Field(False, description="Check both views against each other (twice the time).")
    doctor: bool = Field(False, description="Also say what is wrong with the pair (`result.doctor`).")
    format: Annotated[str, _list_of(FORMATS, "png,npy", "Of the disparity, besides png")] = "png"
    depth: Annotated[str | None, _list_of(DEPTH_FORMATS, "npy,png", "Of the depth map (npy)")] = None
    cloud: Annotated[str | None, _list_of((*CLOUD_FORMATS, "none"), "ply,glb", "Of the point cloud (ply)")] = None
    mesh: bool = Field(False, description="Also a textured mesh.glb.")
    min_depth: Positive | None = Field(None, description="Leave out what is nearer, m.")
    max_depth: Positive | None = Field(None, description="Leave out what is farther, m.")
    voxel: Positive | None = Field(None, description="One point of the cloud per cube of this side, m.")
    normals: bool = Field(False, description="Normals in the cloud (ply, pcd).")

    def task(self, config: ServeConfig, files: Collection[str]) -> dict[str, Any]:
        if "calib" not in files:
            metric = ("depth", "cloud", "mesh", "min_depth", "max_depth", "voxel", "normals", "calib_format", "unit")
            self.refuse(metric, "needs calib: there are no metres without a calibration")
        if self.find_range:
            self.refuse(("max_disp", "min_disp"), "contradicts find_range, which chooses it")
        metres = Metres(
            depth=_names(self.depth or "npy"),
            cloud=tuple(name for name in _names(self.cloud or "ply") if name != "none"),
            mesh=self.mesh,
            nearest=self.min_depth,
            farthest=self.max_depth,
            voxel=self.voxel,
            normals=self.normals,
        )
        return {
            **self.model_dump(),
            "model": chosen(config, "stereo", self.model),
            "format": _names(self.format),
            "metres": to_dict(metres),
        }


class MonoForm(Form):
    """``POST /v1/mono``."""

    files: ClassVar = ("image",)
    whole: ClassVar = (frozenset({"image"}),)

    model: Name | None = Field(None, description="One of /v1/models; by default its first.")
    focal: Positive | None = Field(None, description="Focal length, px of the photo (metric models): adds a cloud.")
    format: Annotated[str, _list_of(MONO_FORMATS, "png,npy", "Of the map, besides png")] = "png"

    def task(self, config: ServeConfig, files: Collection[str]) -> dict[str, Any]:
        need_torch(config)
        return {"model": chosen(config, "mono", self.model), "focal": self.focal, "format": _names(self.format)}


class RefineForm(_Metric):
    """``POST /v1/refine``: of a photo, or of a pair."""

    files: ClassVar = ("image", "left", "right", "calib")
    whole: ClassVar = (frozenset({"image"}), frozenset({"left", "right"}))

    model: Name | None = Field(None, description="One of /v1/models (mono, or stereo for a pair).")
    prior: Name | None = Field(None, description="Of a photo: one of /v1/models; by default its first.")
    recipe: Literal["fast", "paper"] = "fast"
    steps: int | None = Field(None, ge=1, le=5000, description="Steps of each restart.")
    restarts: int | None = Field(None, ge=1, le=50, description="Of a photo: runs whose mean is the result.")
    seed: int | None = Field(None, ge=0, lt=2**31, description="Of a photo: of lights and noise.")
    prompt: Annotated[str, StringConstraints(max_length=500)] | None = Field(
        None, description="Of a photo: what it shows, for priors that read."
    )
    focal: Positive | None = Field(None, description="Of a photo: focal length, px.")
    max_disp: MaxDisp | None = None

    def task(self, config: ServeConfig, files: Collection[str]) -> dict[str, Any]:
        pair = "left" in files
        if pair:
            self.refuse(("prior", "restarts", "seed", "prompt", "focal"), "is for one photo")
            if self.recipe != "fast":
                raise InputError(f"the recipe {self.recipe} is for one photo", expected="fast")
        else:
            self.refuse(("max_disp", "calib_format", "unit"), "is for a pair")
            if "calib" in files:
                raise InputError("calib is for a pair", hint="Leave it out")
        need_torch(config)
        model = chosen(config, "stereo" if pair else "mono", self.model)
        return {**self.model_dump(), "model": model, "prior": chosen(config, "prior", self.prior)}


def need_torch(config: ServeConfig) -> None:
    """Refuse what runs on torch where there is none.

    Raises:
        MissingExtraError: torch is not installed on the server.
    """
    if not config.can_refine:
        raise MissingExtraError("torch", "torch", purpose="on the server")


def chosen(config: ServeConfig, kind: str, name: str | None) -> str:
    """What the worker loads for a name that a client may say: nothing but what the server was started with.

    Raises:
        UnknownNameError: not one of them.
        Refusal: there are none.
    """
    known = config.choices[kind]
    if not known:
        raise Refusal(
            "unavailable",
            f"this server has no {kind} model",
            hint=f"Start it with depthlight serve --{kind} NAME_OR_FILE",
        )
    if name is None:
        return next(iter(known.values()))
    if name not in known:
        raise UnknownNameError(f"{kind} model", name, known)
    return known[name]


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.split(",")))


AnyForm = TypeVar("AnyForm", bound=Form)


class Upload:
    """The files of one form, still in their temporary places."""

    def __init__(self, files: Mapping[str, UploadFile]) -> None:
        self.files = files

    def check(self, config: ServeConfig) -> None:
        """Look at each file's first bytes.

        Raises:
            Refusal: not an image we read.
            LimitError: a calibration that is too large.
        """
        limits = ImageLimits(max_bytes=config.max_body, max_pixels=config.max_pixels)
        for name, file in self.files.items():
            if name in _IMAGES:
                head = io.BytesIO(file.file.read(32))
                file.file.seek(0)
                try:
                    sniff(head, name, limits)
                except ImageError as error:
                    raise Refusal("unsupported_type", error.what, expected=error.expected, hint=error.hint) from None
            elif (file.size or 0) > MAX_CALIBRATION:
                raise LimitError(f"{name} is too large", expected=f"at most {MAX_CALIBRATION:,} bytes")

    async def store(self, folder: Path) -> None:
        """Write them under their field's names."""

        def write() -> None:
            for name, file in self.files.items():
                with (folder / name).open("wb") as target:
                    shutil.copyfileobj(file.file, target)

        await asyncio.to_thread(write)


async def read_form(request: Request, kind: type[AnyForm]) -> tuple[AnyForm, Upload]:
    """The form of a request, checked field by field.

    Raises:
        Refusal: not multipart/form-data.
        LimitError: too many parts, or too long a field.
        InputError: a field is missing, unknown, given twice or not allowed.
    """
    files: dict[str, UploadFile] = {}
    fields: dict[str, str] = {}
    for name, value in (await _parts(request)).multi_items():
        if name in files or name in fields:
            raise InputError(f"{name[:80]!r} is there twice")
        if isinstance(value, UploadFile) != (name in kind.files):
            is_file = isinstance(value, UploadFile)
            raise InputError(f"{name[:80]!r} is not {'a file' if is_file else 'text'} of this form")
        if isinstance(value, UploadFile):
            files[name] = value
        else:
            fields[name] = value
    images = frozenset(files) - {"calib"}
    if images not in kind.whole:
        wanted = " or ".join(" and ".join(sorted(names)) for names in kind.whole)
        raise InputError(f"the form has {', '.join(sorted(images)) or 'no image'}", expected=f"{wanted}, as files")
    try:
        return kind.model_validate(fields), Upload(files)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"field {str(first['loc'][0])[:80]!r}: {first['msg']}") from None


async def _parts(request: Request) -> FormData:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "multipart/form-data":
        raise Refusal("unsupported_type", "the body is not a form", expected="Content-Type: multipart/form-data")
    try:
        return await request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=_FIELD_BYTES)
    except HTTPException as error:
        text = str(error.detail).rstrip(".")
        if text.startswith(("Too many", "Part exceeded")):
            raise LimitError(f"the form is too large: {text}") from None
        raise InputError(f"the form cannot be read: {text}") from None
    except ClientDisconnect:
        raise Refusal("cancelled", "the client went away") from None


def form_schema(kind: type[Form], example: Mapping[str, Any]) -> dict[str, Any]:
    """The request body of a form, for OpenAPI."""
    schema = kind.model_json_schema()
    binary = {name: {"type": "string", "format": "binary"} for name in kind.files}
    schema["properties"] = {**binary, **schema["properties"]}
    schema["anyOf"] = [{"required": sorted(names)} for names in kind.whole]
    content = {"multipart/form-data": {"schema": schema, "example": dict(example)}}
    return {"requestBody": {"required": True, "content": content}}
