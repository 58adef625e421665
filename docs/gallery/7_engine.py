"""
The data engine
===============

Training pairs are made, not downloaded: four families of scenes with exact disparity in both views. Two of each, with
their truth.
"""

from depthlight.data.synth.engine import FAMILIES, Engine, SynthConfig
from depthlight.io.colour import colour_map
from depthlight.io.pictures import sheet, write_image

views, maps = [], []
for family in FAMILIES:
    engine = Engine(SynthConfig(seed=4, families={family: 1.0}, max_max_disp=96.0))
    for index in range(2):
        sample = engine.sample(index)
        views.append(sample.left_HW3)
        maps.append(colour_map(sample.disparity_HW, 0, float(sample.disparity_HW.max())))
labels = [family for family in FAMILIES for _ in range(2)]
rows = [cell for start in range(0, 8, 4) for cell in (*views[start : start + 4], *maps[start : start + 4])]
captions = [cell for start in range(0, 8, 4) for cell in (*labels[start : start + 4], *[""] * 4)]
write_image("engine.png", sheet(rows, columns=4, labels=captions, width=320))
