"""Model names, the bundled weights and their cards. Needs no torch.

A model is ``family.tag``: the family is an architecture (or a classical matcher), the tag a set of weights. A bare
family resolves to the tag stated in :data:`DEFAULT_TAGS`, never silently to someone else's.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .config import from_dict
from .errors import CheckpointError, InputError, UnknownNameError

WEIGHTS_DIR = Path(__file__).resolve().parent.parent / "weights"
DEFAULT_MODEL = "light.synth-v1"
SMALL_MODEL = "light-s.synth-v1"

NETWORK_FAMILIES = ("light", "light-s", "las1", "las2-s", "las2-m", "las2-l", "las2-h")
CLASSICAL = ("sgbm", "sgbm-oracle")
MONO_FAMILIES = ("mono",)
PRIOR_FAMILIES = ("relight",)
TASK_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "stereo": NETWORK_FAMILIES,
    "mono": MONO_FAMILIES,
    "prior": PRIOR_FAMILIES,
}

HUB_REPOSITORY = "tomtomtommi/LiteAnyStereoV2"
HUB_WEIGHTS: Mapping[str, str] = {
    "las2-s.official": "LAS2_S.pth",
    "las2-m.official": "LAS2_M.pth",
    "las2-l.official": "LAS2_L.pth",
    "las2-h.official": "LAS2_H.pth",
}
OFFICIAL = ("las1.official", *HUB_WEIGHTS)
DEFAULT_MONO = "mono.synth-v1"
DEFAULT_PRIOR = "relight.synth-v1"
# Short names of others' models on the hub, by what they are for; loaded through transformers and diffusers.
MONO_HUB: Mapping[str, str] = {
    "depth-anything-v2-small": "depth-anything/Depth-Anything-V2-Small-hf",
    "depth-anything-v2-base": "depth-anything/Depth-Anything-V2-Base-hf",
    "depth-anything-v2-large": "depth-anything/Depth-Anything-V2-Large-hf",
}
PRIOR_HUB: Mapping[str, str] = {"sd-1.5": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
DEFAULT_TAGS: Mapping[str, str] = {name.split(".", 1)[0]: name for name in (DEFAULT_MODEL, SMALL_MODEL, *OFFICIAL)}


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One file of a model."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class WeightCard:
    """What is known about a set of weights; lives beside them as ``<name>.json``.

    ``network`` is the configuration the family is built with. ``lineage`` lists the training segments, oldest first
    (recipe, commit, samples, seed, hash of the start). ``metrics`` names its protocol in each key.
    """

    name: str
    family: str
    licence: str
    summary: str
    data: str
    files: dict[str, WeightFile]  # "safetensors", "onnx"
    network: dict[str, Any] = field(default_factory=dict)
    lineage: tuple[dict[str, Any], ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    uncertainty: dict[str, float] = field(default_factory=dict)  # see depthlight.infer.uncertainty; stereo alone
    max_disp: int = 192
    limits: str = ""

    def path(self, kind: str) -> Path:
        """Where the bundled file of this kind lies."""
        return WEIGHTS_DIR / self.files[kind].file


@cache
def bundled() -> Mapping[str, WeightCard]:
    """The cards of all weights inside the package, by name."""
    cards = {}
    for path in sorted(WEIGHTS_DIR.glob("*.json")):
        card = from_dict(WeightCard, json.loads(path.read_text(encoding="utf-8")), where=f"{path.name}: ")
        cards[card.name] = card
    return cards


def list_models(pattern: str = "*") -> list[str]:
    """Full names of all models, matching a shell pattern such as ``"las2*"``, sorted.

    :func:`depthlight.load` also takes a bare family (the keys of :data:`DEFAULT_TAGS`) and a model file. The official
    weights come from the hub, ``las1.official`` from a file given as ``weights``. :data:`MONO_HUB` and
    :data:`PRIOR_HUB` are for :func:`depthlight.load_mono` and :func:`depthlight.refine`.
    """
    names = {*bundled(), *OFFICIAL, *CLASSICAL, *MONO_HUB, *PRIOR_HUB}
    return sorted(name for name in names if fnmatch.fnmatch(name, pattern))


def task_of(name: str) -> str:
    """What a full name is for: ``stereo``, ``mono`` or ``prior``."""
    if name in MONO_HUB or family_of(name) in MONO_FAMILIES:
        return "mono"
    return "prior" if name in PRIOR_HUB or family_of(name) in PRIOR_FAMILIES else "stereo"


def resolve(name: str | None) -> str:
    """The full ``family.tag`` of a name; ``None`` is the default.

    Raises:
        UnknownNameError: nothing is called that; the nearest name is offered.
    """
    if name is None:
        return DEFAULT_MODEL
    full = DEFAULT_TAGS.get(name, name)
    if full not in list_models():
        raise UnknownNameError("model", name, [*list_models(), *DEFAULT_TAGS])
    return full


def need_task(full: str, task: str) -> str:
    """``full`` again, after refusing a model of another task than ``stereo``, ``mono`` or ``prior``.

    Raises:
        InputError: says what the model is for.
    """
    found = task_of(full)
    if found != task:
        use = {"stereo": "depthlight stereo", "mono": "depthlight mono", "prior": "depthlight refine --prior"}[found]
        raise InputError(f"{full} is a {found} model", expected=f"a {task} model", hint=f"Use it with {use}")
    return full


def family_of(name: str) -> str:
    """``"las2-s.official"`` → ``"las2-s"``."""
    return name.split(".", 1)[0]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hex.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def verified_path(card: WeightCard, kind: str) -> Path:
    """The bundled file, after checking it against the card.

    Raises:
        CheckpointError: the file is missing or its bytes are not the ones the card names.
    """
    path = card.path(kind)
    if not path.is_file():
        raise CheckpointError(f"{card.name}: {path.name} is missing from the package", hint="Reinstall depthlight")
    if sha256_of(path) != card.files[kind].sha256:
        raise CheckpointError(
            f"{card.name}: {path.name} is damaged (its SHA-256 is not the one in its card)", hint="Reinstall depthlight"
        )
    return path
