"""Stocks: daily log returns. Source: market indices and commodities; target: single shares, split in time."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.data.domains.base import SOURCE, TARGET, Meta, find, split_in_time, write_meta
from seqlab.data.readers import read_table
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError

TABLE_KEYS = ("file", "date", "date_format", "price", "key")
MISSING = ("", ".", "NA")
Prices = dict[str, list[tuple[datetime, float]]]


class Stocks:
    """Tables of daily prices, one CSV each (`.gz` too); x_t = log p_t - log p_{t-1} between neighbouring trading days.

    Sequences are windows of context + window returns, standardised by their context alone, so that a model sees
    volatility relative to the recent past. Held-out windows are scored on their last `window` returns, and no return is
    scored twice. What a share's held-out days could have told about the market is kept out of pretraining: with
    `source_ends`, the source ends where the target's first validation window begins to be scored. A source that says
    nothing of markets may go on (and may be finer than a day: a step is then from one row to the next).

    With x_t as the sequence, independent Gaussian x_t *is* the Gaussian random walk of the log price. So `zero_return`
    is the random walk among the forecast controls, and `historical_mean` the one with drift.
    """

    kind = "vectors"

    def __init__(
        self,
        *,
        source: list[dict],
        target: dict,
        context: int,
        window: int,
        stride: int,
        valid_windows: int,
        test_windows: int,
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
            for name, prices in self._table(raw["markets"], table, removed).items():
                markets[name] = [(day, price) for day, price in prices if day < begins or not self.source_ends]
                removed["source: days from the target's validation on"] += len(prices) - len(markets[name])
        self._write(markets, out, SOURCE, removed, test=0)
        write_meta(
            out,
            Meta(
                kind="vectors",
                size=1,
                tasks=["next_step"],
                classes=[],
                transform="log_return",
                removed=dict(removed),
            ),
        )

    def _write(self, prices: Prices, out: Path, name: str, removed: Counter[str], test: int) -> datetime:
        """Write a set's splits. Returns the first day on which any of its held-out returns is scored."""
        windows: dict[str, list[np.ndarray]] = {}
        begins = datetime.max
        held = (self.valid_windows + test) * self.window
        for points in prices.values():
            parts = split_in_time(
                np.diff(np.log([price for _, price in points]))[:, None],
                context=self.context,
                window=self.window,
                stride=self.stride,
                valid=self.valid_windows,
                test=test,
            )
            if parts is None:
                removed[f"{name}: history too short"] += 1
                continue
            begins = min(begins, points[-held][0])
            for split, cuts in parts.items():
                windows.setdefault(split, []).extend(cuts)
        if not windows:
            longest, needed = max(map(len, prices.values())), held + self.context + self.window + 1
            raise UserError(f"{name}: no history is long enough: the longest has {longest} prices, {needed} are needed")
        for split, cuts in windows.items():
            past = [cut[: self.context] for cut in cuts]
            centre, scale = np.array([one.mean(0) for one in past]), np.array([one.std(0) for one in past])
            first = {} if split == "train" else {"first": np.full(len(cuts), self.context)}
            Sequences.from_arrays(
                [cut.astype(np.float32) for cut in cuts],
                centre=centre.astype(np.float32),
                scale=np.where(scale > 0, scale, 1).astype(np.float32),
                **first,
            ).save(out / name / split)
        return begins

    def _table(self, root: Path, table: dict[str, Any], removed: Counter[str]) -> Prices:
        """The prices of every share or market of a table, in order of time."""
        if set(table) != set(TABLE_KEYS):
            raise UserError(
                f"domain stocks, table {table.get('file', table)}: expected the keys {', '.join(TABLE_KEYS)}, "
                f"found {', '.join(table)}"
            )
        file = find(root, table["file"])
        found: Prices = {}
        columns = [table[key] for key in ("date", "price", "key") if table[key] is not None]
        for where, (cell, price, *key) in read_table(file, columns, []):
            name = key[0] if key else file.name
            try:
                day = datetime.strptime(cell, table["date_format"])
            except ValueError:
                raise UserError(
                    f"{where}, column {table['date']}: {cell!r} is not a date of the form {table['date_format']}"
                ) from None
            if name in found and day <= found[name][-1][0]:
                raise UserError(f"{where}, column {table['date']}: {cell!r} does not come after the day before it")
            if price in MISSING:
                removed[f"{file.name}: no price"] += 1
                continue
            found.setdefault(name, []).append((day, _price(price, f"{where}, column {table['price']}")))
        for name, points in found.items():
            if len(points) < 2:
                raise UserError(f"{file.name}: {name} has 1 price, which gives no return; expected at least 2")
        if not found:
            raise UserError(f"{file.name}: no prices after the header")
        return found


def _price(cell: str, where: str) -> float:
    try:
        price = float(cell)
    except ValueError:
        raise UserError(f"{where}: {cell!r} is not a number") from None
    if not 0 < price < math.inf:
        raise UserError(f"{where}: {cell} is no price; a log return needs positive ones")
    return price
