"""The command `seqlab` and the scripts of the stages: Hydra, cells, locks, runs and records around pure stages."""
