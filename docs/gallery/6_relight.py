"""
The same photo under other lights
=================================

Refinement judges a depth map by re-lighting it: from depth come normals, from normals and a light a new picture. A
wrong depth gives an impossible picture. Here the depth is the engine's own truth.
"""

import torch

from depthlight.eval.hard_content import hard_pair
from depthlight.io.pictures import sheet, write_image
from depthlight.refine.render import Lighting, normals_pinhole, relight

sample = hard_pair("textured", 2)
height, width = sample.disparity_HW.shape
depth = torch.from_numpy(1 / sample.disparity_HW)[None, None]
normals = normals_pinhole(depth, fx=0.9 * width, fy=0.9 * width, cx=(width - 1) / 2, cy=(height - 1) / 2)
photo = torch.from_numpy(sample.left_HW3).permute(2, 0, 1)[None] / 255
directions = {"from the left": (-0.8, 0.2, 0.6), "from the right": (0.8, 0.2, 0.6), "from above": (0.0, 0.8, 0.6)}
lights = torch.nn.functional.normalize(torch.tensor(list(directions.values())), dim=1)
matt, gloss, width = torch.full((3,), 0.9), torch.full((3,), 0.1), torch.full((3,), 16.0)
lighting = Lighting(direction_L3=lights, diffuse_L=matt, specular_L=gloss, shininess_L=width)
lit = relight(photo, normals, lighting)[0]
pictures = [(255 * picture).permute(1, 2, 0).byte().numpy() for picture in (normals[0] / 2 + 0.5, *lit)]
labels = ["photo", "normals", *directions]
write_image("relight.png", sheet([sample.left_HW3, *pictures], columns=3, labels=labels, width=400))
