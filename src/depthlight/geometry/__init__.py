"""Cameras, calibration files, disparity and depth, clouds, warping."""
