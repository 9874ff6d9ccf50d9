"""The stages as functions of paths and plain values: files in, files out.

Nothing here knows configuration files, Hydra, DVC or MLflow, so each can be called from Python as it is. What a stage
runs is found from its file here (`seqlab.cli.fingerprint`): a change of anything else reruns nothing.
"""
