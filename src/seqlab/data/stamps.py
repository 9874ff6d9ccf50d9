"""Times as people get them back: with the offset from UTC that their own were written with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.data import time
from seqlab.data.time import FORMS, CalendarStep, NotATime, Times

if TYPE_CHECKING:
    import pandas as pd


def zoned(texts: Sequence[str], form: str | None = None) -> bool:
    """Whether times have an offset from UTC. texts: as `time.read` takes them, where all have one or none has."""
    if form is not None:
        return "%z" in form
    first = texts[0].strip() if texts else ""
    matches = (pattern.fullmatch(first) for patterns in FORMS.values() for pattern in patterns)
    found = next((match for match in matches if match), None)
    return found is not None and bool(found.groupdict().get("zone"))


def recorded(times: Times, at: np.ndarray, offset: bool) -> list[Any]:
    """The times at indices (T,): stamps by the clock of the place, with their offset where there is one; or numbers."""
    import pandas as pd

    if times.local is None:
        return list(pd.Index(times.instant[at] / times.scale if times.scale > 1 else times.instant[at]))
    found = pd.to_datetime(times.local[at], unit="us")
    if not offset:
        return list(found)
    ahead = (times.local - times.instant)[at].tolist()
    return [stamp.tz_localize(_zone(own)) for stamp, own in zip(found, ahead, strict=True)]


def following(times: Times, last: int, spacing: CalendarStep, steps: int, offset: bool) -> pd.Index:
    """As `time.following`, with the offset where there is one: that of the last time, of days and more one that all
    times share, since midnights are those of the place, whose clock may change.
    """
    import pandas as pd

    made = time.following(times, last, spacing, steps)
    if not offset or times.local is None or not isinstance(made, pd.DatetimeIndex) or made.tz is not None:
        return made
    ahead = times.local - times.instant
    if spacing.unit in ("second", "about") or (ahead == ahead[last]).all():
        return made.tz_localize(_zone(int(ahead[last])))
    return made


def _zone(offset: int) -> timezone:
    return timezone(timedelta(microseconds=offset)) if offset else UTC


def unlike(texts: Sequence[str], others: Sequence[str], form: str | None) -> tuple[str, str] | None:
    """What two columns of times are, each in a word or two, where they are not of one kind; None where they are, or one
    cannot be read by itself.
    """
    try:
        one, other = time.read(texts, form), time.read(others, form)
    except NotATime:
        return None
    if one.written != other.written:
        return f"written as a {one.written}", f"written as a {other.written}"
    words = ("without an offset from UTC", "with an offset from UTC")
    mine, theirs = zoned(texts, form), zoned(others, form)
    return None if mine == theirs else (words[mine], words[theirs])
