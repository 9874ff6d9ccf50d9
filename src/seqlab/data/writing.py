"""Sequences written one at a time."""

from __future__ import annotations

import os
from array import array
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from seqlab.data.sequences import save_array


class SequenceWriter:
    """Append sequences to disk one at a time, so that a corpus larger than memory can be prepared in a stream.

    Use as a context manager. The header of values.npy is written last, with the final length; only offsets and labels
    are held in memory (8 bytes a sequence each).
    """

    def __init__(self, folder: Path, dtype: np.dtype | type, channels: int | None = None):
        self.folder, self.dtype, self.channels = folder, np.dtype(dtype), channels
        self.offsets = array("q", [0])
        self.labels = array("q")

    def __enter__(self) -> SequenceWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = open(self.folder / "values.npy", "wb")
        self._header(10**18)
        return self

    def _header(self, length: int) -> None:
        # NumPy pads its header so that a growing first dimension fits in place (format.GROWTH_AXIS_MAX_DIGITS).
        shape = (length,) if self.channels is None else (length, self.channels)
        self._file.seek(0)
        npy.write_array_header_1_0(self._file, {"descr": self.dtype.str, "fortran_order": False, "shape": shape})

    def append(self, values: np.ndarray, label: int | None = None) -> None:
        self._file.write(np.ascontiguousarray(values, self.dtype).data)
        self.offsets.append(self.offsets[-1] + len(values))
        if label is not None:
            self.labels.append(label)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                end = self._file.tell()
                self._header(self.offsets[-1])
                self._file.seek(end)
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
        if kind is None:
            save_array(self.folder / "offsets.npy", np.asarray(self.offsets, np.int64))
            if self.labels:
                save_array(self.folder / "labels.npy", np.asarray(self.labels, np.int64))
