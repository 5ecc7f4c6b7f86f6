"""Sound2Scene: pictures of sounds by latent alignment (Sung-Bin et al., CVPR 2023)."""
