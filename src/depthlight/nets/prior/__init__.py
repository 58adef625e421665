"""Priors that judge re-lit pictures: our own small denoiser, and Stable Diffusion."""
