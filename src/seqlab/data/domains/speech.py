"""Speech: cepstral frames of utterances. Source: unlabelled training frames, or recordings; target: who speaks."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from annotated_types import Ge

from seqlab.artifacts import write_tensors
from seqlab.data.domains.base import Scaler, classes_of, find, read_ts, split_of, stratified, write_meta
from seqlab.data.prepared import LABELLED, SOURCE, TARGET, Meta
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.settings import Count, ProperFraction


class Recorded(TypedDict):
    """How the frames of recordings are taken. rate: Hz; frame, shift: samples; max_length: frames of a sequence, of
    which a longer recording gives several; valid: share of the recordings, by content hash."""

    rate: Count
    frame: Annotated[int, Ge(2)]
    shift: Count
    max_length: Annotated[int, Ge(2)]
    valid: ProperFraction


class Speech:
    """Utterances of unequal length in `.ts` files, with the published train and test split; validation is carved out of
    train, `valid` of each class by the hash of the content.

    Without `recordings` the source is the target's own training frames, unlabelled. With them it is the LPC cepstra of
    the WAV files of the archive `recordings`, as many coefficients as the utterances have channels. Every set is
    standardised by its own training frames; the target's scaler is kept in scaler.safetensors.
    """

    kind = "vectors"

    def __init__(self, *, train: str, test: str, valid: ProperFraction, recordings: Recorded | None) -> None:
        self.train, self.test, self.valid, self.recordings = train, test, valid, recordings

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write source (train, valid), target and labelled sets. Raises UserError naming file and line."""
        train, test = (read_ts(find(raw["utterances"], name)) for name in (self.train, self.test))
        if test.channels != train.channels:
            raise UserError(f"{test.file}: {test.channels} channels, {train.file} has {train.channels}")
        classes = classes_of(train.classes, {"train": train.labels, "test": test.labels})
        held = stratified(train.sequences, train.labels, self.valid)
        rows = {"train": np.flatnonzero(~held), "valid": np.flatnonzero(held)}
        splits = {
            split: ([train.sequences[i] for i in at], [train.labels[i] for i in at]) for split, at in rows.items()
        }
        splits["test"] = (test.sequences, test.labels)
        scaler = Scaler.fit(splits["train"][0])
        for split, (sequences, names) in splits.items():
            scaled = Sequences.from_arrays([scaler(one) for one in sequences])
            scaled.save(out / TARGET / split)
            labels = np.array([classes.index(name) for name in names])
            Sequences(scaled.values, scaled.offsets, labels=labels).save(out / LABELLED / split)
            if self.recordings is None and split != "test":
                scaled.save(out / SOURCE / split)
        write_tensors(out / "scaler.safetensors", scaler.tensors)
        if self.recordings is not None:
            self._write_recordings(raw["recordings"], self.recordings, train.channels, out)
        write_meta(out, Meta(kind="vectors", size=train.channels, tasks=["next_step", "classify"], classes=classes))

    def _write_recordings(self, root: Path, settings: Recorded, order: int, out: Path) -> None:
        """The source from WAV files, split by the hash of a file's content."""
        frame, shift, longest = settings["frame"], settings["shift"], settings["max_length"]
        splits: dict[str, list[np.ndarray]] = {"train": [], "valid": []}
        files = sorted(root.rglob("*.wav"))
        for file in files:
            signal = read_wav(file, settings["rate"])
            if len(signal) < frame + shift:
                raise UserError(f"{file.name}: {len(signal)} samples; two frames need {frame + shift}")
            cepstra = lpc_cepstra(signal, frame=frame, shift=shift, order=order)
            split = split_of(signal.tobytes(), settings["valid"], test=0)
            splits[split] += [
                cut for at in range(0, len(cepstra), longest) if len(cut := cepstra[at : at + longest]) > 1
            ]
        for split, found in splits.items():
            if not found:
                raise UserError(f"recordings: none of {len(files)} WAV files falls into the {split} split")
        scaler = Scaler.fit(splits["train"])
        for split, found in splits.items():
            Sequences.from_arrays([scaler(one) for one in found]).save(out / SOURCE / split)


def read_wav(file: Path, rate: int) -> np.ndarray:
    """(N,) samples in [-1, 1) of a mono 16-bit PCM file at `rate` Hz. Raises UserError on any other."""
    try:
        with wave.open(str(file), "rb") as opened:
            found = opened.getframerate(), opened.getnchannels(), 8 * opened.getsampwidth()
            count = opened.getnframes()
            data = opened.readframes(count)
    except (wave.Error, EOFError) as error:
        raise UserError(f"{file.name}: not a PCM WAV file: {str(error) or 'it ends early'}") from None
    if found != (rate, 1, 16):
        raise UserError(
            f"{file.name}: {found[0]} Hz, {found[1]} channels, {found[2]} bits; expected {rate} Hz, 1 channel, 16 bits"
        )
    if len(data) != 2 * count:
        raise UserError(f"{file.name}: ends after {len(data) // 2} of {count} samples")
    return np.frombuffer(data, "<i2") / 32768


def lpc_cepstra(signal: np.ndarray, *, frame: int, shift: int, order: int) -> np.ndarray:
    """(T, order) cepstral coefficients c_1..c_order of each frame's all-pole model.

    Autocorrelation method with a Hamming window, solved by the Levinson–Durbin recursion; cepstrum by Atal's recursion
    (Rabiner and Juang 1993, 3.3.7). frame, shift: samples. A silent frame has the cepstrum of white noise, zero.
    """
    frames = np.lib.stride_tricks.sliding_window_view(signal, frame)[::shift] * np.hamming(frame)
    r = np.stack([(frames[:, : frame - lag] * frames[:, lag:]).sum(1) for lag in range(order + 1)], axis=1)
    # White noise 60 dB below the signal keeps the recursion stable where a frame is almost silent or periodic.
    r[:, 0] += 1e-6 * r[:, 0] + 1e-9
    a = np.zeros((len(r), order + 1))  # x_t ≈ sum_k a_k x_{t-k}
    error = r[:, 0].copy()
    for i in range(1, order + 1):
        reflection = (r[:, i] - (a[:, 1:i] * r[:, i - 1 : 0 : -1]).sum(1)) / error
        a[:, 1:i] -= reflection[:, None] * a[:, i - 1 : 0 : -1]
        a[:, i] = reflection
        error *= 1 - reflection**2
    c = np.zeros_like(a)
    for n in range(1, order + 1):
        k = np.arange(1, n)
        c[:, n] = a[:, n] + (k / n * c[:, 1:n] * a[:, n - 1 : 0 : -1]).sum(1)
    return c[:, 1:]
