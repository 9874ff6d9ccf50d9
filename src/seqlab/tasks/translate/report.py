"""The comparison of a domain's translators for people: every pair of systems, lengths, speed, samples side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from seqlab.data.text_pairs import TESTS
from seqlab.evaluation import leaderboard, metrics, pictures, translation
from seqlab.evaluation.leaderboard import CONTROL, Entry, Row, system_name
from seqlab.evaluation.metrics import label_of, order_of
from seqlab.evaluation.settings import PairEvaluation

# What must be known of a test set to read its scores.
CAVEATS = {
    "held_out": "Texts of a product of which nothing was trained on.",
    "everyday": "Sentences written for this project. The author of the rules could read every second one; metrics that"
    " end in @kept are of the others, kept for testing alone. The rules' lexicon holds every word of both halves, so"
    " of them the set measures grammar, not vocabulary.",
}

REGISTERS = {
    register: f"The set is in the {register} register ({ending}), of which rules are told as a translator is by a"
    " client; the other systems are not told, and speak as their training pairs do."
    for register, ending in (("plain", "한다"), ("polite", "합니다"))
}


def markdown(
    domain: str,
    cells: Sequence[Entry],
    speeds: Mapping[tuple[str, str, str], float],
    settings: PairEvaluation,
    replicates: int,
) -> str:
    """cells: of the domain, controls included; where there are several seeds, samples and lengths are the first's.

    speeds: sentences a second by (task, family, strategy).
    """
    first = {(cell.family, cell.strategy): cell for cell in sorted(cells, key=lambda cell: -cell.seed)}
    parts = [f"# {domain}\n"]
    for task in TESTS:
        if task not in settings.headline:
            continue
        metric = settings.headline[task]
        ranked = sorted(
            (cell for cell in first.values() if (task, metric) in metrics.names_of(cell.scores)),
            key=lambda cell: -metrics.value_of(cell.scores, task, metric),
        )
        if ranked:
            parts += [f"## {task}\n", _by_length(ranked, task, speeds)]
            parts += [f"{note}\n" for note in remarks(ranked, task)]
            parts += [f"{REGISTERS[settings.registers[task]]}\n"]
            parts += [f"![{label_of(metric)} by length](pictures/{domain}-{task}-lengths.png)\n"]
            parts += [_pairs(cells, task, metric, replicates), _samples(ranked, task, settings.samples)]
    return "\n".join(parts)


def draw(domain: str, rows: Sequence[Row], settings: PairEvaluation, folder: Path) -> None:
    """How translations fare with longer sources: what a fixed vector between encoder and decoder costs."""
    for task, metric in settings.headline.items():
        if tables := by_length(rows, domain, task, metric):
            pictures.lengths(tables, folder / f"{domain}-{task}-lengths.png")


def remarks(cells: Sequence[Entry], task: str) -> list[str]:
    """What stands below a table of scores: sacreBLEU's signatures, as the controls kept them, and what limits them."""
    kept = next((cell.scores.texts for cell in cells if cell.family == "copy" and cell.strategy == CONTROL), {})
    signatures = [f"`{one}`" for one in kept.get(f"{task}:signatures", [])]
    lines = [f"chrF++ and BLEU by sacreBLEU: {', '.join(signatures)}."] if signatures else []
    return lines + ([CAVEATS[task]] if task in CAVEATS else [])


def by_length(rows: Sequence[Row], domain: str, task: str, metric: str) -> dict[str, list[Row]]:
    """The rows of each bucket of source lengths that has sentences, the shortest sources first."""
    found = {}
    for bucket in translation.bucket_names():
        own = [row for row in rows if row.table == (domain, task, metric + bucket)]
        if own:
            found[bucket.removeprefix("@")] = own
    return found


def _by_length(ranked: Sequence[Entry], task: str, speeds: Mapping[tuple[str, str, str], float]) -> str:
    found = {name for cell in ranked for own, name in metrics.names_of(cell.scores) if own == task}
    names = sorted(found, key=order_of)
    lines = [["", *names, "sentences/s"]]
    for cell in ranked:
        own = set(metrics.names_of(cell.scores))
        values = [f"{metrics.value_of(cell.scores, task, n):.4g}" if (task, n) in own else "–" for n in names]
        speed = speeds.get((task, cell.family, cell.strategy))
        lines.append([system_name(cell), *values, "–" if speed is None else f"{speed:.3g}"])
    return _table(lines)


def _pairs(cells: Sequence[Entry], task: str, metric: str, replicates: int) -> str:
    lines = [["", f"ahead in {label_of(metric)} of", "by [95%]", "p, Holm"]]
    for pair in leaderboard.pairs(cells, task, metric, replicates, seed=0):
        p = "<0.001" if pair.p < 0.001 else f"{pair.p:.3f}"
        lines.append([pair.first, pair.second, f"{pair.difference:.3g} [{pair.low:.3g}, {pair.high:.3g}]", p])
    return f"Paired bootstrap, {replicates} resamples of the sentences.\n\n{_table(lines)}"


def _samples(ranked: Sequence[Entry], task: str, samples: int) -> str:
    copied = next((cell.scores.texts for cell in ranked if (cell.family, cell.strategy) == ("copy", CONTROL)), None)
    if copied is None:
        return ""
    sources, references = copied[task], copied[f"{task}:references"]
    blocks = []
    for i in translation.sampled(len(sources), samples):
        lines = [["source", sources[i]], ["reference", references[i]]]
        lines += [[system_name(cell), cell.scores.texts[task][i]] for cell in ranked if cell.family != "copy"]
        blocks.append(_table([["", f"{i + 1}"], *lines]))
    return "\n".join(blocks)


def _table(lines: Sequence[Sequence[str]]) -> str:
    header, *rest = lines
    body = [header, [":--"] + ["--:" if len(header) > 2 else ":--"] * (len(header) - 1), *rest]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in body) + "\n"
