"""From a name or a file to a matcher."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..backends import BACKENDS, PRECISIONS, OnnxBackend, StereoBackend, TorchBackend
from ..core import registry
from ..core.errors import CheckpointError, InputError, UnknownNameError
from ..core.extras import have, require
from .prediction import StereoMatcher
from .stereo import StereoModel

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")


def load(
    name: str | os.PathLike[str] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
) -> StereoMatcher:
    """A model ready to predict.

    Args:
        name: ``family.tag`` (see :func:`depthlight.list_models`), a bare family, ``None`` for the bundled default, or
            a ``.safetensors`` file that depthlight's training wrote.
        weights: a checkpoint for the family ``name`` (``.pth`` in the authors' layout, or safetensors).
        backend: ``auto``, ``onnxruntime`` or ``torch``. ``auto`` is onnxruntime where a bundled graph exists.
        device: ``auto``, ``cpu`` or a torch device such as ``cuda``.
        precision: ``fp32`` or ``bf16`` (torch); never lowered by itself.
        threads: CPU threads of the runtime; its own choice by default.

    Raises:
        UnknownNameError: no such model, backend or precision.
        MissingExtraError: the model needs torch and it is not installed.
        CheckpointError: the weights are damaged, foreign or cannot be had.
    """
    _check_choice("backend", backend, ("auto", *BACKENDS))
    _check_choice("precision", precision, PRECISIONS)
    if name is not None and Path(name).suffix in WEIGHT_SUFFIXES:
        if weights is not None:
            raise InputError("both a model file and weights were given", hint="Give one of them")
        return _from_own_file(Path(name), device, precision, threads)
    full = registry.resolve(None if name is None else str(name))
    if full in registry.CLASSICAL:
        from .sgbm import load_sgbm

        return load_sgbm(full)
    card = registry.bundled().get(full)
    if card is None or weights is not None:
        return _from_checkpoint(full, weights, device, precision, threads)
    if backend == "auto":
        backend = (
            "onnxruntime" if "onnx" in card.files and precision == "fp32" and device in ("auto", "cpu") else "torch"
        )
    engine: StereoBackend
    if backend == "onnxruntime":
        if precision != "fp32":
            raise InputError(f"onnxruntime runs {full} in fp32, not {precision}", hint="Use --backend torch")
        engine = OnnxBackend(registry.verified_path(card, "onnx"), max_disp=card.max_disp, threads=threads)
    else:
        _need_torch(full)
        path = registry.verified_path(card, "safetensors")
        engine = TorchBackend(
            _build(card.family, card.network, path), device=device, precision=precision, threads=threads
        )
    return StereoModel(full, engine, weights_sha256=card.files["safetensors"].sha256, max_disp=card.max_disp)


def _check_choice(kind: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownNameError(kind, value, known)


def _need_torch(what: str) -> None:
    if not have("torch"):
        require("torch", extra="torch", purpose=f"{what} runs on it")


def _build(family: str, network: dict[str, Any], path: Path) -> Any:
    """The network of ``family`` with the weights of ``path``."""
    from ..nets.checkpoints import load_into, load_weights
    from ..nets.stereo import build

    net = build(family, network)
    load_into(net, load_weights(path), source=str(path))
    return net


def _from_own_file(path: Path, device: str, precision: str, threads: int | None) -> StereoMatcher:
    """A model file written by depthlight's training: its metadata names family and network."""
    _need_torch(path.name)
    from ..nets.checkpoints import read_metadata

    metadata = read_metadata(path)
    if "family" not in metadata:
        raise CheckpointError(
            f"{path} does not say which network it belongs to",
            hint=f"Name the network and pass the file as weights: --model las2-s --weights {path.name}",
        )
    network = json.loads(metadata.get("network", "{}"))
    engine = TorchBackend(
        _build(metadata["family"], network, path), device=device, precision=precision, threads=threads
    )
    name = metadata.get("name", f"{metadata['family']}.{path.stem}")
    max_disp = int(metadata.get("max_disp", 192))
    return StereoModel(name, engine, weights_sha256=registry.sha256_of(path), max_disp=max_disp)


def _from_checkpoint(
    full: str, weights: str | os.PathLike[str] | None, device: str, precision: str, threads: int | None
) -> StereoMatcher:
    """A network with weights from a file, or from the hub where the name says so."""
    _need_torch(full)
    if weights is None:
        from ..nets.hub import fetch_official

        path, name = fetch_official(full), full
    else:
        path = Path(weights)
        name = f"{registry.family_of(full)}.{path.stem}"
    engine = TorchBackend(
        _build(registry.family_of(full), {}, path), device=device, precision=precision, threads=threads
    )
    return StereoModel(name, engine, weights_sha256=registry.sha256_of(path))
