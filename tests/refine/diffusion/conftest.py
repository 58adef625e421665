"""A tiny Stable Diffusion, so that nothing here needs trained weights or a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from depthlight.nets.prior.stable_diffusion import load_stable_diffusion  # noqa: E402

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,."
SCHEDULE = {"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def write_tokenizer(folder: Path, length: int = 12) -> int:
    """A CLIP tokenizer of single letters; its size."""
    folder.mkdir(parents=True)
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(words)


def tiny_unet(**changes):
    settings = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
    }
    return diffusers.UNet2DConditionModel(**settings | changes)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A Stable Diffusion of 16 x 16 px with random weights, as diffusers writes it."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("tiny-sd")
    tiny_unet().save_pretrained(root / "unet")
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=16,
    )
    vae.save_pretrained(root / "vae")
    size = write_tokenizer(root / "tokenizer")
    config = transformers.CLIPTextConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    transformers.CLIPTextModel(config).save_pretrained(root / "text_encoder")
    (root / "scheduler").mkdir()
    (root / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULE))
    return root


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="session")
def prior(folder):
    return load_stable_diffusion(folder)


@pytest.fixture(scope="session")
def make_unet():
    """A tiny UNet; keyword arguments change its configuration."""
    return tiny_unet


@pytest.fixture(scope="session")
def alpha_bar():
    """ᾱ of a step by its definition: betas are the squares of an even row between the roots of the ends."""
    betas = np.linspace(SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5, 1000) ** 2
    return lambda step: float(np.cumprod(1 - betas)[step])
