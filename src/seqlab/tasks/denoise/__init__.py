"""A text from what noise left of it (Song et al. 2019; Lewis et al. 2020)."""
