"""What every single-image depth network promises, so that inference, refinement and training need to know only this.

Shape legend: B batch, C channels, H W input size (multiples of ``multiple``), h w size of a token map. Images are RGB
float32, sRGB in 0..1. The raw answer is (B, 1, H, W): relative inverse depth >= 0 (larger is nearer, affine-ambiguous)
or metric depth in metres, as ``quantity`` says.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from ...core.errors import InputError

Quantity = Literal["inverse_depth", "depth"]
TokenMaps = list[Tensor]  # (B, C_i, h_i, w_i); whether the finest comes first is stated by the network


class MonoNet(nn.Module):
    """Base of all single-image depth networks.

    ``encode`` and ``decode`` in a row equal ``forward``. Refinement optimises what lies between them, so it needs
    ``splits``; a network that cannot be split overrides ``forward`` and leaves the two alone.
    """

    family: ClassVar[str] = ""
    multiple: int = 32  # sides of the input must be multiples of it
    quantity: Quantity = "inverse_depth"
    splits: bool = True
    working: int = 518  # the longest side, px, that plain prediction resizes images to
    resizes: bool = False  # does it itself, and wants them whole

    def encode(self, image_B3HW: Tensor) -> TokenMaps:
        """Token maps of sRGB images in 0..1 (normalised inside)."""
        raise NotImplementedError

    def decode(self, tokens: TokenMaps, size: tuple[int, int]) -> Tensor:
        """Raw answer (B, 1, H, W) for an input of ``size`` (H, W); >= 0 where it is inverse depth."""
        raise NotImplementedError

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters of ``decode``: what refinement optimises beside the token maps."""
        raise NotImplementedError

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Raw answer (B, 1, H, W) for sRGB images in 0..1."""
        size: tuple[int, int] = (image_B3HW.shape[-2], image_B3HW.shape[-1])
        return self.decode(self.encode(image_B3HW), size)

    def check_input(self, image_B3HW: Tensor) -> None:
        """Refuse shapes the network cannot take.

        Raises:
            InputError: not (B, 3, H, W), or a side is no multiple of ``multiple``.
        """
        shape = tuple(image_B3HW.shape)
        if len(shape) != 4 or shape[1] != 3:
            raise InputError(f"the image has shape {shape}", expected="(B, 3, H, W)")
        if shape[2] % self.multiple or shape[3] % self.multiple or 0 in shape:
            raise InputError(
                f"the image is {shape[2]}x{shape[3]}",
                expected=f"height and width in multiples of {self.multiple}",
                hint="depthlight.load_mono(...).predict resizes for you",
            )
