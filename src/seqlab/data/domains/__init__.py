"""One domain a module: how its raw files become arrays, and nothing about models."""
