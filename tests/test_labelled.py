"""Labelled sequences of one's own: splits by content, labels from rows, folders and tables, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from seqlab.data.domains.labelled import Labelled
from seqlab.data.prepared import LABELLED, TARGET, Prepared
from seqlab.data.sequences import SPLITS
from seqlab.errors import UserError

TABLE: dict[str, Any] = {
    "format": "table", "file": "t.csv", "id": ["id"], "time": "step", "channels": ["a", "b"], "label": "label",
}  # fmt: skip


def frame(count: int = 40, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(count):
        steps = int(rng.integers(6, 20))
        part = pd.DataFrame(rng.standard_normal((steps, 2)).round(3), columns=["a", "b"])
        parts.append(part.assign(id=number, step=np.arange(steps), label="xyz"[number % 3]))
    return pd.concat(parts)


def prepare(folder: Path, data: dict[str, Any] | None = None, **changes: Any) -> Prepared:
    settings: dict[str, Any] = {"classes": ["x", "y", "z"], "window": None, "context": 0, "valid": 0.2, "test": 0.2}
    out = folder / "out"
    out.mkdir(parents=True)
    Labelled(data=data or TABLE, **{**settings, **changes}).prepare({"data": folder / "raw"}, out)
    return Prepared.open(out)


def written(folder: Path, table: pd.DataFrame, name: str = "t.csv") -> Path:
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "raw" / name, index=False)
    return folder


def whole(made: Prepared) -> dict[str, list[np.ndarray]]:
    return {split: [np.asarray(one) for one in made.split(LABELLED, split)] for split in SPLITS}


def test_sequences_of_a_table_come_whole_and_standardised(tmp_path: Path) -> None:
    table = frame()
    made = prepare(written(tmp_path, table))
    assert (made.meta.size, made.meta.tasks, made.meta.classes) == (2, ["next_step", "classify"], ["x", "y", "z"])
    train = np.concatenate(whole(made)["train"])
    np.testing.assert_allclose((train.mean(0), train.std(0)), ((0, 0), (1, 1)), atol=1e-5)
    assert sum(made.meta.counts[TARGET][f"{split}_steps"] for split in SPLITS) == len(table)
    for split in SPLITS:
        labels = made.split(LABELLED, split).labels
        assert labels is not None
        # Each class is in each split, about as often as in all.
        assert set(labels) == {0, 1, 2}
        assert made.meta.counts[LABELLED][split] == made.meta.counts[TARGET][split]


def test_order_of_rows_and_names_of_sequences_move_nothing(tmp_path: Path) -> None:
    table = frame()
    shuffled = table.sample(frac=1, random_state=0)
    shuffled["id"] = 1000 - shuffled["id"]
    one, two = prepare(written(tmp_path / "1", table)), prepare(written(tmp_path / "2", shuffled))
    for split in SPLITS:
        # Sums in another order round otherwise, so contents are compared to four digits.
        found = [{(values.round(4) + 0.0).tobytes() for values in whole(made)[split]} for made in (one, two)]
        assert found[0] == found[1]


def test_what_is_held_out_changes_no_training(tmp_path: Path) -> None:
    def published(folder: Path, seed: int) -> Prepared:
        for part, count, own in (("TRAIN", 20, 0), ("TEST", 9, seed)):
            rng = np.random.default_rng([own, count])
            rows = [":".join([*(",".join(f"{v:.3f}" for v in rng.random(7)) for _ in range(2)), "xy"[i % 2]])
                    for i in range(count)]  # fmt: skip
            (folder / "raw").mkdir(parents=True, exist_ok=True)
            (folder / f"raw/{part}.ts").write_text("\n".join(["@classLabel true x y", "@data", *rows]) + "\n")
        return prepare(folder, {"format": "ts", "train": "TRAIN.ts", "test": "TEST.ts"})

    one, two = published(tmp_path / "1", 1), published(tmp_path / "2", 2)
    for split in ("train", "valid"):
        assert [a.tobytes() for a in whole(one)[split]] == [b.tobytes() for b in whole(two)[split]]
    assert [a.tobytes() for a in whole(one)["test"]] != [b.tobytes() for b in whole(two)["test"]]
    assert len(whole(one)["test"]) == 9


def test_long_sequences_are_cut_and_copies_are_taken_once(tmp_path: Path) -> None:
    table = frame()
    copy = table[table["id"] == 3].assign(id=99)
    made = prepare(written(tmp_path, pd.concat([table, copy])), window=8, context=3)
    assert made.meta.removed["duplicate"] == 1
    held = made.split(TARGET, "test")
    assert held.first is not None
    assert set(held.first) == {3}
    assert max(made.split(TARGET, "train").lengths) == 8
    steps = sum(made.meta.counts[TARGET][f"{split}_steps"] for split in SPLITS)
    assert steps + sum(n for key, n in made.meta.removed.items() if "outside" in key) == len(table)


def test_without_labels_there_is_the_next_step_alone(tmp_path: Path) -> None:
    made = prepare(written(tmp_path, frame(60)), {**TABLE, "label": None}, classes=[])
    assert (made.meta.tasks, made.meta.classes) == (["next_step"], [])
    assert not (made.folder / LABELLED).exists()


def two_labels(table: pd.DataFrame) -> pd.DataFrame:
    table = table.reset_index(drop=True)
    table.loc[table["id"] == 7, "label"] = ["x", *"y" * (int((table["id"] == 7).sum()) - 1)]
    return table


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (two_labels, TABLE, r"t\.csv, row \d+, column label: 'y', and 'x' before in the sequence '7'; expected one label"),
    (lambda t: t.assign(label="x"), TABLE, "labels: every example is 'x'; expected at least two classes"),
    (lambda t: t.assign(label="w"), TABLE, "sequence 0: label 'w'; expected one of x, y, z"),
    (lambda t: t.assign(a="many"), TABLE, r"t\.csv, row 2, column a: 'many' is not a number"),
    (lambda t: t.drop(columns="b"), TABLE, r"t\.csv: no column 'b'; the header has a, id, step, label"),
    (lambda t: t, {**TABLE, "unit": 1}, "data.unit: expected of the format table the keys format, file, id"),
    (lambda t: t, {**TABLE, "format": "xml"}, "data.format: found 'xml', expected one of table, ts, video, wav"),
    (lambda t: t[t["id"] < 2], TABLE, "no sequence is left for"),
]


@pytest.mark.parametrize(("change", "data", "message"), BAD, ids=[message[:40] for *_, message in BAD])
def test_what_is_wrong_is_one_line(tmp_path: Path, change: Any, data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        prepare(written(tmp_path, change(frame())), data)
    assert "\n" not in str(error.value)
