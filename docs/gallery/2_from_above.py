"""
Metres, seen from above
=======================

With a calibration, disparity becomes depth, and depth a cloud of points. Here it is from above: each point where it
stands on the floor, in its own colour, a metre to every 100 px.
"""

import numpy as np
from skimage.data import stereo_motorcycle

import depthlight as dl
from depthlight.io.pictures import write_image

left, right, _ = stereo_motorcycle()
rig = dl.StereoRig(
    fx=994.978, fy=994.978, cx=311.193, cy=254.877, baseline=0.193001, doffs=31.086, width=741, height=500
)
pred = dl.load().predict(left, right)
depth = pred.to_depth(rig)
depth

# %%
# ``without_tails`` takes away the smear between a thing and what is behind it. Points are in metres: x to the right, y
# down, z ahead.

cloud = depth.without_tails().to_point_cloud(left)
x, _, z = cloud.points.T
column = np.round(100 * (x + 1.8)).astype(int)
row = np.round(100 * (5.5 - z)).astype(int)
seen = (column >= 0) & (column < 360) & (row >= 0) & (row < 400)
floor = np.full((400, 360, 3), 255, np.uint8)
floor[row[seen], column[seen]] = cloud.colours[seen]
write_image("from_above.png", floor)
