"""
What is wrong with this pair?
=============================

Most bad depth comes from bad pairs. ``depthlight doctor`` finds swapped views, rows that do not match, and a dozen
other faults; here it meets three of them.
"""

import numpy as np
from skimage.data import stereo_motorcycle

import depthlight as dl

left, right, _ = stereo_motorcycle()
faults = {
    "as it should be": (left, right),
    "views swapped": (right, left),
    "right view 6 px too low": (left, np.roll(right, 6, axis=0)),
    "right view a stop darker": (left, (right * 0.5).astype(np.uint8)),
}
for name, pair in faults.items():
    print(f"\n{name}")
    for finding in dl.diagnose(*pair).findings:
        print(f"  {finding.severity}: {finding.says}\n    {finding.do}")
