"""StyleGAN2, which makes pictures of a latent that can be moved: a product that others use."""
