"""One sentence about a photo, for priors that take text: BLIP and its like through transformers.

Li et al., BLIP (arXiv 2201.12086) and BLIP-2 (arXiv 2301.12597). Re-Depth Anything captions with BLIP-2 OPT 2.7B.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray

from ...core.errors import CheckpointError
from ...core.extras import require
from ..pretrained import load_plain, load_transformers, quiet
from ..snapshots import Files, find_snapshot

DEFAULT_CAPTIONER = (
    "Salesforce/blip-image-captioning-large"  # 1.9 GB; the paper's is "Salesforce/blip2-opt-2.7b", 15 GB
)
KINDS = ("blip", "blip-2")  # these describe a picture when asked nothing
MAX_TOKENS = 40
FILES = Files(
    needed=(("config.json",), ("model.safetensors", "model.safetensors.index.json")),
    also=(
        "preprocessor_config.json",
        "processor_config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
    ),
)


@torch.no_grad()
def caption(
    photo_HW3: NDArray[np.uint8],
    source: str | os.PathLike[str] = DEFAULT_CAPTIONER,
    *,
    device: torch.device | str = "cpu",
) -> str:
    """What a captioning model says about the photo, most likely words first, so the same every time.

    The model is loaded for this one call, in fp32 (half precision on a GPU), and freed before it returns.

    Args:
        photo_HW3: RGB.
        source: a hub id, or a folder as transformers writes it.
        device: where it runs.

    Raises:
        CheckpointError: the model cannot be had, is damaged, is of a kind that wants a question, or says nothing.
    """
    library = require("transformers", extra="refine", purpose="to caption the photo for its prompt")
    snapshot = find_snapshot(source, FILES)
    config = load_plain(library.AutoConfig, snapshot.folder, source=snapshot.source)
    if config.model_type not in KINDS:
        raise CheckpointError(
            f"{snapshot.source} is a {config.model_type} model",
            expected="a captioning model of type " + ", ".join(KINDS),
            hint="Or give the prompt yourself",
        )
    device = torch.device(device)
    processor = load_plain(library.AutoProcessor, snapshot.folder, source=snapshot.source)
    model = load_transformers(library.AutoModelForImageTextToText, snapshot.folder, source=snapshot.source)
    model = model.to(device, torch.float32 if device.type == "cpu" else torch.float16)
    inputs = processor(images=photo_HW3, return_tensors="pt").to(device)
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    with quiet():
        tokens = model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False, num_beams=1)
    text = " ".join(processor.batch_decode(tokens, skip_special_tokens=True)[0].split())
    del model, inputs, tokens
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if not text:
        raise CheckpointError(f"{snapshot.source} says nothing about this photo", hint="Give the prompt yourself")
    return text
