"""Ways in which files are wrong: each ends in the right result, or in one line that says where and what to do."""

from __future__ import annotations

import datetime
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_intake_look import make, prepared, trusted

from seqlab.data.readers import Dialect
from seqlab.errors import UserError
from seqlab.intake import Hints, look
from seqlab.intake.proposal import Proposal

RNG = np.random.default_rng(0)
VALUES = (100 + RNG.standard_normal(120).cumsum()).round(2).tolist()
DAYS = [str(datetime.date(2023, 1, 1) + datetime.timedelta(days=i)) for i in range(120)]
ROWS = list(zip(DAYS, VALUES, strict=True))


def csv(rows: list[tuple[object, ...]], header: str = "day,sales", delimiter: str = ",", end: str = "\n") -> str:
    return end.join([header, *(delimiter.join(map(str, row)) for row in rows)]) + end


def expected() -> np.ndarray:
    return np.array(VALUES, np.float32)


# Right results: the same series comes out, however the file is written

RIGHT: dict[str, tuple[bytes, dict[str, int]]] = {
    "plain": (csv(ROWS).encode(), {}),
    "a byte-order mark": (csv(ROWS).encode("utf-8-sig"), {}),
    "CRLF": (csv(ROWS, end="\r\n").encode(), {}),
    "UTF-16": (csv(ROWS).encode("utf-16"), {}),
    "CP949 and a Korean header": (csv(ROWS, "날짜,매출").encode("cp949"), {}),
    "decomposed Hangul": (unicodedata.normalize("NFD", csv(ROWS, "날짜,매출")).encode(), {}),
    "semicolons and decimal commas": (
        csv([(day, str(value).replace(".", ",")) for day, value in ROWS], "day;sales", ";").encode(), {},
    ),
    "tabs": (csv(ROWS, "day\tsales", "\t").encode(), {}),
    "unordered times": (csv([ROWS[i] for i in RNG.permutation(120)]).encode(), {"rows put in order of time": -1}),
    "newest first": (csv(ROWS[::-1]).encode(), {"rows put in order of time": 119}),
    "rows given twice": (csv([*ROWS, ROWS[7]]).encode(), {"rows put in order of time": 1, "rows given twice": 1}),
    "midnights of a zone whose clocks change": (
        csv([(f"{day}T00:00:00{'+01:00' if day < '2023-03-26' else '+02:00'}", v) for day, v in ROWS]).encode(), {},
    ),
    "dates as numbers": (csv([(day.replace("-", ""), value) for day, value in ROWS]).encode(), {}),
    "blank last lines": ((csv(ROWS) + "\n\n").encode(), {}),
    "a column of row numbers": (
        csv([(i, *row) for i, row in enumerate(ROWS)], ",day,sales").encode(), {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_file_is_read_right_however_it_is_written(tmp_path: Path, name: str) -> None:
    content, counted = RIGHT[name]
    path = make(tmp_path / "sales.csv", content)
    before = path.read_bytes()
    found = look(path)
    assert (found.kind, found.tree["prepare"]["steps"]) == ("series", "time")
    assert path.read_bytes() == before
    made = prepared(found, tmp_path)
    np.testing.assert_array_equal([*made.split("target", "test")][-1][:, 0], expected())
    mended = {key.split(": ")[1]: count for key, count in made.meta.removed.items()}
    assert mended == {key: mended[key] if count < 0 else count for key, count in counted.items()}


def test_thousands_are_read_whichever_mark_parts_them(tmp_path: Path) -> None:
    great = [1000 * value for value in VALUES]
    english = csv([(day, f'"{value:,.2f}"') for day, value in zip(DAYS, great, strict=True)])
    german = [f"{value:,.2f}".translate(str.maketrans(",.", ".,")) for value in great]
    french = [f"{value:,.2f}".translate(str.maketrans(",.", "\u202f,")) for value in great]
    texts = [english, *(csv(list(zip(DAYS, cells, strict=True)), "day;sales", ";") for cells in (german, french))]
    for i, text in enumerate(texts):
        made = prepared(look(make(tmp_path / f"{i}.csv", text)), tmp_path / str(i))
        np.testing.assert_array_equal([*made.split("target", "test")][-1][:, 0], np.array(great, np.float32))


@pytest.mark.parametrize(
    ("thousands", "decimal", "cell", "value"),
    [
        (".", ",", "1.501,5", 1501.5), (".", ",", "1501,5", 1501.5), (".", ",", "-1.501.250", -1501250.0),
        (",", ".", "1,501.5", 1501.5), (" ", ",", "12 501,25", 12501.25), (".", ",", "501", 501.0),
        (".", ",", "1501.5", None), (".", ",", "1.5", None), (",", ".", "1,5", None), (",", ".", "1501,250", None),
        (".", ",", "1,501.5", None), (" ", ",", "1 5", None), (".", ",", "12.50.123", None),
    ],
)  # fmt: skip
def test_what_parts_thousands_stands_between_groups_of_three(
    thousands: str, decimal: str, cell: str, value: float | None, tmp_path: Path
) -> None:
    """1501.5 in a German table is a thousand and a half, or a mistake: it is not 15015."""
    dialect = Dialect(delimiter=";", decimal=decimal, thousands=thousands, encoding="utf-8")
    if value is None:
        with pytest.raises(UserError, match=r"row 7, column v: .* is not a number"):
            dialect.number(cell, tmp_path / "v.csv", 7, "v")
    else:
        assert dialect.number(cell, tmp_path / "v.csv", 7, "v") == value


def test_an_empty_cell_and_a_gap_are_carried_and_said(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [*ROWS[:50], (DAYS[50], ""), *ROWS[51:80], *ROWS[82:]]
    found = look(make(tmp_path / "sales.csv", csv(rows)))
    assert found.tree["prepare"]["carried"] == 2
    assert (found.card.facts["missing values"], found.card.facts["steps carried over gaps"]) == (1, 3)
    assert found.card.facts["of them held out, and left out of the scores"] == 2
    assert any(line.startswith("2 held-out steps are missing") for line in found.card.warnings)
    made = prepared(found, tmp_path)
    assert made.meta.removed == {
        "sales.csv: steps carried over a gap": 3,
        "sales.csv: held-out steps carried over a gap, and not scored": 2,
    }
    assert made.split("target", "test").lengths.max() == 120


def test_uneven_steps_are_taken_from_row_to_row(tmp_path: Path) -> None:
    at = np.cumsum(RNG.integers(1, 40, 120))
    rows = [(str(datetime.datetime(2023, 1, 1) + datetime.timedelta(minutes=int(m))), v)
            for m, v in zip(at, VALUES, strict=True)]  # fmt: skip
    found = look(make(tmp_path / "sales.csv", csv(rows)))
    assert found.tree["prepare"]["steps"] == "rows"
    assert "too uneven" in next(one.reason for one in found.choices if one.key == "prepare.steps")
    np.testing.assert_array_equal([*prepared(found, tmp_path).split("target", "test")][-1][:, 0], expected())


def test_constant_and_two_step_series_are_left_out_by_name(tmp_path: Path) -> None:
    rows = [(day, f"s{i}", value + i) for i in range(3) for day, value in ROWS]
    rows += [(day, "flat", 5.0) for day in DAYS] + [(day, "short", 1.0 + i) for i, day in enumerate(DAYS[:2])]
    found = look(make(tmp_path / "sales.csv", csv(rows, "day,shop,sales")))
    assert found.card.facts["constant series"] == found.card.facts["too short series"] == 1
    assert any("'flat'" in warning for warning in found.card.warnings)
    assert any("'short'" in warning for warning in found.card.warnings)
    made = prepared(found, tmp_path)
    assert len(made.split("target", "train")) == 3
    assert made.meta.removed == {"sales.csv: constant": 1, "sales.csv: shorter than min_length": 1}


def test_huge_integers_are_taken_by_their_logarithm(tmp_path: Path) -> None:
    rows = [(day, 10**18 + int(10**16 * value)) for day, value in ROWS]
    found = look(make(tmp_path / "sales.csv", csv(rows)))
    assert found.tree["prepare"]["transform"] == "log1p"
    assert len(prepared(found, tmp_path).split("target", "train")) == 1


def test_a_stray_carriage_return_ends_no_line(tmp_path: Path) -> None:
    texts = [f"sentence {word} of a text" for word in "abcdefghijklmnopqrstuvwxyz"]
    texts[3] = texts[3].replace(" of", "\rof")
    found = look(make(tmp_path / "notes.txt", "\n".join(texts)))
    assert found.card.facts["texts"] == 26


# One line that names file, row and column, and what to do

LONG = "x" * 10**7
TEXTS = [f"{word} good film number {i}" for i, word in enumerate("the a of sea king war light dark".split() * 4)]  # noqa: SIM905
WRONG: dict[str, tuple[str, bytes | str, Hints, str]] = {
    "an empty file": ("a.csv", b"", Hints(), r"a\.csv: the file is empty"),
    "a header alone": ("a.csv", "day,sales\n", Hints(), r"a\.csv, row 1: the only row.*rows below"),
    "one row": ("a.csv", csv(ROWS[:1]), Hints(), r"a\.csv: no series is long enough: the longest has 1 even steps"),
    "no header": ("a.csv", csv(ROWS[1:], f"{DAYS[0]},{VALUES[0]}"), Hints(), r"a\.csv, row 1: .*looks like data"),
    "a name twice": ("a.csv", csv(ROWS, "day,day"), Hints(), r"a\.csv, row 1: 2 columns 'day'"),
    "text in numbers": (
        "a.csv", csv([*ROWS[:60], (DAYS[60], "many"), *ROWS[61:]]), Hints(),
        r"a\.csv, row 62, column sales: 'many' is not a number; leave the cell empty",
    ),
    "an infinity": (
        "a.csv", csv([*ROWS[:60], (DAYS[60], "inf"), *ROWS[61:]]), Hints(),
        r"a\.csv, row 62, column sales: 'inf' is not finite; leave the cell empty",
    ),
    "a row of another width": (
        "a.csv", csv([*ROWS[:60], (DAYS[60], 1, 2), *ROWS[61:]]), Hints(), r"a\.csv, row 62: 3 cells, expected 2",
    ),
    "an open quote": ("a.csv", csv([*ROWS[:60], (DAYS[60], '"1')]), Hints(), r"a\.csv, row \d+: not CSV"),
    "one time with two values": (
        "a.csv", csv([*ROWS, (DAYS[7], 99)]), Hints(time="day"),
        r"a\.csv, row 122, column day: '2023-01-08' stands in row 9 too, with another value.*--id names too few",
    ),
    "a damaged letter": (
        "a.txt", "\n".join([*(f"{t} 한국어" for t in TEXTS[:9])]).encode() + b"\nx\xff\n", Hints(),
        r"a\.txt, line 10, byte 2: 0xff is not UTF-8",
    ),
    "a binary file": ("a.csv", b"PK\x03\x04\0\0", Hints(), r"a\.csv, byte 5: a zero byte; expected text"),
    "no Parquet": ("a.parquet", b"day,sales\n", Hints(), r"a\.parquet: not a readable Parquet file"),
    "no JSON": ("a.jsonl", '{"text": "one"}\n{"text": \n', Hints(), r"a\.jsonl, line 2: not JSON"),
    "a sheet": ("a.xlsx", b"PK", Hints(), r"a\.xlsx: \.xlsx is not read; save the sheet as CSV"),
    "a line of ten million characters": (
        "a.txt", LONG, Hints(), r"a\.txt: 1 different texts, the longest of 10000000 bytes.*put one text on each line",
    ),
    "a line beyond all bounds": ("a.txt", LONG + LONG, Hints(), r"a\.txt, line 1: longer than 16777216 bytes"),
    "one class": (
        "a.csv", csv([(text, "good") for text in TEXTS], "text,label"), Hints(label="label"),
        r"a\.csv: every label is 'good'; expected at least two classes",
    ),
    "a class that is only held out": (
        "a.csv", csv([(t, "rare" if i == 8 else "ab"[i % 2]) for i, t in enumerate(TEXTS)], "text,label"),
        Hints(label="label"), r"a\.csv: label 'rare' has 1 example\(s\), all of them held out",
    ),
    "too few texts": ("a.txt", "one\ntwo\n", Hints(), r"a\.txt: 2 different texts.*at least 20 are needed.*give more"),
    "day or month": (
        "a.csv", csv([(f"{i + 1:02d}/02/2020", v) for i, v in enumerate(VALUES[:12])]), Hints(time="day"),
        r"a\.csv, row 2, column day: '01/02/2020' may have its day or its month first; expected dates such as",
    ),
    "day or month, unasked": (
        "a.csv", csv([(f"{i + 1:02d}/02/2020 12:00 AM", v) for i, v in enumerate(VALUES[:12])], "t,x"), Hints(),
        r"a\.csv, row 2, column t: '01/02/2020 12:00 AM' may have its day or its month first; expected dates such as",
    ),
    "a row of the sum": (
        "a.csv", csv([*ROWS, ("Total", 12345)], "fecha,v"), Hints(),
        r"a\.csv, row 122, column fecha: 'Total' is no time; expected such as",
    ),
    "a month among days": (
        "a.csv", csv([*ROWS[:60], ("2023-03", 1), *ROWS[61:]], "fecha,v"), Hints(),
        r"a\.csv, row 62, column fecha: '2023-03' is a month, and '2023-01-01' a moment",
    ),
    "years of two digits": (
        "a.csv", csv([(f"{day[5:7]}/{day[8:]}/{day[2:4]}", v) for day, v in ROWS], "fecha,v"), Hints(),
        r"a\.csv, row 2, column fecha: '01/01/23' is no time; .*--time_format %m/%d/%y",
    ),
    "months with years of two digits": (
        "a.csv", csv([(f"{m}-{y}", 10 * y + i) for y in range(10, 20) for i, m in enumerate(("Jan", "May", "Sep"))]),
        Hints(), r"a\.csv, row 2, column day: 'Jan-10' is no time; .*--time_format",
    ),
    "weeks as words": (
        "a.csv", csv([(f"week no. {i}", v) for i, v in enumerate(VALUES)]), Hints(),
        r"a\.csv, row 2, column day: 'week no\. 0' is no time; .*--time_format",
    ),
    "clock times alone": (
        "a.csv", csv([(f"{i // 60:02d}:{i % 60:02d}", v) for i, v in enumerate(VALUES)], "at,v"), Hints(),
        r"a\.csv, row 2, column at: '00:00' is no time",
    ),
    "dashes for what is missing": (
        "a.csv", csv([(day, v if i % 3 else "-") for i, (day, v) in enumerate(ROWS)]), Hints(),
        r"a\.csv, row 2, column sales: '-' is not a number, and 80 other cells are; leave the cell empty where",
    ),
    "dashes in one of two columns": (
        "a.csv", csv([(day, v, v if i % 3 else "-") for i, (day, v) in enumerate(ROWS)], "day,sales,cost"), Hints(),
        r"a\.csv, row 2, column cost: '-' is not a number",
    ),
    "words for what is missing": (
        "a.csv", csv([(day, v if i % 3 else "closed") for i, (day, v) in enumerate(ROWS)]), Hints(),
        r"a\.csv, row 2, column sales: 'closed' is not a number, and 80 other cells are",
    ),
    "dollars": (
        "a.csv", csv([(day, f'"${1000 * v:,.2f}"') for day, v in ROWS]), Hints(),
        r"a\.csv, row 2, column sales: '\$.*' is a number with its unit; write it without",
    ),
    "percents beside numbers": (
        "a.csv", csv([(day, v, f"{v}%") for day, v in ROWS], "day,sales,share"), Hints(),
        r"a\.csv, row 2, column share: '.*%' is a number with its unit; write it without",
    ),
    "objects of JSON": (
        "a.jsonl", "".join(f'{{"day": "{day}", "v": {{"x": {v}}}}}\n' for day, v in ROWS), Hints(),
        r"""a\.jsonl: no column of numbers and none of texts: day has '2023-01-01', v has "{'x': .*\(--value, or""",
    ),
    "a row after blank lines and a cell of two lines": (
        "a.csv", csv(ROWS[:9], "fecha,v") + '\n\n"2023-01-10\n",1\n' + csv(ROWS[10:], "Total,1"), Hints(),
        r"a\.csv, row 15, column fecha: 'Total' is no time",
    ),
    "years and months": (
        "a.csv", csv([(2005 + i // 12, i % 12 + 1, v) for i, v in enumerate(VALUES)], "Year,Month,sales"), Hints(),
        r"a\.csv, row 2: Year and Month tell the time together, '2005' and '1'; make one column of times",
    ),
    "months by name, years and days": (
        "a.csv", csv([(d[8:], ("Jan", "Feb", "Mar", "Apr")[int(d[6]) - 1], d[:4], v) for d, v in ROWS],
        "day,month,year,v"), Hints(), r"a\.csv, row 2: day and month and year tell the time together",
    ),
    "dates and hours, of a shop": (
        "a.csv", csv([(f"{i % 2}", DAYS[i // 24], i // 2 % 12, v) for i, v in enumerate(VALUES)], "shop,date,hour,v"),
        Hints(id=("shop",)), r"a\.csv, row 2: date and hour tell the time together",
    ),
    "a series without a name": (
        "a.csv", csv([(shop, day, v) for shop in ("a", "", "b") for day, v in ROWS], "shop,day,sales"), Hints(),
        r"a\.csv, row 122, column shop: an empty cell, in 120 row\(s\).*fill it in, or leave these rows out",
    ),
    "two series without a name": (
        "a.csv", csv([(shop, day, v) for shop in ("a", "", "") for day, v in ROWS], "shop,day,sales"),
        Hints(id=("shop",)),
        r"a\.csv, row 122, column shop: an empty cell, in 240 row\(s\)",
    ),
    "series half without a name": (
        "a.csv", csv([(*shop, day, v) for shop in (("a", "b"), ("a", " ")) for day, v in ROWS], "land,shop,day,sales"),
        Hints(id=("land", "shop")), r"a\.csv, row 122, column shop: an empty cell, in 120 row\(s\)",
    ),
    "sequences without a name": (
        "a.csv", csv([("" if i == 3 else i, t, t * i % 5, "xy"[i % 2]) for i in range(20) for t in range(9)],
        "id,t,v,label"), Hints(), r"a\.csv, row 29, column id: an empty cell, in 9 row\(s\)",
    ),
    "no texts": ("a.csv", csv(ROWS), Hints(kind="text"), r"a\.csv: no text: .*day, sales; name it \(--text.*--kind"),
    "texts with values": (
        "a.csv", csv([(text, i) for i, text in enumerate(TEXTS)], "text,sales"), Hints(kind="text", value=("sales",)),
        r"a\.csv: no text: .*without what goes with other kinds",
    ),
    "no pairs": ("a.csv", csv(ROWS), Hints(kind="pairs"), r"a\.csv: no pairs: .*\(--text and --target\)"),
    "no pairs, in no table": ("a.txt", "\n".join(TEXTS), Hints(kind="pairs"), r"a\.txt: read as text, not pairs"),
    "no films": ("a.csv", csv(ROWS), Hints(kind="films"), r"a\.csv: a file, and no folder of films; leave out --kind"),
    "no sequences": ("a.csv", csv(ROWS), Hints(kind="sequences"), r"a\.csv: no column tells one .* name it \(--id\)"),
    "a column that is none": (
        "a.csv", csv(ROWS), Hints(value=("sale",)), r"a\.csv: no column 'sale'; the header has day, sales",
    ),
    "a period that is too long": ("a.csv", csv(ROWS), Hints(period=400), r"period: found 400, but \d+ steps are left"),
    "pairs without a partner": (
        "a.tsv", "\n".join([*(f"It is a door number {c}.\t여기에 문 {c} 있다." for c in "abcdefghij" * 6), "alone"]),
        Hints(), r"a\.tsv, line 61: 1 columns parted by tabs, expected two",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(tmp_path: Path, name: str) -> None:
    file, content, hints, message = WRONG[name]
    with pytest.raises(UserError, match=message) as error:
        look(make(tmp_path / file, content), hints)
    assert "\n" not in str(error.value)


def folder_of_tables(tmp_path: Path) -> Proposal:
    make(tmp_path / "own/a.csv", csv(ROWS))
    make(tmp_path / "own/b.csv", csv(ROWS))
    return look(tmp_path / "own")


def empty_folder(tmp_path: Path) -> Proposal:
    (tmp_path / "own").mkdir()
    return look(tmp_path / "own")


def unequal_files(tmp_path: Path) -> Proposal:
    make(tmp_path / "en.txt", "one\ntwo\nthree\n")
    make(tmp_path / "ko.txt", "하나\n둘\n")
    return look(tmp_path / "en.txt", Hints(target=str(tmp_path / "ko.txt")))


def mixed_rates(tmp_path: Path) -> Proposal:
    from test_intake_look import write_wav

    for i in range(9):
        write_wav(tmp_path / f"own/a/{i}.wav", RNG.standard_normal(4000), 16000 if i == 4 else 8000)
    return look(tmp_path / "own")


def folder_of_one_kind(tmp_path: Path) -> Proposal:
    from test_intake_look import write_wav

    for i in range(9):
        write_wav(tmp_path / f"own/a/{i}.wav", RNG.standard_normal(4000))
    return look(tmp_path / "own", Hints(kind="text"))


PLACES: dict[str, tuple[Callable[[Path], Proposal], str]] = {
    "a folder in place of a file": (folder_of_tables, r"own: a folder of 2 files, of which none is a text"),
    "an empty folder": (empty_folder, "own: a folder without a file"),
    "nothing there": (lambda path: look(path / "own.csv"), r"own\.csv: no such file or folder"),
    "files of unequal length": (unequal_files, r"en\.txt has 3 lines, ko\.txt has 2; .*line 3 has no partner"),
    "recordings of two rates": (mixed_rates, r"4\.wav: 16000 Hz, 1 channel\(s\), 16 bits; expected 8000 Hz.*ffmpeg"),
    "a folder of another kind": (folder_of_one_kind, "own: a folder without a file that may be one of text; leave out"),
    "a name that is none": (lambda path: look(trusted(path), Hints(name="a b")), "name: found 'a b'"),
    "a kind that is none": (lambda path: look(trusted(path), Hints(kind="song")), "kind: found 'song'"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_what_is_in_the_wrong_place_is_one_line(tmp_path: Path, name: str) -> None:
    make_it, message = PLACES[name]
    with pytest.raises(UserError, match=message) as error:
        make_it(tmp_path)
    assert "\n" not in str(error.value)


def test_what_may_not_be_read_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is not shown, alone or below another, is not taken for an empty one."""
    make(tmp_path / "own/deep/a.csv", csv(ROWS))
    scandir = os.scandir

    def shut(path: str) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", shut)
    with pytest.raises(UserError, match="own/deep: the folder cannot be read: Permission denied"):
        look(tmp_path / "own")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for path in (tmp_path / "own", tmp_path / "own/deep/a.csv"):
        with pytest.raises(UserError, match=f"{path}: no permission to read it"):
            look(path)
