"""The authors' weights: from the Hugging Face hub where it can be reached, else a line that says what to do."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import CheckpointError, UnknownNameError
from ..core.extras import require
from ..core.registry import HUB_REPOSITORY, HUB_WEIGHTS

LAS1_PAGE = "https://github.com/TomTomTommi/LiteAnyStereo"


def fetch_official(name: str) -> Path:
    """The local file of an official checkpoint, downloaded to the hub's own cache when it is not there.

    Args:
        name: ``las2-s.official`` … ``las2-h.official``.

    Raises:
        CheckpointError: the weights are not on the hub (``las1.official``), or neither network nor cache has them.
        UnknownNameError: no official weights are called that.
        MissingExtraError: huggingface_hub is not installed.
    """
    if name == "las1.official":
        raise CheckpointError(
            "las1.official is not on the Hugging Face hub",
            hint=f"Download the final MIX checkpoint from the Google Drive folder linked at {LAS1_PAGE} "
            "and pass it with --weights FILE",
        )
    if name not in HUB_WEIGHTS:
        raise UnknownNameError("official model", name, ["las1.official", *HUB_WEIGHTS])
    hub = require("huggingface_hub", extra="torch", purpose="to download official weights")
    file = HUB_WEIGHTS[name]
    try:
        return Path(hub.hf_hub_download(HUB_REPOSITORY, file))
    except Exception as error:  # the hub client raises errors of several libraries
        raise CheckpointError(
            f"{name}: cannot fetch {file} from {HUB_REPOSITORY}, and no copy is cached ({type(error).__name__})",
            hint=f"Download https://huggingface.co/{HUB_REPOSITORY}/resolve/main/{file} "
            "on a machine with a network and pass it with --weights FILE",
        ) from error
