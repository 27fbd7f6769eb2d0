"""The diffusion process, its networks, training and tiled sampling."""
