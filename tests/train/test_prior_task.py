"""The task ``prior``: its patches, its loss, a run from start to model file, and that it learns."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from depthlight.core.config import from_dict
from depthlight.core.errors import ConfigError, InputError
from depthlight.data.mono import MonoBatch, MonoSample
from depthlight.eval.relight_gate import GateConfig, run_gate
from depthlight.nets.checkpoints import load_weights
from depthlight.nets.prior.denoiser import Conditions, Denoiser, DenoiserConfig
from depthlight.nets.prior.diffusion import velocity
from depthlight.nets.prior.load import load_prior
from depthlight.refine.patches import prior_normals, standard_raw
from depthlight.train.config import TrainConfig, load_config
from depthlight.train.loop import Run
from depthlight.train.prior_config import PriorConfig
from depthlight.train.relighting import (
    batch_generator,
    denoising_errors,
    random_times,
    render_patches,
    withheld,
)

Surface = Callable[[int], tuple[np.ndarray, np.ndarray]]
STEPS = 150
NETWORK = {"channels": [8, 8, 8, 16], "blocks": [1, 1, 1, 1], "embedding": 16}


def waves(seed: int, size: tuple[int, int] = (96, 128)) -> tuple[np.ndarray, np.ndarray]:
    """A gray image of a wavy surface lit from the upper left, and its inverse depth."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1.33 : 1.33 : size[1] * 1j]
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 6, 2)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    inverse = 20 + 3 * np.sin(5 * along + phase[0]) + 2 * np.sin(4 * across + phase[1])
    down, right = np.gradient(inverse)
    shade = np.clip(0.5 + 0.35 * (down + right), 0.05, 0.95)
    image = (255 * shade[..., None] * rng.uniform(0.6, 1, 3)).astype(np.uint8)
    return image, inverse.astype(np.float32)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("waves")
    for index in range(6):
        image, inverse = waves(index)
        (root / str(index)).mkdir()
        cv2.imwrite(str(root / str(index) / "left.png"), image[..., ::-1])
        cv2.imwrite(str(root / str(index) / "disp.png"), np.rint(inverse * 256).astype(np.uint16))
    return root


@pytest.fixture
def make(scenes: Path) -> Callable[..., TrainConfig]:
    def make(**changes: Any) -> TrainConfig:
        values: dict[str, Any] = {
            "task": "prior",
            "network": "relight",
            "network_config": NETWORK,
            "data": [{"path": str(scenes)}],
            "crop": [64, 96],
            "batch": 2,
            "workers": 0,
            "threads": 1,
            "amp": "fp32",
            "ema": 0.9,
            "device": "cpu",
            "checkpoint_minutes": 1000.0,
            "prior": {"coarse": 1, "native": 2},
            "schedule": {"lr": 2e-3, "warmup": 4, "samples": 8},
        }
        return from_dict(TrainConfig, values | changes)

    return make


def batch(count: int = 2, *, hole: bool = False, first: int = 0, surface: Surface = waves) -> MonoBatch:
    pairs = [surface(first + index) for index in range(count)]
    known = torch.ones((count, 96, 128), dtype=torch.bool)
    if hole:
        known[:, 40:60, 50:80] = False
    return MonoBatch(
        image_B3HW=torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2),
        inverse_BHW=torch.from_numpy(np.stack([inverse for _, inverse in pairs])),
        mask_BHW=known,
        names=tuple(map(str, range(count))),
        positions=tuple(range(count)),
        nominal=count,
    )


def test_crops_without_depth_are_bad_samples(make: Callable[..., TrainConfig], scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(scenes / "0", tmp_path / "scenes" / "flat")
    shutil.copytree(scenes / "1", tmp_path / "scenes" / "good")
    nothing = np.zeros((96, 128), np.uint16)
    nothing[0, 0] = 256
    cv2.imwrite(str(tmp_path / "scenes" / "flat" / "disp.png"), nothing)
    config = make(data=[{"path": str(tmp_path / "scenes")}], schedule={"samples": 8})
    run = Run(config, tmp_path / "run", quiet=True)
    assert run.run() == 0
    assert run.progress.bad_names == ("scenes/flat",) and run.progress.bad == 4


def test_patches_come_image_by_image_coarse_first() -> None:
    config = PriorConfig(coarse=1, native=2)
    patches, shown = render_patches(batch(), config, batch_generator(0, (0,)))
    assert patches.native_N.tolist() == [0, 1, 1] * 2
    assert patches.relit_N3PP.shape == (6, 3, 64, 64) and patches.relit_N3PP.isfinite().all()
    assert len({tuple(light.tolist()) for light in patches.light_N6}) == 6  # every patch has its own light
    again, _ = render_patches(batch(), config, batch_generator(0, (0,)))
    assert torch.equal(patches.relit_N3PP, again.relit_N3PP) and shown is patches.relit_N3PP


def test_unknown_pixels_do_not_count() -> None:
    patches, _ = render_patches(batch(hole=True), PriorConfig(coarse=2, native=2), batch_generator(0, (0,)))
    unknown = ~patches.relit_N3PP.isfinite()
    assert unknown[patches.native_N == 0].any()
    noise, t_N = torch.randn(patches.relit_N3PP.shape), torch.full((8,), 0.5)
    known_x = torch.where(unknown, 0.0, 2 * patches.relit_N3PP - 1)

    class Wrong:
        """Right about every known pixel, and far off elsewhere."""

        def __call__(self, noisy: Tensor, t: Tensor, told: Conditions) -> Tensor:
            return velocity(known_x, noise, t) + 100 * unknown

    net: Any = Wrong()
    errors = denoising_errors(net, patches.relit_N3PP, t_N, noise, patches.conditions())
    assert float(errors.max()) < 1e-9


def test_conditions_are_withheld_as_often_as_asked() -> None:
    count = 4000
    ones = torch.ones(count)
    told = Conditions(torch.zeros(count, 3, 1, 1), torch.zeros(count, 6), ones, ones, ones)
    found = withheld(told, PriorConfig(drop_all=0.1, drop_light=0.2), torch.Generator().manual_seed(0))
    assert abs(float(found.photo_on_N.mean()) - 0.9) < 0.02
    assert abs(float(found.light_on_N.mean()) - 0.7) < 0.02
    assert not ((found.photo_on_N == 0) & (found.light_on_N == 1)).any()


def test_times_fill_the_range_evenly() -> None:
    times = random_times(64, torch.Generator().manual_seed(0))
    assert sorted((times * 64).int().tolist()) == list(range(64))


@pytest.mark.parametrize("conditional", [True, False])
def test_a_run_ends_in_a_model_that_loads(
    make: Callable[..., TrainConfig], scenes: Path, tmp_path: Path, conditional: bool
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("3\n")
    kind = {**NETWORK, "conditional": conditional}
    config = make(network_config=kind, evaluate={"folder": str(scenes), "list": str(listed)})
    with pytest.raises(InputError, match="1 scenes; expected 2 or more"):
        Run(config, tmp_path / "alone", quiet=True).run()
    holed = tmp_path / "holed"
    shutil.copytree(scenes, holed)
    truth = cv2.imread(str(holed / "3" / "disp.png"), cv2.IMREAD_UNCHANGED)
    truth[:40, :40] = 0
    cv2.imwrite(str(holed / "3" / "disp.png"), truth)
    listed.write_text("3\n5\n")
    with pytest.raises(InputError, match="3 has pixels without truth"):  # and not after an hour
        Run(replace(config, evaluate=replace(config.evaluate, folder=str(holed))), tmp_path / "holes", quiet=True).run()
    assert Run(config, tmp_path / "run", quiet=True).run() == 0
    prior = load_prior(tmp_path / "run" / "model.safetensors")
    assert prior.net.conditional == conditional and prior.lineage[-1]["samples"] == 8
    assert (tmp_path / "run" / "samples" / "sheet.png").is_file()
    assert "ranked_flipped" in (tmp_path / "run" / "evaluation.csv").read_text()
    # and goes on from it
    more = make(start=str(tmp_path / "run" / "model.safetensors"))
    assert Run(more, tmp_path / "more", quiet=True).run() == 0
    assert len(load_prior(tmp_path / "more" / "model.safetensors").lineage) == 2


def test_a_resumed_run_ends_with_the_same_bits(make: Callable[..., TrainConfig], tmp_path: Path) -> None:
    Run(make(), tmp_path / "whole", quiet=True).run()
    half = {"lr": 2e-3, "warmup": 4, "samples": 4}
    Run(make(schedule=half), tmp_path / "parts", quiet=True).run()
    Run(make(), tmp_path / "parts", quiet=True).run()
    whole, parts = (load_weights(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_the_recipes_are_of_this_task() -> None:
    told, blind = (load_config(name) for name in ("prior", "prior-unconditional"))
    assert told.task == blind.task == "prior"
    assert told.network_config["conditional"] and not blind.network_config["conditional"]
    assert told.prior == replace(blind.prior, wrong=0.5, estimator="mono")
    with pytest.raises(ConfigError, match="task 'stereo'"):
        load_config("prior", settings=["stage=2"])
    with pytest.raises(ConfigError):
        PriorConfig(coarse=0, native=0)


def test_who_is_told_nothing_cannot_tell_wrong_from_right(make: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = make(network_config={**NETWORK, "conditional": False}, prior={"wrong": 0.5})
    with pytest.raises(ConfigError, match="told photo and light"):
        Run(config, tmp_path, quiet=True).run()


def telltale(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A wavy surface whose colours are its normals, so that the photo gives them away, and its inverse depth."""
    _, inverse = waves(seed)
    normal = prior_normals(standard_raw(torch.from_numpy(inverse)[None, None]))[0].permute(1, 2, 0)
    return (255 * (normal + 1) / 2).to(torch.uint8).numpy(), inverse


class Unseen:
    """Surfaces no training image had."""

    name = "unseen"

    def __len__(self) -> int:
        return 8

    def sample_name(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> MonoSample:
        image, inverse = telltale(1000 + index)
        return MonoSample(image, inverse, np.ones(inverse.shape, np.bool_), str(index))


@pytest.mark.slow
def test_it_learns_what_true_relighting_looks_like() -> None:
    """Where the photo tells the shape, true re-lightings are soon likelier than flat and noisy ones."""
    torch.manual_seed(0)
    net = Denoiser(DenoiserConfig(channels=(16, 16, 16, 32), blocks=(1, 1, 1, 1), embedding=32))
    optimizer = torch.optim.AdamW(net.parameters(), 4e-3)
    config = PriorConfig(coarse=1, native=3, drop_all=0.0)
    for step in range(STEPS):
        given = batch(4, first=4 * step, surface=telltale)
        generator = batch_generator(0, (step,))
        patches, _ = render_patches(given, config, generator)
        t_N, noise = random_times(16, generator), torch.randn(patches.relit_N3PP.shape, generator=generator)
        told = withheld(patches.conditions(), config, generator)
        loss = denoising_errors(net, patches.relit_N3PP, t_N, noise, told)[0].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    found = run_gate(net.eval(), Unseen(), GateConfig(images=8, patches=2))
    assert min(found["ranked"][name] for name in ("flattened", "noisy", "shallow")) >= 75
