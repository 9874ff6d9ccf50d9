"""Many steps ahead, from rolling origins, with what is known besides."""
