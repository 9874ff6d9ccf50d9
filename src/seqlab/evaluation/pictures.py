"""Pictures of results as PNG: equal input gives equal bytes, and colours stay apart for the colour-blind.

Colours are those of Okabe and Ito (2008), always with a second mark of difference (marker, line style or label).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seqlab.evaluation.metrics import BINS, LEVELS, Forecast, confidence_bin, label_of, metric_of
from seqlab.evaluation.scores import Predictions
from seqlab.scratch import replacing

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from seqlab.evaluation.leaderboard import Row
    from seqlab.evaluation.order import Worth
    from seqlab.evaluation.transfer import Point

BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#F0E442",
)
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "black")
MARKERS = "osD^vPX"
LINES: Sequence[Literal["-", "--", "-.", ":"]] = ("-", "--", "-.", ":")
GREY = "#777777"
FEW = 5  # examples that a bin needs to be drawn
MOST_COUNTED = 16  # classes of which a picture has room for every count
STYLE: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same letters
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
}


@contextmanager
def _figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of that many inches, saved whole under `path` when the block ends well."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with replacing(path) as made:
            _save(figure, made)


def _save(figure: Figure, path: Path) -> None:
    """The bytes of `figure.savefig`, with less work.

    That draws everything once more, for the layout alone, and finds ticks and the boxes of their labels a dozen times.
    """
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        for name in ("_update_ticks", "_get_ticklabel_bboxes"):
            setattr(axis, name, _once_a_place(getattr(axis, name), axis))
    layout = figure.get_layout_engine()
    assert layout is not None
    layout.execute(figure)
    figure.set_layout_engine("none")
    figure.canvas.print_png(path, metadata={"Software": None})  # type: ignore[attr-defined]


def _once_a_place(method: Callable[..., Any], axis: Axis) -> Callable[..., Any]:
    """A method of an axis whose result stays the same until the axis moves or shows another interval."""
    last: dict[tuple[float, ...], Any] = {}

    def remembered(*arguments: Any) -> Any:
        place = (*axis.axes.bbox.bounds, *axis.get_view_interval())
        if place not in last:
            found = method(*arguments)
            last.clear()
            last[place] = found
        return last[place]

    return remembered


def leaderboard(rows: Sequence[Row], path: Path) -> None:
    """Values with 95% intervals, best on top, of one table's rows; controls are grey lines through the picture.

    A control so far off that it would press the families together is named at the picture's edge.
    """
    families = [row for row in rows if not row.control]
    controls = [row for row in rows if row.control]
    strategies = [name for _, name in sorted({(not row.from_scratch, row.strategy) for row in families})]
    with _figure(path, 7.2, 1.3 + 0.27 * len(families) + 0.17 * len(controls)) as figure:
        axes = figure.add_subplot()
        for k, strategy in enumerate(strategies):
            own = [(y, row) for y, row in enumerate(families) if row.strategy == strategy]
            values = np.array([row.value for _, row in own])
            bounds = np.array([(row.low, row.high) for _, row in own]).T
            axes.errorbar(
                values,
                [y for y, _ in own],
                xerr=_bars(values, *bounds),
                fmt=MARKERS[k % len(MARKERS)],
                color=CYCLE[k % len(CYCLE)],
                markersize=5,
                capsize=2,
                label=strategy,
                zorder=3,
            )
        axes.set_yticks(range(len(families)), [row.family for row in families])
        axes.set_ylim(len(families) - 0.4, -0.6 - 0.6 * len(controls))
        axes.grid(axis="y", visible=False)
        left, right = _view(families, controls)
        axes.set_xlim(left, right)
        # Each control's name has a line of its own above the systems, on the side of its line that has room.
        for k, control in enumerate(controls):
            y = -0.8 - 0.6 * k
            on_left = control.value < (left + right) / 2
            if left <= control.value <= right:
                name = control.system
                axes.plot([control.value] * 2, [y, len(families)], color=GREY, linewidth=1, linestyle="--", zorder=1)
            else:
                name = (
                    f"← {control.system}, {control.value:.4g}"
                    if on_left
                    else f"{control.system}, {control.value:.4g} →"
                )
            axes.annotate(
                name,
                (min(max(control.value, left), right), y),
                xytext=(4 if on_left else -4, 0),
                textcoords="offset points",
                ha="left" if on_left else "right",
                va="center",
                color="#444444",
                fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
        axes.set_xlabel(f"{label_of(rows[0].metric)} ({_better(rows[0].metric)}), 95% intervals")
        axes.set_title(f"{rows[0].domain}: {rows[0].task}")
        if families:
            figure.legend(loc="outside upper right", ncols=len(strategies))


def _bars(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(2, N) lengths of error bars; an interval without an end, of too few examples, has none (NaN)."""
    lengths = np.maximum([values - low, high - values], 0)
    return np.where(np.isfinite(lengths), lengths, np.nan)


def _low(one: Row | Worth) -> float:
    return one.low if np.isfinite(one.low) else one.value


def _high(one: Row | Worth) -> float:
    return one.high if np.isfinite(one.high) else one.value


def _view(families: Sequence[Row], controls: Sequence[Row]) -> tuple[float, float]:
    """Ends of the axis: all families, and the controls that are no further from them than they from each other."""
    shown = families or controls
    low, high = min(_low(row) for row in shown), max(_high(row) for row in shown)
    span = high - low or 1.0
    near = [row.value for row in controls if low - span <= row.value <= high + span]
    low, high = min([low, *near]), max([high, *near])
    return low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1)


def lengths(tables: Mapping[str, Sequence[Row]], path: Path, unit: str = "words of the source (sentences)") -> None:
    """Values with 95% intervals of each system by length; tables: rows by bucket, shortest first. unit: of lengths."""
    from matplotlib.lines import Line2D

    rows = [row for table in tables.values() for row in table if not row.control]
    systems = sorted({(row.family, not row.from_scratch, row.strategy) for row in rows})
    families = sorted({family for family, *_ in systems})
    strategies = list(dict.fromkeys(strategy for *_, strategy in sorted(systems, key=lambda system: system[1:])))
    with _figure(path, 7.2, 4.0) as figure:
        axes = figure.add_subplot()
        for k, (family, _, strategy) in enumerate(systems):
            own = [(x, row) for x, table in enumerate(tables.values())
                   for row in table if (row.family, row.strategy) == (family, strategy)]  # fmt: skip
            values = np.array([row.value for _, row in own])
            bounds = np.array([(row.low, row.high) for _, row in own]).T
            colour, line = families.index(family), strategies.index(strategy)  # a family is a colour, a strategy a line
            axes.errorbar(
                [x + 0.4 * ((k + 0.5) / len(systems) - 0.5) for x, _ in own],  # side by side, not on top of each other
                values,
                yerr=_bars(values, *bounds),
                fmt=f"{MARKERS[colour % len(MARKERS)]}{LINES[line % len(LINES)]}",
                color=CYCLE[colour % len(CYCLE)],
                markersize=4,
                capsize=2,
            )
        axes.set_xticks(range(len(tables)), [f"{name}\n({table[0].examples})" for name, table in tables.items()])
        axes.set_xlabel(unit)
        if rows:
            metric = rows[0].metric.partition("@")[0]
            axes.set_ylabel(f"{label_of(metric)} ({_better(metric)})")
            axes.set_title(f"{rows[0].domain}: {rows[0].task}, by length")
            colours = [
                Line2D([], [], color=CYCLE[k % len(CYCLE)], marker=MARKERS[k % len(MARKERS)], markersize=4, label=name)
                for k, name in enumerate(families)
            ]
            styles = [
                Line2D([], [], color=GREY, linestyle=LINES[k % len(LINES)], label=name)
                for k, name in enumerate(strategies)
            ]
            figure.legend(handles=[*colours, *styles], loc="outside lower center", ncols=3)


def gains(rows: Sequence[Row], path: Path) -> None:
    """Gain over the same family from scratch with 95% intervals, of one table's rows; right of zero, transfer helps."""
    moved = [row for row in rows if row.gain_over_scratch is not None and not row.from_scratch]
    with _figure(path, 7.2, 1.4 + 0.27 * max(len(moved), 1)) as figure:
        axes = figure.add_subplot()
        axes.axvline(0, color="black", linewidth=1)
        for y, row in enumerate(moved):
            gain, low, high = (part or 0.0 for part in (row.gain_over_scratch, row.gain_low, row.gain_high))
            colour, marker = (BLUE, "o") if low > 0 else (VERMILION, "s") if high < 0 else (GREY, "D")
            error = _bars(np.array([gain]), np.array([low]), np.array([high]))
            axes.errorbar(gain, y, xerr=error, fmt=marker, color=colour, markersize=5, capsize=2)
        axes.set_yticks(range(len(moved)), [row.system for row in moved])
        axes.set_ylim(max(len(moved), 1) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"gain over scratch in {label_of(rows[0].metric)}\nleft hurts, right helps; 95% intervals")
        axes.set_title(f"{rows[0].domain}: {rows[0].task}, what the source is worth")


def order(found: Sequence[Worth], path: Path) -> None:
    """The value of order of each family with 95% intervals, a panel a domain on a scale of its own."""
    domains = list(dict.fromkeys(one.domain for one in found))
    columns = min(2, len(domains))
    lines = -(-len(domains) // columns)
    tallest = max(sum(one.domain == domain for one in found) for domain in domains)
    with _figure(path, 3.9 * columns, 0.5 + lines * (0.9 + 0.27 * tallest)) as figure:
        panels = np.ravel(figure.subplots(lines, columns, squeeze=False))
        for axes, domain in zip(panels, domains, strict=False):
            own = [one for one in found if one.domain == domain]
            values = np.array([one.value for one in own])
            bounds = np.array([(one.low, one.high) for one in own]).T
            error = _bars(values, *bounds)
            colours = [BLUE if one.low > 0 else VERMILION if one.high < 0 else GREY for one in own]
            axes.barh(range(len(own)), values, 0.6, xerr=error, color=colours, error_kw={"capsize": 2, "linewidth": 1})
            axes.axvline(0, color="black", linewidth=1)
            for y, one in enumerate(own):
                # The figure stands on the far side of the interval, away from the bar.
                right = one.value >= 0
                axes.annotate(
                    f"{one.value:+.3g}",
                    (_high(one) if right else _low(one), y),
                    xytext=(4 if right else -4, 0),
                    textcoords="offset points",
                    ha="left" if right else "right",
                    va="center",
                    fontsize=8,
                )
            low, high = min(0, *map(_low, own)), max(0, *map(_high, own))
            room = [0.35 if some else 0.05 for some in ((values < 0).any(), (values >= 0).any())]
            axes.set_xlim(low - room[0] * (high - low or 1), high + room[1] * (high - low or 1))
            axes.locator_params(axis="x", nbins=5)
            axes.set_yticks(range(len(own)), [one.family.replace("_", " ") for one in own])
            axes.set_ylim(tallest - 0.4, -0.6)
            axes.grid(axis="y", visible=False)
            axes.set_title(domain)
            axes.set_xlabel(label_of(own[0].metric), fontsize=8)
        for axes in panels[len(domains) :]:
            axes.remove()
        figure.suptitle("The value of order; 95% intervals", x=0.02, ha="left", fontsize=10)


def label_curves(points: Sequence[Point], path: Path) -> None:
    """The score over the share of the target, a panel a family; dotted: from scratch on the whole target."""
    families = sorted({point.family for point in points})
    strategies = [name for _, name in sorted({(point.strategy != "scratch", point.strategy) for point in points})]
    with _figure(path, 3.4 * len(families) + 1.0, 4.2) as figure:
        panels = np.ravel(figure.subplots(1, len(families), sharex=True, sharey=True, squeeze=False))
        for axes, family in zip(panels, families, strict=True):
            for k, strategy in enumerate(strategies):
                own = sorted((p for p in points if (p.family, p.strategy) == (family, strategy)), key=_fraction)
                if not own:
                    continue
                values = np.array([point.value for point in own])
                bounds = np.array([(point.low, point.high) for point in own]).T
                axes.errorbar(
                    [100 * point.fraction for point in own],
                    values,
                    yerr=_bars(values, *bounds),
                    fmt=f"{MARKERS[k % len(MARKERS)]}{LINES[k % len(LINES)]}",
                    color=CYCLE[k % len(CYCLE)],
                    markersize=4,
                    capsize=2,
                    label=strategy,
                )
                if strategy == "scratch" and own[-1].fraction == 1.0:
                    axes.axhline(values[-1], color=GREY, linewidth=1, linestyle=":")
            axes.set_xscale("log")
            ticks = sorted({100 * point.fraction for point in points})
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
            axes.set_title(family)
            axes.set_xlabel("% of the target's training examples")
        metric = points[0].metric
        figure.suptitle(
            f"{points[0].domain}: {points[0].task}\n{label_of(metric)} ({_better(metric)}), 95% intervals", fontsize=10
        )
        shown = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=min(5, 2 * len(families) + 1))


def _fraction(point: Point) -> float:
    return point.fraction


def forecasts(shown: Sequence[Forecast], past: Sequence[np.ndarray], titles: Sequence[str], path: Path) -> None:
    """Median and 80/95% intervals against the truth, one panel each; past: values (T, C) before each origin.

    The first channel is drawn, with as much of its past as three times the forecast.
    """
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    with _figure(path, 3.9 * columns, 0.5 + 2.0 * lines) as figure:
        panels = np.ravel(figure.subplots(lines, columns, squeeze=False))
        for axes, one, before, title in zip(panels, shown, past, titles, strict=False):
            known = np.asarray(before)[-3 * len(one.truth) :, 0]
            ahead = np.arange(one.origin, one.origin + len(one.truth))
            quantile = {level: one.quantiles[k, :, 0] for k, level in enumerate(LEVELS)}
            axes.fill_between(ahead, quantile[0.025], quantile[0.975], color=SKY, alpha=0.3, linewidth=0, label="95%")
            axes.fill_between(ahead, quantile[0.1], quantile[0.9], color=SKY, alpha=0.6, linewidth=0, label="80%")
            axes.plot(np.arange(one.origin - len(known), one.origin), known, color=GREY, label="past")
            axes.plot(ahead, one.truth[:, 0], color="black", linestyle="--", label="truth")
            axes.plot(ahead, one.median[:, 0], color=BLUE, label="median")
            axes.axvline(one.origin - 0.5, color=GREY, linewidth=0.8, linestyle=":")
            axes.set_title(title)
        for axes in panels[len(shown) :]:
            axes.remove()
        for axes in panels[max(0, len(shown) - columns) : len(shown)]:
            axes.set_xlabel("step")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)


def frames(rows: Sequence[tuple[str, np.ndarray]], path: Path) -> None:
    """Films as rows of pictures; rows: a title and frames (T, H, W) between 0 and 1, of which at most 8 are drawn."""
    columns = min(8, max(len(film) for _, film in rows))
    with _figure(path, 0.9 + 0.8 * columns, 0.4 + 0.8 * len(rows)) as figure:
        for line, (title, film) in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
            steps = np.linspace(0, len(film) - 1, columns).round().astype(np.int64)
            for axes, step in zip(line, steps, strict=True):
                axes.imshow(film[step], cmap="gray", vmin=0, vmax=1)
                axes.set_xticks([], [])
                axes.set_yticks([], [])
                axes.spines[:].set_visible(False)
                if axes.get_subplotspec().is_first_row():
                    axes.set_title(f"+{step + 1}")
            line[0].set_ylabel(title)


def attention(maps: np.ndarray, positions: Sequence[str] | None, title: str, path: Path) -> None:
    """Attention weights (layers, heads, T, T), a panel each, on one scale; positions: what stands at each, if that
    can be written.
    """
    from matplotlib.colors import PowerNorm

    layers, heads = maps.shape[:2]
    with _figure(path, 0.8 + 2.3 * heads, 0.8 + 2.3 * layers) as figure:
        panels = figure.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
        for layer, line in enumerate(panels):
            for head, axes in enumerate(line):
                # The square root shows weights spread over many positions beside those on a single one.
                shown = axes.imshow(maps[layer, head], norm=PowerNorm(0.5, 0, 1), cmap="cividis", interpolation="none")
                axes.grid(visible=False)
                axes.set_title(f"layer {layer + 1}, head {head + 1}")
                if positions is not None:
                    for set_ticks in (axes.set_xticks, axes.set_yticks):
                        set_ticks(range(len(positions)), positions, fontsize=4, parse_math=False)
                    axes.tick_params(length=0)
        for axes in panels[-1]:
            axes.set_xlabel("attends to")
        for axes in panels[:, 0]:
            axes.set_ylabel("after")
        figure.colorbar(shown, ax=panels, shrink=0.6, label="weight", ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
        figure.suptitle(title, fontsize=10)


def loss_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], label: str, path: Path) -> None:
    """Losses over training steps; curves: (steps, values) by name."""
    with _figure(path, 7.2, 3.4) as figure:
        axes = figure.add_subplot()
        for k, (name, (steps, values)) in enumerate(curves.items()):
            marker = MARKERS[k % len(MARKERS)] if len(steps) <= 40 else None
            style = LINES[k % len(LINES)]
            axes.plot(steps, values, style, color=CYCLE[k % len(CYCLE)], marker=marker, markersize=3, label=name)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        figure.legend(loc="outside upper center", ncols=min(4, len(curves)))


def gradients(found: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], path: Path) -> None:
    """Gradient norm by lag of each family, relative to lag 0: full and truncated, before and after training.

    found: family -> start or trained -> full or truncated -> norms of lag 0, 1, ...; a norm of 0 is not drawn.
    """
    moments = list(dict.fromkeys(moment for one in found.values() for moment in one))
    with _figure(path, 7.2, 3.4) as figure:
        for axes, moment in zip(figure.subplots(1, len(moments), sharey=True, squeeze=False)[0], moments, strict=True):
            for k, (family, parts) in enumerate(found.items()):
                # As far as truncation lets it, the one is the other: a band under a line.
                for cut, width, strength in (("full", 1.3, 1.0), ("truncated", 6.0, 0.3)):
                    norms = np.array(parts[moment][cut])
                    known = norms > 0
                    lags, shares = np.flatnonzero(known), norms[known] / norms[0]
                    style: Any = {"color": CYCLE[k % len(CYCLE)], "linewidth": width, "alpha": strength}
                    axes.plot(lags, shares, label=f"{family}, {cut}", solid_capstyle="butt", **style)
            axes.set_yscale("log")
            axes.set_title({"start": "before training", "trained": "after training"}.get(moment, moment))
            axes.set_xlabel("steps back, k")
        figure.axes[0].set_ylabel("|∂ loss / ∂ state|, of that at k = 0")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)


def horizons(found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], path: Path) -> None:
    """Loss of each task of memory by its horizon, as a share of the least one without memory (1 is no memory at all).

    found: family -> task -> lines with horizon, loss, baseline and solved, a full marker where it was solved.
    """
    tasks = list(dict.fromkeys(task for one in found.values() for task in one))
    with _figure(path, 7.2, 3.2) as figure:
        for axes, task in zip(figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0], tasks, strict=True):
            for k, (family, parts) in enumerate(found.items()):
                lines, colour, marker = parts[task], CYCLE[k % len(CYCLE)], MARKERS[k % len(MARKERS)]
                x = [line["horizon"] for line in lines]
                y = [line["loss"] / line["baseline"] for line in lines]
                axes.plot(x, y, "-", color=colour, marker=marker, markerfacecolor="white", label=family)
                solved = [(a, b) for a, b, line in zip(x, y, lines, strict=True) if line["solved"]]
                axes.plot([a for a, _ in solved], [b for _, b in solved], marker, color=colour)
            axes.axhline(1, color="#777777", linewidth=0.8, linestyle="--")
            axes.set_xscale("log", base=2)
            axes.set_xticks(x, [str(one) for one in x])
            axes.set_title(task)
            axes.set_xlabel("horizon, steps")
        figure.axes[0].set_ylabel("loss / loss without memory")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(found))


def growth(
    t: Sequence[int],
    counts: Mapping[str, Sequence[float]],
    shares: Mapping[str, Sequence[float | None]],
    path: Path,
) -> None:
    """What a model of the last t steps costs and needs: counts, and below them shares from 0 to 1, by t."""
    parts = [part for part in (counts, shares) if part]
    with _figure(path, 7.2, 1.2 + 2.4 * len(parts)) as figure:
        for axes, part in zip(figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0], parts, strict=True):
            for k, (name, values) in enumerate(part.items()):
                points = np.array(values, np.float64)  # None becomes NaN, which is not drawn
                style, colour = LINES[k % len(LINES)], CYCLE[k % len(CYCLE)]
                label, marker = name.replace("_", " "), MARKERS[k % len(MARKERS)]
                axes.plot(t, points, style, color=colour, marker=marker, markersize=3, label=label)
            axes.set_xscale("log")
            if part is counts:
                axes.set_yscale("log")
            else:
                axes.set_ylim(-0.02, 1.02)
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set_xlabel("steps of the past, t")


def reliability(predictions: Mapping[str, Predictions], path: Path) -> None:
    """Accuracy against confidence in each bin (on the diagonal: calibrated), above how many examples each bin has.

    A bin of fewer than FEW examples says nothing of its accuracy, and has no point.
    """
    with _figure(path, 4.6, 5.2) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        for k, (name, part) in enumerate(predictions.items()):
            confidence = np.exp(part.log_probs.max(1))
            bins = confidence_bin(confidence)
            count = np.bincount(bins, minlength=BINS)
            some = count >= FEW
            hits = np.bincount(bins, part.log_probs.argmax(1) == part.labels, BINS)[some] / count[some]
            mean = np.bincount(bins, confidence, BINS)[some] / count[some]
            colour, style = CYCLE[k % len(CYCLE)], LINES[k % len(LINES)]
            marker = MARKERS[k % len(MARKERS)]
            upper.plot(mean, hits, style, color=colour, marker=marker, markersize=4, label=name)
            lower.stairs(count, np.linspace(0, 1, BINS + 1), color=colour, linestyle=style)
        upper.set_ylabel("accuracy")
        upper.set_ylim(-0.02, 1.02)
        lower.set_ylabel("examples")
        lower.set_xlabel("confidence")
        lower.set_xlim(0, 1.02)
        figure.legend(loc="outside upper center", ncols=min(3, len(predictions)))


def confusion(labels: np.ndarray, guesses: np.ndarray, classes: int, title: str, path: Path) -> None:
    """Where each true class (a row) was put: shares of the row as shades, counts in the cells where they can be read.

    labels, guesses: (N,) class numbers.
    """
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, guesses), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(7.2, 2.4 + 0.36 * classes)
    with _figure(path, side + 0.8, side) as figure:
        axes = figure.add_subplot()
        shown = axes.imshow(shares, vmin=0, vmax=1, cmap="cividis", interpolation="none")
        axes.grid(visible=False)
        if classes <= MOST_COUNTED:
            axes.set_xticks(range(classes))
            axes.set_yticks(range(classes))
            for i, j in np.argwhere(counts):
                colour = "black" if shares[i, j] > 0.55 else "white"
                axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=colour, fontsize=7)
        axes.set_xlabel("guessed class")
        axes.set_ylabel("true class")
        axes.set_title(title)
        figure.colorbar(shown, ax=axes, shrink=0.8, label="share of the true class")


def coverage(pits: Mapping[str, np.ndarray], path: Path) -> None:
    """Calibration of a density: how often the truth falls inside central intervals, and its transform's histogram.

    pits: probability integral transforms (N,) by name.
    """
    nominal = np.linspace(0, 1, 41)
    with _figure(path, 7.2, 3.4) as figure:
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        right.axhline(1, color=GREY, linestyle=":", linewidth=1)
        for k, (name, pit) in enumerate(pits.items()):
            colour, style = CYCLE[k % len(CYCLE)], LINES[k % len(LINES)]
            inside = [(np.abs(2 * pit - 1) <= level).mean() for level in nominal]
            left.plot(nominal, inside, style, color=colour, label=name)
            density, edges = np.histogram(pit, bins=20, range=(0, 1), density=True)
            right.stairs(density, edges, color=colour, linestyle=style)
        left.set_xlabel("nominal probability of the interval")
        left.set_ylabel("share of truths inside")
        left.set_aspect("equal")
        right.set_xlabel("probability integral transform (flat: calibrated)")
        right.set_ylabel("density")
        right.set_ylim(bottom=0)
        figure.legend(loc="outside upper center", ncols=min(4, len(pits)))


def _better(metric: str) -> str:
    better = metric_of(metric).better
    return f"{better} is better" if isinstance(better, str) else f"best at {better:g}"
