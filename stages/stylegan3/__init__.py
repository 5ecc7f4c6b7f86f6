"""StyleGAN3, whose textures do not stick to the pixels: published generators, to be used."""
