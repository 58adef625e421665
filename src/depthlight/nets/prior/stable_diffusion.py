"""Stable Diffusion (1.x, 2.x and models of their layout) as a prior: encoder, denoiser and schedule, through diffusers.

Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models (arXiv 2112.10752). The parts are loaded
one by one from a folder of diffusers' layout; the safety checker and the image decoder are not.

What it needs, for SD 1.5 (860 M parameters of the UNet, 123 M text, 34 M encoder): 4.1 GB of weights in fp32, 2.1 GB in
fp16 or bf16, and 3.3 GB more for the gradient of one 512 x 512 image through the encoder. On one CPU core with
bf16 that gradient takes 26 s and each of the UNet's two answers 12 s (measured with random weights); the paper's
1000 steps want a GPU. The encoder always runs in fp32: in half precision its activations overflow and small gradients
vanish.

Shape legend: B images, 3 sRGB channels in 0..1, S side of the square the model was made for, C latent channels, s side
of the latent, K text tokens, D text channels, T steps of the schedule.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.errors import CheckpointError, DepthlightWarning, InputError, UnknownNameError
from ...core.extras import require
from ...core.registry import PRIOR_HUB
from ..pretrained import load_diffusers, load_plain, load_transformers
from ..snapshots import Files, Snapshot, find_snapshot

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class StableDiffusion:
    """The frozen parts of a latent diffusion model.

    Attributes:
        unet, vae, text_encoder, tokenizer: of diffusers and transformers.
        alpha_bar_T: (T,) float32, the share ᾱ of the image's variance left at each step (DDIM's).
        prediction: what the UNet predicts.
        snapshot: where the files are.
        precision: of UNet and text encoder; the VAE is fp32.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    alpha_bar_T: Tensor
    prediction: str
    snapshot: Snapshot
    precision: str

    @property
    def size(self) -> int:
        """S: the side in px the model was trained at (512 for SD 1.5)."""
        halvings = len(self.vae.config.block_out_channels) - 1
        return int(self.unet.config.sample_size) << halvings

    @property
    def device(self) -> torch.device:
        device: torch.device = self.unet.device
        return device

    @torch.no_grad()
    def embed(self, prompt: str) -> Tensor:
        """Text embeddings (1, K, D). A prompt that is too long is cut with a :class:`DepthlightWarning`."""
        limit = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        whole = len(self.tokenizer(prompt)["input_ids"])
        if whole > limit:
            warnings.warn(
                f"the prompt has {whole} tokens; only the first {limit} count", DepthlightWarning, stacklevel=2
            )
        found = self.tokenizer(prompt, padding="max_length", max_length=limit, truncation=True, return_tensors="pt")
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        mask = found["attention_mask"].to(self.device) if masked else None
        text_1KD: Tensor = self.text_encoder(found["input_ids"].to(self.device), attention_mask=mask)[0]
        return text_1KD

    def encode(self, image_B3SS: Tensor, noise_BCss: Tensor) -> Tensor:
        """Latents (B, C, s, s): the encoder's mean + deviation · noise, times the model's scaling factor.

        Differentiable with respect to the image.
        """
        posterior = self.vae.encode(2 * image_B3SS.float() - 1).latent_dist
        latent_BCss: Tensor = (posterior.mean + posterior.std * noise_BCss) * self.vae.config.scaling_factor
        return latent_BCss

    def latent_shape(self, batch: int) -> tuple[int, int, int, int]:
        """(B, C, s, s)."""
        side = int(self.unet.config.sample_size)
        return batch, int(self.unet.config.in_channels), side, side

    @torch.no_grad()
    def predict_noise(self, latent_BCss: Tensor, noise_BCss: Tensor, step_B: Tensor, text_BKD: Tensor) -> Tensor:
        """ε̂ (B, C, s, s) float32, of latents to which ``noise_BCss`` is added as of step ``step_B``.

        A prediction of v = √ᾱ ε − √(1−ᾱ) x is turned into one of ε = √ᾱ v + √(1−ᾱ) x_t.
        """
        alpha_bar_B111 = self.alpha_bar_T[step_B].view(-1, 1, 1, 1)
        signal, spread = alpha_bar_B111.sqrt(), (1 - alpha_bar_B111).sqrt()
        noisy_BCss = signal * latent_BCss + spread * noise_BCss
        dtype = DTYPES[self.precision]
        answer: Tensor = self.unet(
            noisy_BCss.to(dtype), step_B, encoder_hidden_states=text_BKD.to(dtype), return_dict=False
        )[0].float()
        return answer if self.prediction == "epsilon" else signal * answer + spread * noisy_BCss


def letterbox(image_B3HW: Tensor, size: int) -> Tensor:
    """(B, 3, S, S): scaled to fit, bilinear and antialiased, and centred on black. Differentiable.

    Args:
        image_B3HW: sRGB, 0..1.
        size: S in px.
    """
    height, width = image_B3HW.shape[-2:]
    ratio = size / max(height, width)
    inner = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    if inner != (height, width):
        image_B3HW = F.interpolate(image_B3HW, inner, mode="bilinear", align_corners=False, antialias=True)
    top, left = (size - inner[0]) // 2, (size - inner[1]) // 2
    return F.pad(image_B3HW, (left, size - inner[1] - left, top, size - inner[0] - top))


def find_stable_diffusion(
    source: str | os.PathLike[str], *, device: torch.device | str = "cpu", precision: str = "fp32"
) -> Snapshot:
    """The files of a latent diffusion model, without loading them; arguments and errors of
    :func:`load_stable_diffusion`."""
    if precision not in DTYPES:
        raise UnknownNameError("precision", precision, DTYPES)
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise InputError("fp16 does not run on a CPU", hint="Take bf16 or fp32 there")
    return find_snapshot(PRIOR_HUB.get(os.fspath(source), source), _files(precision))


def load_stable_diffusion(
    source: str | os.PathLike[str], *, device: torch.device | str = "cpu", precision: str = "fp32"
) -> StableDiffusion:
    """A latent diffusion model, frozen.

    Args:
        source: ``sd-1.5``, a hub id, or a folder of diffusers' layout (``unet/``, ``vae/``, ``text_encoder/``,
            ``tokenizer/``, ``scheduler/``).
        device: where it runs.
        precision: ``fp32``, ``bf16`` or ``fp16`` (not on a CPU), of UNet and text encoder.

    Raises:
        CheckpointError: the model cannot be had, is damaged, or is of another layout.
        InputError: fp16 on a CPU.
        UnknownNameError: no such precision.
        MissingExtraError: diffusers or transformers is not installed.
    """
    snapshot = find_stable_diffusion(source, device=device, precision=precision)
    diffusers = require("diffusers", extra="refine", purpose="to run Stable Diffusion as a prior")
    transformers = require("transformers", extra="refine", purpose="to run Stable Diffusion as a prior")
    folder, name, dtype = snapshot.folder, snapshot.source, DTYPES[precision]
    alpha_bar_T, prediction = _schedule(folder, name, diffusers)
    variants = {str(Path(file).parent): "fp16" if ".fp16." in file else None for file in snapshot.chosen}
    model = StableDiffusion(
        unet=load_diffusers(
            diffusers.UNet2DConditionModel,
            folder / "unet",
            source=f"{name}/unet",
            dtype=dtype,
            variant=variants["unet"],
        ),
        vae=load_diffusers(
            diffusers.AutoencoderKL, folder / "vae", source=f"{name}/vae", dtype=torch.float32, variant=variants["vae"]
        ),
        text_encoder=load_transformers(
            transformers.CLIPTextModel,
            folder / "text_encoder",
            source=f"{name}/text_encoder",
            variant=variants["text_encoder"],
        ).to(dtype),
        tokenizer=load_plain(transformers.CLIPTokenizer, folder / "tokenizer", source=f"{name}/tokenizer"),
        alpha_bar_T=alpha_bar_T.to(device),
        prediction=prediction,
        snapshot=snapshot,
        precision=precision,
    )
    _check_layout(model)
    model.vae.decoder = torch.nn.Identity()  # 50 M parameters that only make pictures
    for part in (model.unet, model.vae, model.text_encoder):
        part.requires_grad_(False).to(device)
    return model


def _files(precision: str) -> Files:
    """The parts' files; half precision prefers the half-size files where there are such."""

    def weights(stem: str) -> tuple[str, ...]:
        full, half = f"{stem}.safetensors", f"{stem}.fp16.safetensors"
        return (full, half) if precision == "fp32" else (half, full)

    return Files(
        needed=(
            ("unet/config.json",),
            weights("unet/diffusion_pytorch_model"),
            ("vae/config.json",),
            weights("vae/diffusion_pytorch_model"),
            ("text_encoder/config.json",),
            weights("text_encoder/model"),
            ("scheduler/scheduler_config.json",),
            ("tokenizer/vocab.json",),
            ("tokenizer/merges.txt",),
        ),
        also=("tokenizer/tokenizer_config.json", "tokenizer/special_tokens_map.json", "tokenizer/tokenizer.json"),
    )


def _schedule(folder: Path, name: str, diffusers: Any) -> tuple[Tensor, str]:
    """ᾱ of every step as DDIM has it, whatever sampler the folder names, and what the UNet predicts."""
    path = folder / "scheduler" / "scheduler_config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        prediction = values.get("prediction_type", "epsilon")
        known = {"num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"}
        scheduler = diffusers.DDIMScheduler(**{key: value for key, value in values.items() if key in known})
    except (OSError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise CheckpointError(f"{name}: {path.name} is damaged ({type(error).__name__}: {error})") from error
    if prediction not in PREDICTIONS or "FlowMatch" in values.get("_class_name", ""):
        raise CheckpointError(
            f"{name} predicts {prediction} under {values.get('_class_name')}", expected=" or ".join(PREDICTIONS)
        )
    alpha_bar_T: Tensor = scheduler.alphas_cumprod.float()
    return alpha_bar_T, prediction


def _check_layout(model: StableDiffusion) -> None:
    """Refuse what looks like Stable Diffusion but wants more inputs: inpainting, SDXL, class labels."""
    unet, vae = model.unet.config, model.vae.config
    problem = ""
    if not isinstance(unet.sample_size, int):
        problem = f"its UNet works at {unet.sample_size}, not in a square"
    elif unet.in_channels != vae.latent_channels:
        problem = f"its UNet takes {unet.in_channels} channels and its encoder gives {vae.latent_channels}"
    elif unet.addition_embed_type is not None or unet.class_embed_type is not None:
        problem = f"its UNet wants further inputs ({unet.addition_embed_type or unet.class_embed_type})"
    elif unet.cross_attention_dim != model.text_encoder.config.hidden_size:
        problem = (
            f"its UNet reads {unet.cross_attention_dim} text channels, not {model.text_encoder.config.hidden_size}"
        )
    if problem:
        raise CheckpointError(
            f"{model.snapshot.source}: {problem}", expected="a text-to-image model of Stable Diffusion 1.x or 2.x"
        )
