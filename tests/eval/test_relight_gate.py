"""The prior's gate: what it does to normals, that it ranks by the prior's loss alone, and its pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from depthlight.core.errors import ConfigError, InputError
from depthlight.data.mono import MonoSample
from depthlight.eval.relight_gate import (
    CORRUPTIONS,
    GateConfig,
    corrupted_normals,
    gate_figure,
    run_gate,
    whole_image,
    with_slopes,
)
from depthlight.eval.relight_sheet import draw_sheet, sphere
from depthlight.io.images import read_image
from depthlight.nets.prior.denoiser import Conditions, Denoiser, DenoiserConfig
from depthlight.nets.prior.diffusion import alpha_sigma, velocity
from depthlight.refine.patches import prior_normals
from depthlight.refine.render import Lighting, relight

SMALL = GateConfig(images=3, patches=2, times=(0.5,))


class Bumps:
    """Round bumps on a tilted ground, gray, of which the photo is simply bright where the ground is near."""

    name = "bumps"

    def __len__(self) -> int:
        return 6

    def sample_name(self, index: int) -> str:
        return f"bump-{index}"

    def __getitem__(self, index: int) -> MonoSample:
        y, x = np.mgrid[-1:1:192j, -1:1:256j].astype(np.float32)
        inverse = 8 + 2 * y + 2 * np.sin(5 * x + index) * np.cos(6 * y)
        image = np.broadcast_to((25 * (inverse - 4))[..., None], (192, 256, 3)).astype(np.uint8)
        return MonoSample(image, inverse.astype(np.float32), np.ones((192, 256), np.bool_), self.sample_name(index))


class Believer:
    """A prior that is sure the picture is the photo's under slopes ``factor`` times the true ones.

    It reads the true depth off the photo's brightness, which :class:`Bumps` makes possible, on coarse patches and
    native ones alike up to their border.
    """

    conditional = True

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, noisy: Tensor, t_N: Tensor, told: Conditions) -> Tensor:
        alpha, sigma = alpha_sigma(t_N)
        believed = torch.stack([self.picture(told, row) for row in range(len(noisy))])
        return velocity(2 * believed - 1, (noisy - alpha * (2 * believed - 1)) / sigma, t_N)

    def picture(self, told: Conditions, row: int) -> Tensor:
        photo = told.photo_N3PP[row : row + 1]
        depth = 1 / (photo[:, :1] * 255 / 25 + 4)
        focal = (
            256 if told.native_N[row] else 256 / 3
        )  # px: a patch of the rendering of 192x256, or that shrunk to 64x85
        down, across = torch.gradient(focal * depth.log(), dim=(-2, -1))
        # where in the picture the patch is it does not know, so it takes it for the middle
        normal = F.normalize(torch.cat([across, -down, torch.ones_like(depth)], 1), dim=1)
        light = told.light_N6[row]
        lighting = Lighting(
            direction_L3=light[None, :3], diffuse_L=light[3:4], specular_L=light[4:5], shininess_L=2 ** light[5:]
        )
        return relight(photo, with_slopes(normal, self.factor), lighting)[0, 0]


def rank(net: Any, config: GateConfig = SMALL) -> dict[str, Any]:
    return run_gate(net, Bumps(), config)


def test_true_normals_win_with_a_prior_that_knows_them() -> None:
    found = rank(Believer(1.0))
    assert found["ranked"] == dict.fromkeys(CORRUPTIONS, 100.0)
    assert found["ranked_gate"] == 100.0 and found["images"] == 3
    assert min(found["loss"], key=found["loss"].__getitem__) == "true"


@pytest.mark.parametrize(("factor", "favourite"), [(0.1, "flattened"), (3.0, "steep"), (-1.0, "flipped")])
def test_a_prior_with_another_belief_prefers_that(factor: float, favourite: str) -> None:
    found = rank(Believer(factor))
    assert found["ranked"][favourite] == 0.0
    assert min(found["loss"], key=found["loss"].__getitem__) == favourite


def test_a_prior_blind_to_the_light_cannot_tell_bumps_from_dents_on_average() -> None:
    """One that expects photo and noise alike loses nothing by a flip, which one that knows the light does."""
    blind, knowing = rank(Believer(0.0)), rank(Believer(1.0))
    gap = {name: abs(f["loss"]["flipped"] - f["loss"]["true"]) for name, f in (("blind", blind), ("knows", knowing))}
    assert gap["blind"] < 0.5 * gap["knows"]


def test_the_answer_is_a_function_of_the_seed_and_fits_json() -> None:
    torch.manual_seed(0)
    net = Denoiser(DenoiserConfig.tiny()).eval()
    torch.nn.init.normal_(net.out.weight)
    first, again, other = rank(net), rank(net), rank(net, GateConfig(images=3, patches=2, times=(0.5,), seed=1))
    assert json.loads(json.dumps(first)) == again
    assert first["loss"] != other["loss"]


def test_contrast_takes_off_the_loss_without_conditions() -> None:
    class Forgetful(Believer):
        """Believes in dents as soon as it is not told the light, so that telling it speaks for bumps."""

        def picture(self, told: Conditions, row: int) -> Tensor:
            return Believer(0.1 if told.light_on_N[row] else -1.0).picture(told, row)

    config = GateConfig(images=2, patches=2, times=(0.5,), contrast=True)
    plain, forgetful = rank(Believer(0.1), config), rank(Forgetful(0.1), config)
    for against in ("light", "everything"):
        # one that does not heed what is withheld is ranked as by its loss alone
        assert plain[f"ranked_guided_{against}"] == plain["ranked"]
        assert forgetful[f"ranked_guided_{against}"]["flipped"] == 100.0
    with pytest.raises(InputError, match="unconditional"):
        run_gate(Denoiser(DenoiserConfig.tiny(conditional=False)), Bumps(), config)


def test_the_gates_figure_is_of_three_corruptions() -> None:
    ranked = {"flattened": 60.0, "noisy": 90.0, "foreign": 75.0, "steep": 0.0, "shallow": 20.0, "flipped": 0.0}
    assert gate_figure(ranked) == 75.0


def test_a_gate_needs_another_scene() -> None:
    class One(Bumps):
        def __len__(self) -> int:
            return 1

    with pytest.raises(InputError, match="1 scenes; expected 2 or more"):
        run_gate(Believer(1.0), One(), SMALL)
    with pytest.raises(ConfigError, match="2 images"):
        GateConfig(images=1)


def test_corruptions_are_what_they_are_called() -> None:
    _, raw = whole_image(Bumps()[0])
    _, other = whole_image(Bumps()[3])
    found = corrupted_normals(raw, other[..., :150, :200], torch.Generator().manual_seed(0))
    true = found["true"]
    torch.testing.assert_close(corrupted_normals(raw, other, torch.Generator())["foreign"], prior_normals(other))
    torch.testing.assert_close(true, prior_normals(raw))

    def slopes(normal: Tensor) -> Tensor:
        return normal[:, :2] / normal[:, 2:]

    for name, factor in {"flattened": 0.1, "steep": 3, "shallow": 1 / 3, "flipped": -1}.items():
        torch.testing.assert_close(slopes(found[name]), factor * slopes(true), rtol=1e-3, atol=1e-4)
    rough = (found["noisy"] * true).sum(1).clamp(max=1).acos().rad2deg().mean()
    assert 5 < float(rough) < 60
    for normal in found.values():
        torch.testing.assert_close(normal.norm(dim=1), torch.ones_like(normal[:, 0]))


def test_images_with_holes_are_refused() -> None:
    sample = Bumps()[0]
    sample.valid_HW[5, 5] = False
    with pytest.raises(InputError, match="without truth"):
        whole_image(sample)


def test_the_sheet_shows_every_sample(tmp_path: Path) -> None:
    for conditional, pictures in ((True, 4), (False, 1)):
        net = Denoiser(DenoiserConfig.tiny(conditional=conditional)).eval()
        draw_sheet(net, Bumps(), tmp_path / "sheet.png", count=9, steps=2)
        page = read_image(tmp_path / "sheet.png")
        assert page.shape == (2 * (pictures * 66 + 4), 8 * 66 + 2, 3)
        assert (page[2:66, 2:66] != 255).any() and (page[-64:, 70:] == 255).all()


def test_the_ball_is_bright_towards_the_light() -> None:
    ball = sphere(torch.tensor([0.5**0.5, 0.0, 0.5**0.5, 1.0, 0.0, 5.0]))
    assert ball[0, 32, 50] > 2 * ball[0, 32, 14]
    assert ball[0, 0, 0] < 0.05
