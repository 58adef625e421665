"""Weights on disk: read the authors' and our own files without trusting them, write them atomically.

Nothing in a file is run, and nothing is allocated before the file's own sizes are known to be consistent. A file that
does not fit ends in one :class:`~depthlight.core.errors.CheckpointError` line.
"""

from __future__ import annotations

import json
import os
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

import torch
from torch import Tensor, nn

from ..core.errors import CheckpointError
from ..core.registry import NETWORK_FAMILIES
from ..io.atomic import atomic_path, atomic_write_bytes
from .stereo import build

State = dict[str, Tensor]

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_INDEX_LIMIT = 8 * 2**20  # bytes of header or pickle; our largest network needs 0.1 MB
# What plain tensors in dicts need. torch's own list also lets a file ask for memory (bytearray, Tensor(n)).
_PLAIN_MODULES = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")


def load_weights(path: str | os.PathLike[str]) -> State:
    """The tensors of a weights file, by key.

    Args:
        path: ``.safetensors``, or a torch file (``.pth``, ``.pt``, ``.ckpt``) that holds a dict of tensors, bare or
            under ``"model"`` or ``"state_dict"``; a ``module.`` prefix is removed.

    Raises:
        CheckpointError: the file is missing, damaged, or something else than plain tensors.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{path.name} is not a weights file", expected="a name ending in " + ", ".join(SUFFIXES))
    if not path.is_file():
        raise CheckpointError(f"weights file {path} does not exist")
    state = _load_safetensors(path) if path.suffix.lower() == ".safetensors" else _load_torch(path)
    if not state:
        raise CheckpointError(f"{path.name} holds no tensors")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return state


def check_fits(net: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Refuse ``state`` unless it has the keys and shapes of ``net``, whose own tensors may be on the meta device.

    Args:
        source: what to call the weights in an error.

    Raises:
        CheckpointError: names the first key that does not fit, and the family the weights seem to be of.
    """
    own = net.state_dict()
    for key in own:
        if key not in state:
            _misfit(net, state, source, f"{key} is missing")
    for key in state:
        if key not in own:
            _misfit(net, state, source, f"{key} is not part of it")
    for key, target in own.items():
        if state[key].shape != target.shape:
            _misfit(net, state, source, f"{key} is {tuple(state[key].shape)}, not {tuple(target.shape)}")


def load_into(net: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Put ``state`` into ``net``, after checking that it fits: same keys, same shapes, floats for floats, all finite.

    ``net`` is left as it was if anything is wrong.

    Raises:
        CheckpointError: see :func:`check_fits`; or a value is not what a weight can be.
    """
    check_fits(net, state, source=source)
    own = net.state_dict()
    for key, target in own.items():
        _check_values(f"{source}: {key}", key, state[key], target)
    with torch.no_grad():
        for key, target in own.items():
            target.copy_(state[key])


def _misfit(net: nn.Module, state: Mapping[str, Tensor], source: str, what: str) -> NoReturn:
    family = detect_family(state)
    name = getattr(net, "family", type(net).__name__)
    hint = f"These look like weights of {family}" if family and family != name else ""
    raise CheckpointError(f"{source} does not fit {name}: {what}", hint=hint)


def _check_values(what: str, key: str, tensor: Tensor, target: Tensor) -> None:
    if not target.is_floating_point():
        if tensor.dtype != target.dtype:
            raise CheckpointError(f"{what} is {tensor.dtype}", expected=str(target.dtype))
        return
    if tensor.dtype not in FLOATS:
        raise CheckpointError(f"{what} is {tensor.dtype}", expected="floating point numbers")
    values = tensor.to(target.dtype)
    if not bool(torch.isfinite(values).all()):
        raise CheckpointError(f"{what} holds NaN or infinity")
    if key.endswith("running_var") and bool((values < 0).any()):
        raise CheckpointError(f"{what} is a variance and holds negative numbers")


def detect_family(state: Mapping[str, Tensor]) -> str | None:
    """The network family these weights belong to, by keys and shapes, or None."""
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    return next((family for family in NETWORK_FAMILIES if _shapes(family) == shapes), None)


@cache
def _shapes(family: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(tensor.shape) for key, tensor in build(family).state_dict().items()}


def save_safetensors(
    path: str | os.PathLike[str],
    net_or_state: nn.Module | Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    fp16: bool = False,
) -> None:
    """Write weights as safetensors, atomically.

    Args:
        metadata: strings kept in the header; :func:`read_metadata` returns them.
        fp16: store floats with 16 bits.

    Raises:
        CheckpointError: a value is NaN, infinite, or too large for 16 bits.
        OutputError: the file cannot be written.
    """
    from safetensors.torch import save

    state = {}
    for key, tensor in _state_of(net_or_state).items():
        if tensor.is_floating_point():
            tensor = tensor.half() if fp16 else tensor
            if not bool(torch.isfinite(tensor).all()):
                raise CheckpointError(f"{key} holds NaN, infinity, or a number too large for {tensor.dtype}")
        state[key] = tensor.cpu().clone(memory_format=torch.contiguous_format)
    atomic_write_bytes(path, _in_order(save(state, dict(metadata or {}))))


def _in_order(data: bytes) -> bytes:
    """The file with its metadata sorted: safetensors writes them in random order, and equal weights need one hash."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def save_official(path: str | os.PathLike[str], net: nn.Module) -> None:
    """Write weights in the authors' layout, ``{"model": state_dict}`` as a torch file, atomically."""
    state = {key: tensor.cpu() for key, tensor in _state_of(net).items()}
    with atomic_path(path) as temporary:
        torch.save({"model": state}, temporary)


def _state_of(net_or_state: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    state = net_or_state.state_dict() if isinstance(net_or_state, nn.Module) else net_or_state
    return {key: tensor.detach() for key, tensor in state.items()}


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The strings in a safetensors header; empty if there are none."""
    metadata = _safetensors_header(Path(path)).get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{Path(path).name} is damaged: its metadata are not strings")
    return metadata


def _load_safetensors(path: Path) -> State:
    from safetensors.torch import load_file

    _safetensors_header(path)
    try:
        return load_file(path)
    except Exception as error:
        raise _damaged(path, error) from error


def _safetensors_header(path: Path) -> dict[str, Any]:
    """The header, after checking that it lies in the file and that its tensors fill the rest exactly."""
    if not path.is_file():  # a pipe would be waited for
        raise CheckpointError(f"weights file {path} does not exist")
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8:
                raise CheckpointError(f"{path.name} is damaged: its header does not fit into its {size} bytes")
            if length > _INDEX_LIMIT:
                raise CheckpointError(f"{path.name}: header of {length} bytes", expected=f"at most {_INDEX_LIMIT}")
            header = json.loads(stream.read(length))
        stated = sum(end - begin for begin, end in _offsets(header))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from error
    if stated != size - 8 - length:
        raise CheckpointError(f"{path.name} is damaged: {stated} bytes of tensors stated, {size - 8 - length} there")
    return header  # type: ignore[no-any-return]


def _offsets(header: Any) -> Iterator[tuple[int, int]]:
    for key, entry in header.items():
        if key != "__metadata__":
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end:
                raise ValueError(f"{key} lies at {begin}..{end}")
            yield begin, end


def _load_torch(path: Path) -> State:
    records = _check_torch_archive(path)
    try:
        # mapped, not read: a storage then cannot reach beyond the file, and costs no memory until it is copied
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise _damaged(path, error) from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path.name} holds a {type(content).__name__}", expected="a dict of tensors")
    return _plain_tensors(path, content, records)


def _plain_tensors(path: Path, content: Mapping[Any, Any], records: set[int]) -> State:
    """Own copies of the tensors; each must fill a record of the file, and together they may not be larger than it."""
    left = path.stat().st_size
    state: State = {}
    for key, tensor in content.items():
        plain = isinstance(tensor, Tensor) and tensor.layout is torch.strided and tensor.device.type == "cpu"
        if not isinstance(key, str) or not plain or tensor.is_quantized:
            raise CheckpointError(f"{path.name}: {str(key)[:80]} is not a plain tensor", expected="a dict of tensors")
        left -= tensor.numel() * tensor.element_size()
        if left < 0 or tensor.untyped_storage().nbytes() not in records:
            raise CheckpointError(f"{path.name} is damaged: its tensors do not fit its records")
        state[key] = tensor.detach().clone(memory_format=torch.contiguous_format)
    return state


def _check_torch_archive(path: Path) -> set[int]:
    """Refuse archives that are not what ``torch.save`` writes, before torch looks at them; the sizes of its records."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise CheckpointError(f"{path.name} is damaged: its parts are larger than the file")
            index = [entry for entry in entries if entry.filename.endswith("data.pkl")]
            if len(index) != 1 or index[0].file_size > _INDEX_LIMIT:
                raise CheckpointError(f"{path.name} is not a torch checkpoint")
            with archive.open(index[0]) as stream:
                _check_names(path, stream)
            return {entry.file_size for entry in entries}
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path.name} is not a torch checkpoint, is cut off, or is in the format before torch 1.6",
            hint="Fetch it again, or save it anew with torch.save",
        ) from error
    except (OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise _damaged(path, error) from error


def _check_names(path: Path, stream: IO[bytes]) -> None:
    """Read the opcodes without running them; only names that plain tensors need may occur."""
    for opcode, name, _ in pickletools.genops(stream):
        if opcode.name == "GLOBAL":
            storage = str(name).startswith("torch ") and str(name).endswith("Storage")
            if not storage and name not in _PLAIN_MODULES:
                raise CheckpointError(
                    f"{path.name} asks for {str(name).replace(' ', '.')[:80]}",
                    expected="plain tensors; nothing was run",
                )
        elif opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ", "NEWOBJ_EX"):
            raise CheckpointError(f"{path.name} asks for more than plain tensors; nothing was run")


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    return CheckpointError(
        f"{path.name} cannot be read as weights: {reason}", hint="Fetch it again, or check its source"
    )
