"""Video: frames as vectors. Source: parts of the frames of real clips; target: whole frames, split in time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge

from seqlab.artifacts import write_tensors
from seqlab.data.domains.base import Scaler, find, split_in_time, write_meta
from seqlab.data.prepared import SOURCE, TARGET, Meta
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.settings import Count, CountList, ProperFraction

LUMA_FIRST = ("gray", "nv12", "yuv420p", "yuv422p", "yuv444p", "yuvj420p")  # formats whose first plane is 8-bit luma


class Video:
    """Grey frames of size x size pixels between 0 and 1, projected to `components` numbers.

    The projection is the PCA of training frames alone, half the weight to either set; each channel of a set is then
    standardised by that set's training frames, and no window by its own: a whitened frame, as in a principal component
    analysis, with one unit everywhere, so that an error counts the same in a still film and in a lively one.
    projection.safetensors makes frames of vectors again: a (T, C) sequence z of the target is the frames
    origin + z @ axes (`Prepared.frames`).

    Target: windows of context + window frames of each clip, split in time. Source: what moves in parts of the frames
    before those that the target holds out: n x n equal parts for each n of `parts`, each of them and its mirror image a
    film of its own, in windows of source_length frames, of which the last validates.
    """

    kind = "vectors"
    scored = ("window",)

    def __init__(
        self,
        *,
        clips: list[str],
        size: Count,
        components: Count,
        parts: CountList,
        source_length: Annotated[int, Ge(2)],
        context: Count,
        window: Count,
        stride: Count,
        valid_windows: Count,
        test_share: ProperFraction,
    ) -> None:
        self.clips, self.size, self.components = clips, size, components
        self.parts, self.source_length = parts, source_length
        self.context, self.window, self.stride = context, window, stride
        self.valid_windows, self.test_share = valid_windows, test_share

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write source (train, valid) and target. Raises UserError naming the clip."""
        if self.components > self.size**2:
            raise UserError(
                f"domain video: size {self.size} and components {self.components}; expected no more components than "
                "pixels of a frame"
            )
        source: dict[str, list[np.ndarray]] = {}
        target: dict[str, list[np.ndarray]] = {}
        for name in self.clips:
            whole, *films = read_parts(find(raw["clips"], name), self.size, [1, *self.parts])
            add(target, self._windows(name, whole))
            for film in films:
                for one in (film, mirrored(film, self.size)):
                    add(source, self._source_windows(name, one))
        mean, components = principal_components([source["train"], target["train"]], self.components)
        for name, splits in ((SOURCE, source), (TARGET, target)):
            projected = {split: [(one - mean) @ components.T for one in found] for split, found in splits.items()}
            # Pixels are between 0 and 1: what moves a millionth of that is rounding, whatever its own size.
            scaler = Scaler.fit(projected["train"], level=1.0)
            for split, found in projected.items():
                # A source is scored whole; nothing forecasts it.
                scored = split != "train" and name == TARGET
                Sequences.from_arrays(
                    [scaler(one) for one in found],
                    **({"first": np.full(len(found), self.context)} if scored else {}),
                ).save(out / name / split)
        # Of the target, the last of the two.
        origin, axes = mean + scaler.mean @ components, scaler.deviation[:, None] * components
        write_tensors(out / "projection.safetensors", {"origin": origin, "axes": axes})
        write_meta(
            out, Meta(kind="vectors", size=self.components, tasks=["next_step"], classes=[], frame=[self.size] * 2)
        )

    def _held_out(self, frames: np.ndarray) -> int:
        """Test windows of a clip."""
        return int(self.test_share * len(frames) / self.window)

    def _windows(self, name: str, frames: np.ndarray) -> dict[str, list[np.ndarray]]:
        """The target's, of one clip."""
        test = self._held_out(frames)
        found = split_in_time(
            frames, context=self.context, window=self.window, stride=self.stride, valid=self.valid_windows, test=test
        )
        if found is None or not test:
            needed = self.context + self.window * (1 + self.valid_windows + max(test, 1))
            raise UserError(
                f"{name}: {len(frames)} frames do not fill train, valid and test; expected {needed} or more"
            )
        return found

    def _source_windows(self, name: str, frames: np.ndarray) -> dict[str, list[np.ndarray]]:
        """The source's, of one film: of the frames before the target's held-out ones."""
        known = frames[: len(frames) - self.window * (self.valid_windows + self._held_out(frames))]
        found = split_in_time(known, context=0, window=self.source_length, stride=self.stride, valid=1, test=0)
        if found is None:
            raise UserError(
                f"{name}: {len(known)} frames before those that are held out; expected {2 * self.source_length} or "
                "more, or a smaller source_length"
            )
        return found


def add(splits: dict[str, list[np.ndarray]], found: dict[str, list[np.ndarray]]) -> None:
    for split, windows in found.items():
        splits.setdefault(split, []).extend(windows)


def mirrored(film: np.ndarray, size: int) -> np.ndarray:
    """(T, size²) with left and right exchanged."""
    return film.reshape(-1, size, size)[:, :, ::-1].reshape(film.shape)


def read_clip(file: Path, size: int) -> np.ndarray:
    """(T, size²): the film of the whole frames, as `read_parts` reads it."""
    return read_parts(file, size, [1])[0]


def read_parts(file: Path, size: int, parts: list[int]) -> list[np.ndarray]:
    """Films (T, size²) float32 in [0, 1] of n x n equal parts of the frames, for each n of `parts`, row by row.

    The luma of every frame, averaged over areas: sums of whole numbers over equal decoded bytes, the same on every
    machine, unlike a scaler's. Raises UserError naming the clip.
    """
    import av

    frames: list[list[np.ndarray]] = []
    least = size * max(parts)
    try:
        with av.open(str(file)) as opened:
            if not opened.streams.video:
                raise UserError(f"{file.name}: no video in it")
            promised = opened.streams.video[0].frames  # 0 where the container does not say
            for frame in opened.decode(opened.streams.video[0]):
                grey = frame if frame.format.name in LUMA_FIRST else frame.reformat(format="gray")
                luma = np.frombuffer(memoryview(grey.planes[0]), np.uint8).reshape(frame.height, -1)[:, : frame.width]
                if min(luma.shape) < least:
                    raise UserError(
                        f"{file.name}: frames of {frame.width} x {frame.height} pixels; expected {least} or more"
                    )
                frames.append([_reduced(part, size) for n in parts for part in cut(luma, n)])
    except av.FFmpegError as error:
        raise UserError(f"{file.name}: does not decode after {len(frames)} frames: {error.strerror}") from None
    if len(frames) < promised:
        raise UserError(f"{file.name}: ends after {len(frames)} of {promised} frames")
    if len(frames) < 2:
        raise UserError(f"{file.name}: {len(frames)} frames; expected at least 2")
    return [np.stack(film) for film in zip(*frames, strict=True)]


def cut(image: np.ndarray, n: int) -> list[np.ndarray]:
    """n x n parts of (H, W), equal but for a pixel, row by row."""
    return [part for row in np.array_split(image, n, axis=0) for part in np.array_split(row, n, axis=1)]


def _reduced(luma: np.ndarray, size: int) -> np.ndarray:
    """(size²,) means of (H, W) bytes over a grid of size x size rectangles."""
    edges = [np.arange(size + 1) * length // size for length in luma.shape]
    sums = np.add.reduceat(np.add.reduceat(luma.astype(np.int64), edges[0][:-1], axis=0), edges[1][:-1], axis=1)
    areas = np.diff(edges[0])[:, None] * np.diff(edges[1])
    means: np.ndarray = (sums / areas / 255).astype(np.float32).ravel()
    return means


def principal_components(sets: Iterable[Iterable[np.ndarray]], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (P,) and first `count` principal axes (count, P) of frames, each set of sequences having the same weight.

    An axis points where its largest entry is positive, so that equal frames give equal vectors.
    """
    moments = []
    for sequences in sets:
        frames = np.concatenate(list(sequences)).astype(np.float64)
        moments.append((frames.mean(0), frames.T @ frames / len(frames)))
    mean = np.mean([first for first, _ in moments], axis=0)
    covariance = np.mean([second for _, second in moments], axis=0) - np.outer(mean, mean)
    axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :count].T
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1))
    return mean, axes * signs
