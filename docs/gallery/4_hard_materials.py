"""
One scene in six materials
==========================

What surfaces are made of decides how well they can be matched. The engine paints one scene six times; shapes, camera
and light stay. The table over many scenes is in :doc:`/reliability`.
"""

import numpy as np

import depthlight as dl
from depthlight.eval.hard_content import MATERIALS, hard_pair
from depthlight.io.colour import colour_map
from depthlight.io.pictures import sheet, write_image

matcher = dl.load()
pairs = [hard_pair(material, 2) for material in MATERIALS]
maps, labels = [], []
for material, pair in zip(MATERIALS, pairs, strict=True):
    pred = matcher.predict(pair.left_HW3, pair.right_HW3)
    error = np.abs(pred.disparity - pair.disparity_HW)[pair.visible_HW].mean()
    maps.append(colour_map(pred.disparity, 8, 64))
    labels.append(f"{material}: {error:.1f} px")
pictures = [pair.left_HW3 for pair in pairs]
write_image("hard_materials.png", sheet([*pictures, *maps], columns=6, labels=[*MATERIALS, *labels], width=240))
