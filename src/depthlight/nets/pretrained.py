"""Models of transformers and diffusers from a local folder: safetensors only, complete, without network or noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError
from ..core.extras import require


def load_transformers(factory: Any, folder: Path, *, source: str, variant: str | None = None) -> Any:
    """A network in float32 evaluation mode, from a class of transformers with ``from_pretrained``.

    Args:
        factory: such as ``transformers.AutoModelForDepthEstimation``.
        folder: holds ``config.json`` and safetensors weights.
        source: what to call it in errors.
        variant: of the weights' file, such as ``fp16`` in ``model.fp16.safetensors``.

    Raises:
        CheckpointError: the weights are damaged, or not those of the configuration. transformers would fill what is
            missing with random numbers.
    """
    with _one_line(source), quiet():
        model, report = factory.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            variant=variant,
            output_loading_info=True,
        )
    _check_complete(source, list(report["missing_keys"]) + list(report.get("mismatched_keys", ())))
    return model.float().eval()


def load_diffusers(factory: Any, folder: Path, *, source: str, dtype: Any, variant: str | None = None) -> Any:
    """A network in evaluation mode and ``dtype``, from a class of diffusers with ``from_pretrained``.

    Raises:
        CheckpointError: as :func:`load_transformers`.
    """
    with _one_line(source), quiet():
        model, report = factory.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            torch_dtype=dtype,
            variant=variant,
            output_loading_info=True,
        )
    _check_complete(source, list(report["missing_keys"]) + list(report["mismatched_keys"]))
    return model.eval()


def load_plain(factory: Any, folder: Path, *, source: str) -> Any:
    """What has no weights (a configuration, a tokenizer, an image processor), from its JSON and text files.

    Raises:
        CheckpointError: the files are missing, damaged, or of a kind the installed library does not know.
    """
    with _one_line(source), quiet():
        return factory.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and advice, whose important part we turn into errors."""
    logging = require("transformers", extra="refine").utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _one_line(source: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of half a dozen libraries
        said = " ".join(str(error).split())
        raise CheckpointError(
            f"{source} cannot be loaded: {said[:200]} ({type(error).__name__})",
            hint="Compare the folder with the hub's; a newer model may need a newer transformers or diffusers",
        ) from error


def _check_complete(source: str, lost: list[Any]) -> None:
    if lost:
        first = lost[0] if isinstance(lost[0], str) else lost[0][0]
        raise CheckpointError(
            f"{source}: its weights do not fit its configuration ({len(lost)} tensors, first {first})"
        )
