"""Raw archives, ragged sequences on disk, and one module for each domain."""
