"""Many steps ahead, from rolling origins."""
