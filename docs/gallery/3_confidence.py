"""
What confidence is worth
========================

Confidence ranks the pixels: leave out the least certain and the rest gets better. How much, on one real pair, and how
much a ranking by the true error would give.
"""

import numpy as np
from skimage.data import stereo_motorcycle

import depthlight as dl
from depthlight.io.charts import line_chart
from depthlight.io.pictures import write_image

left, right, truth = stereo_motorcycle()
pred = dl.load().predict(left, right)
known = np.isfinite(truth)
error = np.abs(pred.disparity - truth)[known]
kept = np.linspace(0.5, 1.0, 26)
curves = {}
for name, order in (("confidence", np.argsort(-pred.confidence[known])), ("true error", np.argsort(error))):
    bad = np.cumsum(error[order] > 2) / np.arange(1, len(error) + 1)
    curves[name] = [(100 * share, 100 * bad[int(share * len(error)) - 1]) for share in kept]
chart = line_chart(curves, title="Pixels kept, best first", x_label="kept, %", y_label="more than 2 px off, %")
write_image("confidence.png", chart)
