"""Video: frames as vectors. Source: moving digits, synthesised; target: real clips at reduced size, split in time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge

from seqlab.artifacts import seed_of, write_tensors
from seqlab.data.domains.base import Scaler, find, split_in_time, split_of, write_meta
from seqlab.data.prepared import SOURCE, TARGET, Meta
from seqlab.data.readers import read_lines
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.settings import Count, Natural, ProperFraction

SIDE, DEEPEST = 8, 16  # of a handwritten digit: pixels, and its brightest value
ENLARGED = 2  # pixels of a frame for a pixel of a digit
DIGITS = 2  # that move in a sequence
LUMA_FIRST = ("gray", "nv12", "yuv420p", "yuv422p", "yuv444p", "yuvj420p")  # formats whose first plane is 8-bit luma


class Video:
    """Grey frames of size x size pixels between 0 and 1, projected to `components` numbers.

    The projection is the PCA of training frames alone, half the weight to either set; each channel of a set is then
    standardised by that set's training frames, and no window by its own: a whitened frame, as in a principal component
    analysis, with one unit everywhere, so that an error counts the same in a still film and in a lively one.
    projection.safetensors makes frames of vectors again: a (T, C) sequence z of the target is the frames
    origin + z @ axes (`Prepared.frames`).

    Source: digits that move in straight lines and bounce off the walls (Srivastava et al. 2015), seeded; no digit of
    train is in valid. Target: windows of context + window frames of each clip, split in time.
    """

    kind = "vectors"
    scored = ("window",)

    def __init__(
        self,
        *,
        digits: str,
        clips: list[str],
        size: Count,
        components: Count,
        source_train: Count,
        source_valid: Count,
        source_length: Annotated[int, Ge(2)],
        context: Count,
        window: Count,
        stride: Count,
        valid_windows: Count,
        test_share: ProperFraction,
        seed: Natural,
    ) -> None:
        self.digits, self.clips, self.size, self.components = digits, clips, size, components
        self.source = {"train": source_train, "valid": source_valid}
        self.source_length, self.context, self.window, self.stride = source_length, context, window, stride
        self.valid_windows, self.test_share, self.seed = valid_windows, test_share, seed

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write source (train, valid) and target. Raises UserError naming the clip, or the row of the digits."""
        if self.size < SIDE * ENLARGED or self.components > self.size**2:
            raise UserError(
                f"domain video: size {self.size} and components {self.components}; expected at least "
                f"{SIDE * ENLARGED} pixels, and no more components than pixels of a frame"
            )
        source = self._moving_digits(read_digits(find(raw["digits"], self.digits)))
        target = self._windows({name: read_clip(find(raw["clips"], name), self.size) for name in self.clips})
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

    def _moving_digits(self, digits: np.ndarray) -> dict[str, list[np.ndarray]]:
        """(T, pixels) float32 sequences of each split, made of that split's own digits."""
        sides = [split_of(digit.tobytes(), 0.1, 0.0) for digit in digits]
        rng = np.random.default_rng(seed_of("moving digits", self.seed))
        made: dict[str, list[np.ndarray]] = {}
        for split, count in self.source.items():
            own = digits[np.array(sides) == split]
            if not len(own):
                raise UserError(f"{self.digits}: none of {len(digits)} digits falls into the {split} split")
            made[split] = [moving(own[rng.integers(len(own), size=DIGITS)], self.size, self.source_length, rng)
                           for _ in range(count)]  # fmt: skip
        return made

    def _windows(self, clips: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
        splits: dict[str, list[np.ndarray]] = {}
        for name, frames in clips.items():
            test = int(self.test_share * len(frames) / self.window)
            found = split_in_time(
                frames,
                context=self.context,
                window=self.window,
                stride=self.stride,
                valid=self.valid_windows,
                test=test,
            )
            if found is None or not test:
                needed = self.context + self.window * (1 + self.valid_windows + max(test, 1))
                raise UserError(
                    f"{name}: {len(frames)} frames do not fill train, valid and test; expected {needed} or more"
                )
            for split, windows in found.items():
                splits.setdefault(split, []).extend(windows)
        return splits


def read_digits(file: Path) -> np.ndarray:
    """(N, 8, 8) float32 in [0, 1] from rows of 64 pixels and a label. Raises UserError naming the row."""
    digits = []
    for number, line in read_lines(file):
        row = line.split(",")
        try:
            pixels = np.array(row[: SIDE**2], np.float32) / DEEPEST
        except ValueError as error:
            raise UserError(f"{file.name}, row {number}: {error}") from None
        if len(row) != SIDE**2 + 1 or not ((pixels >= 0) & (pixels <= 1)).all():
            raise UserError(f"{file.name}, row {number}: expected 64 pixels of 0 to {DEEPEST} and a label")
        digits.append(pixels.reshape(SIDE, SIDE))
    return np.stack(digits)


def moving(digits: np.ndarray, size: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """(steps, size²) float32: digits (D, 8, 8) on straight lines with elastic walls; the brighter pixel is in front."""
    sprites = digits.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
    room = size - SIDE * ENLARGED
    angle, speed = rng.uniform(0, 2 * np.pi, len(digits)), rng.uniform(1, 3, len(digits))  # pixels a step
    start = rng.uniform(0, max(room, 1), (len(digits), 2))
    velocity = np.stack([np.sin(angle), np.cos(angle)], axis=1) * speed[:, None]
    # An elastic wall is a mirror: the free path, folded.
    free = start + velocity * np.arange(steps)[:, None, None]
    folded = np.abs((free + room) % (2 * room) - room) if room else np.zeros_like(free)
    corners = folded.round().astype(np.int64)
    frames = np.zeros((steps, size, size), np.float32)
    for frame, places in zip(frames, corners, strict=True):
        for sprite, (top, left) in zip(sprites, places, strict=True):
            view = frame[top : top + len(sprite), left : left + len(sprite)]
            np.maximum(view, sprite, out=view)
    return frames.reshape(steps, -1)


def read_clip(file: Path, size: int) -> np.ndarray:
    """(T, size²) float32 in [0, 1]: the luma of every frame, averaged over areas. Raises UserError naming the clip.

    The averages are sums of whole numbers over equal decoded bytes: the same on every machine, unlike a scaler's.
    """
    import av

    frames = []
    try:
        with av.open(str(file)) as opened:
            if not opened.streams.video:
                raise UserError(f"{file.name}: no video in it")
            promised = opened.streams.video[0].frames  # 0 where the container does not say
            for frame in opened.decode(opened.streams.video[0]):
                grey = frame if frame.format.name in LUMA_FIRST else frame.reformat(format="gray")
                luma = np.frombuffer(memoryview(grey.planes[0]), np.uint8).reshape(frame.height, -1)[:, : frame.width]
                if min(luma.shape) < size:
                    raise UserError(
                        f"{file.name}: frames of {frame.width} x {frame.height} pixels; expected {size} or more"
                    )
                frames.append(_reduced(luma, size))
    except av.FFmpegError as error:
        raise UserError(f"{file.name}: does not decode after {len(frames)} frames: {error.strerror}") from None
    if len(frames) < promised:
        raise UserError(f"{file.name}: ends after {len(frames)} of {promised} frames")
    if len(frames) < 2:
        raise UserError(f"{file.name}: {len(frames)} frames; expected at least 2")
    return np.stack(frames)


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
