"""From a name or a file to a matcher."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backends import (
    BACKENDS,
    GRAPH_SUFFIXES,
    PRECISIONS,
    RESERVED_PRECISIONS,
    OnnxBackend,
    OpenVinoBackend,
    StereoBackend,
    TorchBackend,
)
from ..backends.graph import GraphFacts, graph_facts
from ..backends.onnxruntime import onnx_strings
from ..backends.openvino import openvino_strings
from ..core import registry
from ..core.errors import CheckpointError, InputError, UnknownNameError
from ..core.extras import have, require
from .prediction import StereoMatcher
from .stereo import StereoModel

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
ON_CPU = ("auto", "cpu")
ON_CPU_ONLY = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class _Runtime:
    """How to run; combinations that nothing can do are refused when it is made."""

    backend: str
    device: str
    precision: str
    threads: int | None

    def __post_init__(self) -> None:
        if self.backend not in ("auto", *BACKENDS):
            raise UnknownNameError("backend", self.backend, ("auto", *BACKENDS))
        if self.precision in RESERVED_PRECISIONS:
            raise InputError(
                f"no option makes a model {self.precision}",
                expected=" or ".join(PRECISIONS),
                hint="Make a file with depthlight export NAME --to onnx --int8, and give it as the model",
            )
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        if self.backend == "onnxruntime" and self.precision != "fp32":
            raise InputError(
                f"onnxruntime runs in fp32, not {self.precision}", hint="Use --backend openvino or --backend torch"
            )
        if self.backend in ON_CPU_ONLY and self.device not in ON_CPU:
            raise InputError(f"{self.backend} runs on the CPU, not on {self.device!r}", hint="Use --backend torch")

    def takes_graph(self) -> bool:
        """Whether a bundled ONNX graph is what was asked for."""
        wanted = self.backend == "auto" and self.precision == "fp32" and self.device in ON_CPU
        return wanted or self.backend in ON_CPU_ONLY

    def on_graph(self, path: Path, *, family: str, max_disp: int, precision: str) -> StereoBackend:
        """The graph in the runtime asked for; ``precision`` is what the file was exported in.

        Raises:
            InputError: no runtime here can do what was asked for.
        """
        if self.backend == "torch" or self.device not in ON_CPU:
            what = "torch" if self.backend == "torch" else self.device
            raise InputError(
                f"{path.name} is a graph and does not run on {what}", hint="Leave out --backend and --device"
            )
        if precision != "fp32" and self.precision != "fp32":
            raise InputError(f"{path.name} is an {precision} graph", hint="Leave out --precision")
        vino = self.backend == "openvino" or (self.backend == "auto" and self.precision != "fp32")
        if path.suffix.lower() == ".xml":
            if self.backend == "onnxruntime":
                raise InputError(f"{path.name} is OpenVINO's and onnxruntime cannot read it", hint="Use an .onnx file")
            vino = True
        if not vino:
            return OnnxBackend(path, family=family, max_disp=max_disp, threads=self.threads, precision=precision)
        chosen = self.precision if precision == "fp32" else precision
        return OpenVinoBackend(path, family=family, max_disp=max_disp, threads=self.threads, precision=chosen)

    def need_torch(self, what: str) -> None:
        """Refuse unless torch may be used for ``what``, and is there."""
        if self.backend in ON_CPU_ONLY:
            target = "onnx" if self.backend == "onnxruntime" else "openvino"
            raise InputError(
                f"{what} runs on torch, not on {self.backend}",
                hint=f"Leave out --backend, or make a graph of it first: depthlight export NAME --to {target}",
            )
        if not have("torch"):
            require("torch", extra="torch", purpose=f"{what} runs on it")

    def refuse_for(self, name: str) -> None:
        """Classical matchers know one way to run."""
        for option, value, usual in (
            ("--backend", self.backend, ("auto",)),
            ("--device", self.device, ON_CPU),
            ("--precision", self.precision, ("fp32",)),
        ):
            if value not in usual:
                raise InputError(f"{name} is OpenCV's and takes no {option} {value}", hint=f"Leave out {option}")


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
            a ``.safetensors`` file that depthlight's training wrote, or an ``.onnx`` or ``.xml`` file that
            ``depthlight export`` wrote.
        weights: a checkpoint for the family ``name`` (``.pth`` in the authors' layout, or safetensors). What
            depthlight's training noted in it (name, network, range) is used.
        backend: ``auto``, ``onnxruntime``, ``openvino`` or ``torch``. ``auto`` is onnxruntime where a bundled graph
            exists.
        device: ``auto``, ``cpu`` or ``cuda`` (``cuda:1`` …), which needs torch.
        precision: ``fp32`` or ``bf16`` (openvino, torch); never lowered by itself.
        threads: CPU threads of the runtime; its own choice by default. ``sgbm`` has its own.

    Raises:
        UnknownNameError: no such model, backend or precision.
        InputError: the options contradict each other or the model, or the model is not for pairs.
        MissingExtraError: the model or the backend needs torch or openvino and it is not installed.
        CheckpointError: the weights are damaged, foreign or cannot be had.
    """
    runtime = _Runtime(backend, device, precision, threads)
    if name is not None and Path(name).suffix.lower() in WEIGHT_SUFFIXES:
        if weights is not None:
            raise InputError("both a model file and weights were given", hint="Give one of them")
        return _from_own_file(Path(name), runtime)
    if name is not None and Path(name).suffix.lower() in GRAPH_SUFFIXES:
        if weights is not None:
            raise InputError("both a graph and weights were given", hint="Give one of them")
        return _from_graph(Path(name), runtime)
    full = registry.need_task(registry.resolve(None if name is None else str(name)), "stereo")
    if full in registry.CLASSICAL:
        return _classical(full, weights, runtime)
    card = registry.bundled().get(full)
    if weights is not None:
        return _from_weights(registry.family_of(full), Path(weights), runtime)
    if card is None:
        return _from_hub(full, runtime)
    if "onnx" in card.files and runtime.takes_graph():
        path = registry.verified_path(card, "onnx")
        graph = runtime.on_graph(path, family=card.family, max_disp=card.max_disp, precision="fp32")
        return StereoModel(full, graph, weights_sha256=card.files["safetensors"].sha256, max_disp=card.max_disp)
    runtime.need_torch(full)
    path = registry.verified_path(card, "safetensors")
    return _on_torch(full, card.family, card.network, path, runtime, max_disp=card.max_disp)


def _classical(full: str, weights: object, runtime: _Runtime) -> StereoMatcher:
    from .sgbm import load_sgbm

    if weights is not None:
        raise InputError(f"{full} has no weights", hint="Leave out --weights, or name a network with --model")
    runtime.refuse_for(full)
    return load_sgbm(full)


def _from_own_file(path: Path, runtime: _Runtime) -> StereoMatcher:
    """A model file written by depthlight's training: its metadata names family and network."""
    runtime.need_torch(path.name)
    if not path.is_file():
        raise CheckpointError(f"model file {path} does not exist", hint="Check the path")
    from .model_file import read_facts

    facts = read_facts(path)
    if facts.family is None:
        raise CheckpointError(
            f"{path.name} does not say which network it belongs to",
            hint=f"Give --model FAMILY --weights {path.name}; FAMILY is one of {', '.join(registry.NETWORK_FAMILIES)}",
        )
    return _from_weights(facts.family, path, runtime)


def read_graph_facts(path: Path) -> GraphFacts:
    """What a file that :mod:`depthlight.export` wrote says about itself.

    Raises:
        CheckpointError: there is none, it cannot be read, or it is another's.
        MissingExtraError: an ``.xml`` file without openvino.
    """
    if not path.is_file():
        raise CheckpointError(f"model file {path} does not exist", hint="Check the path")
    read = openvino_strings if path.suffix.lower() == ".xml" else onnx_strings
    return graph_facts(path, read(path))


def _from_graph(path: Path, runtime: _Runtime) -> StereoMatcher:
    """A file that :mod:`depthlight.export` wrote."""
    facts = read_graph_facts(path)
    engine = runtime.on_graph(path, family=facts.family, max_disp=facts.max_disp, precision=facts.precision)
    return StereoModel(facts.name, engine, weights_sha256=facts.weights_sha256, max_disp=facts.max_disp)


def _from_weights(family: str, path: Path, runtime: _Runtime) -> StereoMatcher:
    """A network of ``family`` with weights from a file, and what the file says about them."""
    runtime.need_torch(path.name)
    if not path.is_file():
        raise CheckpointError(f"weights file {path} does not exist", hint="Check the path")
    from .model_file import read_facts

    facts = read_facts(path)
    if facts.family not in (None, family):
        raise CheckpointError(
            f"{path.name} holds weights of {facts.family}, not {family}", hint=f"Give --model {facts.family}"
        )
    name = facts.name or f"{family}.{path.stem}"
    return _on_torch(name, family, facts.network, path, runtime, max_disp=facts.max_disp)


def _from_hub(full: str, runtime: _Runtime) -> StereoMatcher:
    """The authors' weights."""
    runtime.need_torch(full)
    from ..nets.hub import fetch_official

    return _on_torch(full, registry.family_of(full), {}, fetch_official(full), runtime)


def _on_torch(
    name: str,
    family: str,
    network: Mapping[str, Any],
    path: Path,
    runtime: _Runtime,
    *,
    max_disp: int | None = None,
) -> StereoModel:
    """The network in torch; its range is the one it was built for where none is stated."""
    from .model_file import build_network

    net = build_network(family, network, path)
    range_px = net.max_disp if max_disp is None else max_disp
    if range_px != net.max_disp and not net.flexible_range:
        raise CheckpointError(f"{path.name} states a range of {range_px} px and {family} is built for {net.max_disp}")
    engine = TorchBackend(net, device=runtime.device, precision=runtime.precision, threads=runtime.threads)
    return StereoModel(name, engine, weights_sha256=registry.sha256_of(path), max_disp=range_px)
