"""
Two views in, disparity and confidence out
==========================================

The bundled weights on a real pair (Middlebury 2014 "Motorcycle", at a quarter of its size, as scikit-image ships it).
Move over the map: it tells disparity and confidence of each pixel.
"""

import numpy as np
from skimage.data import stereo_motorcycle

import depthlight as dl

left, right, truth = stereo_motorcycle()
pred = dl.load().predict(left, right)
pred

# %%
# Against the truth, which this data set has. Error is largest where one view sees what the other does not, and there
# confidence is lowest.

from depthlight.io.pictures import preview, write_image

known = np.isfinite(truth)
picture = preview(
    left,
    pred.disparity,
    confidence_HW=pred.confidence,
    truth_HW=np.where(known, truth, 0),
    truth_valid_HW=known,
)
write_image("two_views.png", picture)
