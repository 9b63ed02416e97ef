"""Training a small latent diffusion model from scratch, on any folder of images."""
