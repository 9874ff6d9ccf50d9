"""Stocks: daily log returns. Source: market indices and commodities; target: single shares, split in time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from annotated_types import Ge

from seqlab.data import panels
from seqlab.data.domains.base import find, split_in_time, write_meta
from seqlab.data.prepared import SOURCE, TARGET, Meta
from seqlab.data.scale import varies
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.settings import Count

# By name, the days (T,) int64, in microseconds since 1970, and the prices (T,) on them.
Prices = dict[str, tuple[np.ndarray, np.ndarray]]


class PriceTable(TypedDict):
    """A table's file and its columns. date_format: of `datetime.strptime`; None: as `data.time` reads it. key: what
    names a share; None: the table has one."""

    file: str
    date: str
    date_format: str | None
    price: str
    key: str | None


class Stocks:
    """Tables of daily prices, one CSV each (`.gz` too); x_t = log p_t - log p_{t-1} between neighbouring trading days.

    Sequences are windows of context + window returns, standardised by their context alone, so that a model sees
    volatility relative to the recent past. A window whose context does not vary (trade was halted) is left out, counted
    by name: it has no unit. Held-out windows are scored on their last `window` returns, and no return is scored twice.
    What a share's held-out days could have told about the market is kept out of pretraining: with
    `source_ends`, the source ends where the target's first validation window begins to be scored. A source that says
    nothing of markets may go on (and may be finer than a day: a step is then from one row to the next).

    With x_t as the sequence, independent Gaussian x_t *is* the Gaussian random walk of the log price. So `zero_return`
    is the random walk among the forecast controls, and `historical_mean` the one with drift.
    """

    kind = "vectors"
    scored = ("window",)

    def __init__(
        self,
        *,
        source: list[PriceTable],
        target: PriceTable,
        context: Annotated[int, Ge(2)],
        window: Count,
        stride: Count,
        valid_windows: Count,
        test_windows: Count,
        source_ends: bool,
    ) -> None:
        self.source, self.target, self.source_ends = source, target, source_ends
        self.context, self.window, self.stride = context, window, stride
        self.valid_windows, self.test_windows = valid_windows, test_windows

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write source (train, valid) and target. Raises UserError naming file, row and column."""
        removed: Counter[str] = Counter()
        shares = self._table(raw["shares"], self.target, removed)
        begins = self._write(shares, out, TARGET, removed, test=self.test_windows)
        markets: Prices = {}
        for table in self.source:
            for name, (days, prices) in self._table(raw["markets"], table, removed).items():
                known = days < begins if self.source_ends else np.ones(len(days), bool)
                markets[f"{table['file']}/{name}"] = days[known], prices[known]  # two files may have a name in common
                removed["source: days from the target's validation on"] += int((~known).sum())
        if self.source:
            self._write(markets, out, SOURCE, removed, test=0)
        write_meta(
            out,
            Meta(
                kind="vectors",
                size=1,
                tasks=["next_step"],
                classes=[],
                transform="log_return",
                removed=dict(+removed),
            ),
        )

    def _write(self, prices: Prices, out: Path, name: str, removed: Counter[str], test: int) -> int:
        """Write a set's splits. Returns the first day on which any of its held-out returns is scored."""
        windows: dict[str, list[np.ndarray]] = {}
        begins = np.iinfo(np.int64).max
        held = (self.valid_windows + test) * self.window
        for share, (days, own) in prices.items():
            parts = split_in_time(
                np.diff(np.log(own))[:, None],
                context=self.context,
                window=self.window,
                stride=self.stride,
                valid=self.valid_windows,
                test=test,
            )
            if parts is None:
                removed[f"{name}: history too short"] += 1
                continue
            begins = min(begins, int(days[-held]))
            for split, cuts in parts.items():
                # A return has a unit of its own, a share of the price, so the noise of a halted one is told from it.
                moving = [cut for cut in cuts if varies(cut[: self.context], level=1.0).all()]
                removed[f"{name}: {share}: {split} windows after a halt"] += len(cuts) - len(moving)
                windows.setdefault(split, []).extend(moving)
        if not windows:
            longest, needed = max(len(own) for _, own in prices.values()), held + self.context + self.window + 1
            raise UserError(f"{name}: no history is long enough: the longest has {longest} prices, {needed} are needed")
        for split, cuts in windows.items():
            if not cuts:
                raise UserError(f"{name}: no {split} window is left; removed: {dict(+removed)}")
            past = [cut[: self.context] for cut in cuts]
            centre, scale = np.array([one.mean(0) for one in past]), np.array([one.std(0) for one in past])
            first = {} if split == "train" else {"first": np.full(len(cuts), self.context)}
            Sequences.from_arrays(
                [cut.astype(np.float32) for cut in cuts],
                centre=centre.astype(np.float32),
                scale=scale.astype(np.float32),
                **first,
            ).save(out / name / split)
        return begins

    def _table(self, root: Path, table: PriceTable, removed: Counter[str]) -> Prices:
        """The prices of every share or market of a table, in order of time."""
        file = find(root, table["file"])
        layout = panels.Layout(
            file=table["file"],
            time=table["date"],
            key=[] if table["key"] is None else [table["key"]],
            columns=[table["price"]],
            together=False,
            form=table["date_format"],
            dialect=None,
        )
        panel = panels.read(file, layout, _unfit)
        removed.update({f"{file.name}: {what}": count for what, count in panel.mended.items()})
        found: Prices = {}
        for key, track in panel.tracks.items():
            name = key if layout.key else file.name
            known = ~np.isnan(track.values[:, 0])
            removed[f"{file.name}: no price"] += int((~known).sum())
            if known.sum() < 2:
                raise UserError(
                    f"{file.name}: {name} has {known.sum()} price, which gives no return; expected at least 2"
                )
            found[name] = panel.times.instant[track.at[known]], track.values[known, 0]
        if not found:
            raise UserError(f"{file.name}: no prices after the header")
        return found


def _unfit(price: float) -> str | None:
    return "is no price; a log return needs positive ones" if price <= 0 else None
