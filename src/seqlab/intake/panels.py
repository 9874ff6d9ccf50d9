"""Series: frequency, seasonal period, what to do about gaps, how much to hold out, each from the series themselves."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.artifacts import sha256
from seqlab.data import panels, time
from seqlab.data.beside import ROLES
from seqlab.data.domains import accompanied
from seqlab.data.domains.series import LARGEST
from seqlab.data.scale import standardisation, varies
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.families.closed_form.direct import LEAST_PAIRS, learned, reaching, readable
from seqlab.intake.identity import check_names, check_series
from seqlab.intake.proposal import Card, Choice, Hints, Proposal
from seqlab.intake.roles import Roles
from seqlab.intake.sniff import Sample
from seqlab.intake.spelling import UNSTATED, archive, dialect_of, scratch

# Seasonal periods in steps that a calendar suggests; and horizons that a forecasting competition asked for (M4:
# Makridakis, Spiliotis and Assimakopoulos 2020).
CALENDAR: dict[str, tuple[tuple[int, ...], int]] = {
    "yearly": ((1,), 6), "half-yearly": ((2,), 6), "quarterly": ((4,), 8), "monthly": ((12,), 18),
    "twice a month": ((24,), 12), "weekly": ((52,), 13), "fortnightly": ((26,), 13), "daily": ((7, 365), 14),
    "on business days": ((5,), 10), "hourly": ((24, 168), 48), "every 30min": ((48, 336), 48),
    "every 15min": ((96, 672), 48), "every 10min": ((144,), 48), "every minute": ((60, 1440), 60),
}  # fmt: skip
MEANING = {
    "known": "covariates that are known ahead, for the steps to forecast too",
    "past": "covariates that are measured, up to the last step alone",
    "static": "covariates that tell series apart",
}
PLAIN_HORIZON = 12  # of steps that no calendar names
CARRIED = (0, 1, 2, 3, 5, 7)  # missing steps in a row that may be stood in for
KEPT = 0.95  # of the recorded steps must lie in the runs
LONGEST = 4000  # steps of a series: what comes before them costs more than it tells
SHORTEST = 12  # steps of a series that can be held out from at all
VALIDATED = 4  # times the steps for validation that a series has at least, where few series ask for many of them
TELLING = 10  # examples, below which no difference in a table of a dozen families can be significant
EXAMPLES = 20  # to test on, at least, where the series have the steps for them
TESTED = 0.25  # of a series' steps, at most, for several examples of it
NEARLY = 0.8  # of the typical length, of which as much can be held out
# Families that need so many windows of a series: steps of those that conf/family offers, of which nlinear does with the
# shortest; and whether it learns from those alone that have the whole horizon after them.
WINDOWS: dict[str, tuple[tuple[int, ...], bool]] = {"nlinear": ((8,), True), "gbdt": ((13, 25, 49), False)}
OUTLYING = 5.0  # times the reach of nine of ten changes
FAR = 50.0  # robust deviations of a series' values
SEASONAL = 0.1  # least correlation of changes with those a period before
LOOKED_AT = 200  # series from which the period is judged
MULTIPLES = 4  # of a period that the series suggest, which must bear it out


def series(path: Path, found: Sample, roles: Roles, name: str, hints: Hints) -> Proposal:
    """A panel, split in time. Raises UserError naming row and column, or that all series are too short."""
    spec: dict[str, Any] = {"file": path.name, "time": roles.time, "value": roles.values, "key": roles.id}
    spec["value"] = roles.values if len(roles.values) > 1 else roles.values[0]
    dialect = dialect_of(path, found)
    spec |= ({} if dialect is None else {"dialect": dialect}) | (
        {} if hints.time_format is None else {"format": hints.time_format}
    )
    layout = panels.Layout.of(spec, "series")
    panel = _read(path, layout)
    names = roles.names
    beside = accompanied.Covariates.read(path, layout, names) if names.all else None
    if beside is not None:
        names = beside.names  # which names what is wrong with them
        spec |= {role: own for role in ROLES if (own := getattr(names, role))}
    counts, spacing = panel.counts()
    even = _even(panel, counts, spacing)
    steps, carried, runs = even.steps, even.carried, even.runs
    long = [i for i, y in enumerate(runs) if len(y) >= SHORTEST]
    long_enough = [runs[i] for i in long]
    if not long_enough:
        longest = max((len(y) for y in runs), default=0)
        raise UserError(
            f"{path.name}: no series is long enough: the longest has {longest} even steps ({spacing.words}), "
            f"at least {SHORTEST} are needed"
        )
    # What does not vary, or repeats another, is no series of the domain.
    taken = list({runs[i].tobytes(): i for i in long if varies(runs[i]).any()}.values()) or long
    distinct = [runs[i] for i in taken]
    lengths = np.array([len(y) for y in distinct])
    words = spacing.words if steps == "time" else "from row to row"
    transform, why_transform = _transform(path, roles, long_enough)
    split = _split(lengths, words, len(roles.values))
    known = None
    if beside is not None and names.known:
        own, tracks = beside.of_runs(steps, carried), list(panel.tracks)
        known = [own[tracks[i]].known for i in taken]
    period, why_period = _period(distinct, known, words, split["train"], hints)
    horizons = sorted({1, max(1, split["horizon"] // 4), split["horizon"]})
    kept = LONGEST if lengths.max() > LONGEST else None
    horizon = split["horizon"]
    min_length = int(max(period + 2, split["min_length"]))
    # Families that use covariates are trained for forecasts with them, in place of forecasts without.
    tasks = ["next_step", *(["covariates"] if names.all else [])]
    tree: dict[str, Any] = {
        "title": f"{path.name}, forecasting {words}",
        "archives": {"panels": archive(path, hints)},
        "prepare": {
            "_target_": f"seqlab.data.domains.{'accompanied.AccompaniedSeries' if names.all else 'series.Series'}",
            "source": [],
            "target": spec,
            "transform": transform,
            "steps": steps,
            "carried": carried,
            "longest": kept,
            "window": int(min(240, lengths.max())),
            "min_length": min_length,
            "valid_steps": split["valid"],
            "test_steps": split["test"],
            "stretches": split["stretches"],
            "valid": 0.1,
            "test": 0.2,
        },
        **scratch({task: {"steps": 300, "tokens": 4096, "evaluations": 8} for task in tasks}),
        "evaluate": {
            "horizons": horizons,
            "origins": 3 if split["test"] >= 2 * horizon and split["stretches"] == 1 else 1,
            "samples": 64,
            "period": period,
            "headline": {"next_step": "nll", "forecast": f"mase@{horizon}"},
        },
    }
    unfit = _unfit(distinct, tree["prepare"], horizon, period)
    if unfit:
        tree["unfit"] = unfit
    few = f"each of so many stretches of {horizon} steps in a row is an example to test on"
    many = f"{len(panel.tracks)} series" if len(panel.tracks) > 1 else "one series"
    choices = [
        Choice("prepare.target.time", roles.time, roles.why.get("time", "no column of times: rows follow one another")),
        Choice("prepare.target.value", spec["value"], f"{roles.why['values']}; {many}"),
        Choice("prepare.target.key", roles.id, roles.why.get("id", "nothing names a series")),
        *(
            Choice(f"prepare.target.{role}", getattr(names, role), f"{roles.why[role]}; {MEANING[role]}")
            for role in ROLES
            if getattr(names, role)
        ),
        Choice("prepare.source", [], "no source: families are compared from scratch"),
        Choice("prepare.steps", steps, even.why),
        Choice("prepare.carried", carried, "missing steps in a row for which the value before stands in"),
        Choice("prepare.transform", transform, why_transform),
        Choice("prepare.longest", kept, "steps kept of a series; what is older costs more than it tells"),
        Choice("prepare.test_steps", split["test"], f"the last of each series, to forecast {horizon} steps ahead"),
        *([Choice("prepare.stretches", split["stretches"], f"few series: {few}")] if split["stretches"] > 1 else []),
        Choice("prepare.valid_steps", split["valid"], "before them, for choosing"),
        Choice("prepare.min_length", min_length, "steps at least that are left for training"),
        Choice("evaluate.period", period, why_period),
        Choice("evaluate.horizons", horizons, f"steps ahead, as usual {words} and as the lengths allow"),
        Choice(
            "evaluate.headline",
            f"mase@{horizon}",
            "error in units of what repeating the last period costs in the past; less is better",
        ),
        *(
            Choice(f"unfit.{family}", reason, "not compared; without this line it is")
            for family, reason in unfit.items()
        ),
    ]
    if dialect is not None:
        choices.insert(0, Choice("prepare.target.dialect", dialect, found.note or "as its cells are written"))
    card = _card(path, panel, even, words, roles, found, hints, tree)
    return Proposal(name, path, "series", tree, choices, card)


def _read(path: Path, layout: panels.Layout) -> panels.Panel:
    """A panel whose series have names. Raises UserError as `panels.read` and `check_names` do."""
    try:
        panel = panels.read(path, layout, lambda value: None)
    except UserError:
        check_names(path, layout.key, layout.dialect)  # rows of no name may be what is wrong
        raise
    check_series(path, layout, panel.tracks)
    return panel


@dataclass(frozen=True)
class Even:
    """How steps are taken and gaps are carried, the run of each series, which of its steps were recorded, and how many
    steps are cut off and filled."""

    steps: str
    carried: int
    runs: list[np.ndarray]
    there: list[np.ndarray]
    cut: int
    filled: int
    why: str


def _even(panel: panels.Panel, counts: list[np.ndarray], spacing: time.CalendarStep) -> Even:
    """The first way in which nearly all recorded steps lie in a run, from the strictest."""
    recorded = sum(int((~np.isnan(track.values).any(1)).sum()) for track in panel.tracks.values())
    for by, start in (("time", counts), ("rows", [np.arange(len(own)) for own in counts])):
        step = spacing.step if by == "time" else 1
        for carried in CARRIED:
            found = [
                panels.longest_run(own, track.values, step, carried)
                for own, track in zip(start, panel.tracks.values(), strict=True)
            ]
            kept = sum(int(there.sum()) for _, there, _, _ in found)
            if kept >= KEPT * recorded or (by == "rows" and carried == CARRIED[-1]):
                filled = sum(count for _, _, _, count in found)
                if by == "time":
                    why = f"{spacing.words}; " + (
                        f"missing steps that are carried: {filled}" if filled else "hardly a gap"
                    )
                else:
                    why = f"times are too uneven to be {spacing.words}: a step is from one row to the next"
                runs, there = [run for run, *_ in found], [own for _, own, *_ in found]
                return Even(by, carried, runs, there, recorded - kept, filled, why)
    raise AssertionError("the last pair of choices is always taken")


def _transform(path: Path, roles: Roles, runs: list[np.ndarray]) -> tuple[str, str]:
    """log1p where most series grow by factors and none is negative."""
    low, high = min(float(y.min()) for y in runs), max(float(y.max()) for y in runs)
    if low < 0:
        if max(high, -low) > LARGEST:
            largest = max(high, low, key=abs)
            raise UserError(
                f"{path.name}, {', '.join(roles.values)}: {largest:g} is beyond {LARGEST:g}; take a greater unit"
            )
        return "none", "there are negative values"
    if high > LARGEST:
        return "log1p", f"values up to {high:g}, which are too large as they are"
    grown = [float(np.quantile(y, 0.95) + 1) / float(np.quantile(y, 0.05) + 1) for y in runs]
    if np.median(grown) >= 3:
        return "log1p", f"no value is negative, and within a series they differ by a factor of {np.median(grown):.2g}"
    return "none", "values of a series are of one size"


def _split(lengths: np.ndarray, words: str, channels: int) -> dict[str, int]:
    """How many steps are held out, so that three series of four have enough for training left, and that validation has
    enough of them for the intervals of direct forecasters, where the series can spare these. Few series are tested on
    several stretches in a row, up to a quarter of their steps, each an example; of half the usual length where else
    there were too few for anything to be told."""
    typical = int(np.quantile(lengths, 0.25))
    asked = CALENDAR.get(words, ((1,), PLAIN_HORIZON))[1]
    horizon = max(1, min(asked, typical // 8))
    test, valid = max(horizon, min(3 * horizon, typical // 5)), max(horizon, min(2 * horizon, typical // 8))
    many = int((lengths >= NEARLY * typical).sum())
    most = int(typical * TESTED)
    if many * (most // horizon) < TELLING <= many * (most // max(1, horizon // 2)):
        horizon //= 2
    stretches = max(1, min(math.ceil(EXAMPLES / many), most // horizon))
    if stretches > 1:
        test, valid = stretches * horizon, max(valid, typical // 8 // horizon * horizon)
    needed = math.ceil(LEAST_PAIRS / (channels * many))
    if valid < needed <= typical // VALIDATED:
        valid = needed
    left = typical - test - valid
    least = max(4, min(24, left // 2))
    found = {"horizon": horizon, "test": test, "stretches": stretches, "valid": valid, "train": left}
    return found | {"min_length": least}


def _unfit(runs: list[np.ndarray], prepare: dict[str, Any], horizon: int, period: int) -> dict[str, str]:
    """Families that these series are too short for, or stand still too long, and why: by what fits them itself."""
    held = prepare["valid_steps"] + prepare["test_steps"]
    kept = [
        y[-prepare["longest"] :] if prepare["longest"] else y for y in runs if len(y) >= held + prepare["min_length"]
    ]
    kept = [y for y in kept if varies(y[:-held]).all()][:LOOKED_AT]
    if not kept:
        return {}
    past = [standardisation(y[:-held]) for y in kept]
    size = {"centre": np.stack([centre for centre, _ in past]), "scale": np.stack([scale for _, scale in past])}
    train = Sequences.from_arrays([y[:-held] for y in kept], **size)
    first = np.array([len(y) - held for y in kept])
    valid = Sequences.from_arrays([y[: len(y) - prepare["test_steps"]] for y in kept], first=first, **size)

    unfit = {}
    for family, (windows, whole) in WINDOWS.items():
        try:
            lengths, _ = readable(train, valid, period, horizon, reaching(list(windows), period), whole=whole)
        except UserError:
            unfit[family] = (
                f"too few steps: validation needs {LEAST_PAIRS} values {horizon} steps after a window of {windows[0]} "
                "steps that vary"
            )
            continue
        window = lengths[-1]
        needed = window + 1 if whole else 1
        if (count := learned(train, period, horizon, window, whole=whole, most=needed)) < needed:
            unfit[family] = (
                f"too few steps: training needs {needed} windows of {window} steps that vary and "
                f"{horizon if whole else 1} after them, and has {count}"
            )
    return unfit


def _period(
    runs: list[np.ndarray], known: list[np.ndarray] | None, words: str, train: int, hints: Hints
) -> tuple[int, str]:
    """The seasonal period with which changes repeat, of those that the calendar or else the series suggest.

    known: by series, (T, K) covariates that are known ahead, whose own part in the changes is no season's.
    """
    if hints.period is not None:
        if hints.period + 2 > train:
            raise UserError(f"period: found {hints.period}, but {train} steps are left for training; expected fewer")
        return hints.period, "named"
    past = [
        _changes(y[:train, 0], None if known is None else known[i][:train])
        for i, y in enumerate(runs)
        if varies(y[:train]).all()
    ][:LOOKED_AT]
    correlations = _correlations([_without_outliers(change) for change in past], train)
    counted = max(1, sum(map(len, past)))
    # Of noise alone, a correlation is beyond three of its deviations about once in a thousand times.
    least = max(SEASONAL, 3 / math.sqrt(counted))
    also = "" if known is None else ", what known covariates tell of them apart"
    if words not in CALENDAR:
        found = _repeating(correlations, counted)
        if found is None:
            return 1, f"no period with which changes repeat{also}"
        return found, f"changes correlate {correlations[found]:.2f} with those {found} steps before{also}"
    candidates = [m for m in CALENDAR[words][0] if 1 < m < len(correlations)]
    if not candidates:
        return 1, "no season that the steps would suggest and the lengths allow"
    bearing = [m for m in candidates if correlations[m] >= least]
    if not bearing:
        best = max(candidates, key=lambda m: correlations[m])
        return 1, f"changes correlate {correlations[best]:.2f} with those {best} steps before{also}: no season"
    # The longer of two periods repeats the shorter one, and more: what that is worth, values tell, changes hardly.
    levels = [np.cumsum(change) for change in past]
    errors = {m: _repeated(levels, m) for m in bearing}
    best = next(m for m in bearing if errors[m] <= (1 + SEASONAL) * min(errors.values()))
    said = f"changes correlate {correlations[best]:.2f} with those {best} steps before{also}"
    others = [f"{error / errors[best]:.2f} times that of {best} after {m}" for m, error in errors.items() if m != best]
    return best, f"{said}; repeating values errs {', '.join(others)}" if others else said


def _changes(y: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """(T,) → (T - 1,), around zero: changes know no trend. What those of known covariates explain is taken out."""
    change = np.diff(y)
    if known is not None:
        beside = np.nan_to_num(np.diff(known, axis=0))
        beside = np.column_stack([np.ones(len(change)), beside])
        change = change - beside @ np.linalg.lstsq(beside, change, rcond=None)[0]
    centred: np.ndarray = change - change.mean()
    return centred


def _wild(runs: dict[str, np.ndarray]) -> tuple[int, str]:
    """How many values are FAR robust deviations from the middle of their series, and one of them."""
    count, farthest, found = 0, 0.0, ""
    for name, y in runs.items():
        if not len(y):
            continue
        away = np.abs(y - np.median(y, axis=0))
        deviation = 1.4826 * np.median(away, axis=0)
        away = np.where(deviation > 0, away / np.where(deviation > 0, deviation, 1), 0)
        count += int((away > FAR).sum())
        if away.max() > max(farthest, FAR):
            step, channel = np.unravel_index(away.argmax(), away.shape)
            farthest, found = float(away.max()), f"such as {y[step, channel]:g} in {name!r}"
    return count, found


def _without_outliers(change: np.ndarray) -> np.ndarray:
    """Changes, those beyond OUTLYING times what nine of ten stay within drawn in to that: one wrong value hides no
    season."""
    middle = np.median(change)
    reach = OUTLYING * float(np.quantile(np.abs(change - middle), 0.9))
    return np.clip(change, middle - reach, middle + reach) if reach else change


def _repeated(levels: list[np.ndarray], period: int) -> float:
    """Mean absolute error of the value a period before, each series in units of that of the value just before."""
    own = [
        np.abs(y[period:] - y[:-period]).mean() / max(np.abs(np.diff(y)).mean(), np.finfo(float).tiny)
        for y in levels
        if len(y) > period + 1
    ]
    return float(np.mean(own)) if own else math.inf


def _repeating(correlations: np.ndarray, counted: int) -> int | None:
    """The period of all that is borne out best by itself and its multiples; None where none is.

    Changes must repeat after it, and not half of it before: after twice the period they do both, and so they do a few
    steps apart where they go on slowly. counted: the changes behind the correlations.
    """
    # So many periods are looked at: of noise alone any of them is beyond it once in a hundred times at most. And
    # changes that go on slowly are worth fewer (Bartlett 1946).
    slowly = correlations[1 : int((correlations <= 0).argmax()) or len(correlations)]
    worth = counted / (1 + 2 * float((slowly**2).sum()))
    least = max(SEASONAL, math.sqrt(2 * math.log(100 * len(correlations)) / worth))
    repeats = np.full(len(correlations), -1.0)
    found = []
    for m in range(2, (len(correlations) + 1) // 2):
        same = np.arange(m, len(correlations), m)[:MULTIPLES]
        half = same - m // 2
        # Noise of single steps turns the next change back: a correlation one step before says nothing of seasons.
        opposite = float(correlations[half[half > 1]].mean())
        repeats[m] = correlations[same].mean()
        if min(repeats[m], repeats[m] - opposite) >= least:
            found.append(m)
    if not found:
        return None
    # The longer of two periods repeats the shorter one; of neighbours the best is meant.
    best = next(m for m in found if repeats[m] >= repeats[found].max() - SEASONAL)
    while (near := best - 1 + int(repeats[best - 1 : best + 2].argmax())) != best:
        best = near
    return best


def _correlations(past: list[np.ndarray], train: int) -> np.ndarray:
    """(L,) mean autocorrelations of series of changes, up to half of their length."""
    total = np.zeros(max(1, train // 2))
    for change in past:
        spectrum = np.abs(np.fft.rfft(change, 2 * len(change))) ** 2
        correlation = np.fft.irfft(spectrum)[: len(change)]
        counted = min(len(total), len(correlation))
        # Fewer pairs stand behind a longer lag.
        pairs = len(change) / (len(change) - np.arange(counted))
        total[:counted] += pairs * correlation[:counted] / correlation[0] if correlation[0] > 0 else 0
    return total / max(1, len(past))


def _card(
    path: Path, panel: panels.Panel, even: Even, words: str, roles: Roles, found: Sample, hints: Hints,
    tree: dict[str, Any],
) -> Card:  # fmt: skip
    runs = even.runs
    rows = sum(len(track.at) for track in panel.tracks.values())
    missing = sum(int(np.isnan(track.values).sum()) for track in panel.tracks.values())
    names = list(panel.tracks)
    held = tree["prepare"]["valid_steps"] + tree["prepare"]["test_steps"]
    short = [n for n, y in zip(names, runs, strict=True) if len(y) < held + tree["prepare"]["min_length"]]
    flat = [n for n, y in zip(names, runs, strict=True) if len(y) and not varies(y).all()]
    still = [
        n for n, y in zip(names, runs, strict=True) if len(y) > held and n not in flat and not varies(y[:-held]).all()
    ]
    tested = len({*names} - {*short, *flat, *still}) * tree["prepare"]["stretches"]
    unscored = sum(int((~own[-held:]).sum()) for own in even.there)
    contents = Counter(y.tobytes() for y in runs)
    order = np.argsort(panel.times.instant)
    facts: dict[str, Any] = {
        "file": path.name,
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "kind": "series",
        "columns": {
            "time": roles.time,
            "values": roles.values,
            "id": roles.id,
            **{role: own for role in ROLES if (own := getattr(roles.names, role))},
        },
        "unused columns": sorted(set(found.columns) - roles.used - set(roles.names.all)),
        "rows": rows,
        "series": len(names),
        "steps": words,
        "first": panel.texts[order[0]] if len(order) else None,
        "last": panel.texts[order[-1]] if len(order) else None,
        "lengths": summary([len(track.at) for track in panel.tracks.values()]),
        "usable lengths": summary([len(y) for y in runs]),
        "missing values": missing,
        "steps carried over gaps": even.filled,
        "of them held out, and left out of the scores": unscored,
        "steps cut off at gaps": even.cut,
        **panel.mended,
        "duplicate series": sum(count - 1 for count in contents.values()),
        "constant series": len(flat),
        "series that stand still before they are held out": len(still),
        "too short series": len(short),
        "examples to test on": tested,
        "overlap of splits": "none: a series is split in time, and what is held out comes last",
        "licence": hints.licence or UNSTATED,
    }
    unused, wild = ", ".join(facts["unused columns"]), _wild(dict(zip(names, runs, strict=True)))
    warnings = [
        *([f"{len(flat)} series do not vary and are left out, such as {flat[0]!r}"] if flat else []),
        *([f"{len(still)} series stand still before they are held out, such as {still[0]!r}"] if still else []),
        *(
            [f"{len(short)} of {len(names)} series are too short to hold out from, such as {short[0]!r}"]
            if short
            else []
        ),
        *(
            [
                f"{unscored} held-out steps are missing: the values before stand in for them as context, and no score "
                "counts them"
            ]
            if unscored
            else []
        ),
        *(
            [f"values that are {FAR:.0f} times the usual spread from the middle of their series: {wild[0]}, {wild[1]}"]
            if wild[0]
            else []
        ),
        *([f"families can hardly be told apart by so few examples to test on: {tested}"] if tested < TELLING else []),
        *(
            [f"columns {unused} are not used; --id tells series apart, --known, --past and --static name covariates"]
            if unused
            else []
        ),
    ]
    if duplicates := facts["duplicate series"]:
        warnings.append(f"{duplicates} series repeat another and are left out")
    return Card(facts, warnings)


def summary(numbers: list[int]) -> dict[str, float]:
    """Smallest, median and greatest."""
    if not numbers:
        return {"min": 0, "median": 0, "max": 0}
    return {"min": min(numbers), "median": float(np.median(numbers)), "max": max(numbers)}
