"""The domain of translation: every reader, what cleaning removes, and that no test source is trained on."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqlab.data
from seqlab.data.domains.translation import SETS, Translation, clean, normalise
from seqlab.errors import UserError

PSEUDO = str.maketrans("aeiouycndbSBLAEIOUYCND", "æëïøµÿçñðþ§ß£ÆËÏØÜÝÇÑÐ")
NUMBERS = ["하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉", "열"]


@pytest.fixture(autouse=True)
def vocabulary(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int]]:
    """Stands in for the training of subwords, and remembers what it was asked for."""
    calls: list[tuple[Path, int]] = []
    module = ModuleType("seqlab.data.vocabulary")
    module.build = lambda folder, size: calls.append((folder, size))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "seqlab.data.vocabulary", module)
    monkeypatch.setattr(seqlab.data, "vocabulary", module, raising=False)
    return calls


def recipe(corpora: dict[str, Any], held_out: str | None = "other", **changed: Any) -> Translation:
    fields: dict[str, Any] = {
        "max_words": 20, "max_characters": 120, "max_ratio": 4.0, "sentence_words": 4, "valid": 0.2, "test": 0.2,
        "vocabulary_size": 500,
    }  # fmt: skip
    return Translation(corpora=corpora, held_out=held_out, **(fields | changed))


def lines(name: str) -> dict[str, str]:
    return {"format": "lines", "english": f"{name}_en", "korean": f"{name}_ko"}


def write_pairs(raw: Path, name: str, pairs: list[tuple[str, str]]) -> dict[str, Path]:
    """A user's own two files."""
    found = {}
    for side, texts in zip(("en", "ko"), zip(*pairs, strict=True), strict=True):
        path = raw / f"{name}_{side}" / "text.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        found[f"{name}_{side}"] = path.parent
    return found


def sentences(word: str, count: int) -> list[tuple[str, str]]:
    return [
        (f"The {word} number {chr(97 + i % 26)}{chr(97 + i // 26)} is here.", f"{word} {i} 번이 여기에 있습니다.")
        for i in range(count)
    ]


def prepared(tmp_path: Path, pairs: list[tuple[str, str]], other: list[tuple[str, str]], **changed: Any) -> Path:
    raw = write_pairs(tmp_path / "raw", "one", pairs) | write_pairs(tmp_path / "raw", "other", other)
    out = tmp_path / "out"
    out.mkdir()
    recipe({"one": lines("one"), "other": lines("other")}, **changed).prepare(raw, out)
    return out


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / f"pairs/{name}.jsonl").read_text().splitlines()]


def test_no_test_source_is_trained_on(tmp_path: Path) -> None:
    # Every source in three spellings, each with a translation of its own; some of them in the held-out source too.
    pairs = [
        (spelled, f"{korean} {i}")
        for english, korean in sentences("door", 200)
        for i, spelled in enumerate((english, english.upper(), english.replace(".", "!").replace("door", "door,")))
    ]
    everyday = [("I LOVE this movie", "나는 이 영화를 사랑한다."), ("We live in Seoul!", "서울에 살아요 우리는.")]
    out = prepared(tmp_path, pairs + everyday, sentences("door", 40) + sentences("window", 30))
    groups = {name: {row["group"] for row in rows(out, name)} for name in SETS}
    for row in (row for name in SETS for row in rows(out, name)):
        assert row["group"] == normalise(row["source"])
    for first in SETS:
        for second in SETS:
            assert first == second or not groups[first] & groups[second]
    assert all(len(groups[name]) > 10 for name in SETS)
    assert {row["origin"] for row in rows(out, "held_out")} == {"other"}
    assert {row["origin"] for row in rows(out, "train")} == {"one"}
    monolingual = (out / "monolingual/en.txt").read_text().splitlines()
    assert {normalise(line) for line in monolingual} == groups["train"]
    korean = set((out / "monolingual/ko.txt").read_text().splitlines())
    assert korean == {text for row in rows(out, "train") for text in row["references"]}
    assert all(len(row["references"]) == 3 for row in rows(out, "test"))


def test_a_changed_test_split_leaves_training_alone(tmp_path: Path) -> None:
    pairs = sentences("door", 200)
    first = prepared(tmp_path / "a", pairs, sentences("window", 10))
    tested = {row["source"] for row in rows(first, "test")}
    second = prepared(tmp_path / "b", [(e, "바뀐 문장이 여기에 있습니다." if e in tested else k) for e, k in pairs],
                      sentences("window", 10))  # fmt: skip
    for file in ("pairs/train.jsonl", "pairs/valid.jsonl", "monolingual/en.txt", "monolingual/ko.txt"):
        assert (first / file).read_bytes() == (second / file).read_bytes()
    assert (first / "pairs/test.jsonl").read_bytes() != (second / "pairs/test.jsonl").read_bytes()


def test_what_is_removed_is_counted(tmp_path: Path, vocabulary: list[tuple[Path, int]]) -> None:
    bad = [
        ("", "비어 있는 문장입니다."), ("An empty side.", ""), ("Same text here", "Same text here"),
        ("Open {0} now", "지금 {0} 열기"), ("See http://a.b", "http://a.b 참조"), ("Use %s here", "%s 사용"),
        ("Открой это окно", "창을 여세요"), ("Open this window", "打开窗口"), ("Open it", "開く"),
        ("!!!", "문장입니다"),
        ("word " * 21, "단어 " * 10), ("x" * 10_000, "긴 줄입니다"), ("A", "아주 길고 긴 번역문이 여기에 있습니다"),
        *2 * [("Twice the same pair here", "같은 쌍이 두 번 있습니다")],
        ("Control\x00 \x1bcharacters\x07 are spaces", "제어\x00문자는 공백입니다"),
    ]  # fmt: skip
    out = prepared(tmp_path, sentences("door", 60) + bad, [*sentences("window", 5), ("Too short", "너무 짧습니다")])
    meta = json.loads((out / "meta.json").read_text())
    assert meta["removed"] == {
        "one: an empty side": 2, "one: not translated": 1, "one: placeholder, markup or address": 3,
        "one: another script": 4, "one: too long": 2, "one: lengths differ too much": 1, "one: duplicate": 1,
        "other: too short": 1,
    }  # fmt: skip
    kept = sum(meta["counts"][name]["pairs"] for name in ("train", "valid", "test"))
    assert kept == 62
    assert meta["counts"]["everyday"] == {"pairs": 230, "everyday_open": 115, "everyday_kept": 115}
    assert (meta["kind"], meta["tasks"], meta["size"]) == ("pairs", ["translate"], 500)
    assert vocabulary == [(out, 500)]
    texts = [row["source"] for name in ("train", "valid", "test") for row in rows(out, name)]
    assert "Control characters are spaces" in texts


def test_every_format_is_read(tmp_path: Path) -> None:
    raw = {
        name: tmp_path / name for name in ("nested", "po", "pseudo_en", "pseudo_ko", "typescript", "en", "ko", "own")
    }
    english = [f"Read the file {chr(97 + i)} now." for i in range(10)]
    korean = [f"이제 {word} 번째 파일을 읽으십시오." for word in NUMBERS]
    for language, texts in (("en", english), ("ko", korean)):
        folder = raw["nested"] / "deep/translations"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{language}.json").write_text(json.dumps({"a": {"b": texts[0]}, "c": {"message": texts[1]}, "n": 1}))
    (raw["po"]).mkdir()
    (raw["po"] / "x.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
        f'msgid "{english[2]}"\nmsgstr "{korean[2]}"\n\n'
        '#, fuzzy\nmsgid "A fuzzy text is here."\nmsgstr "흐린 글입니다."\n'
    )
    for side, texts in (("pseudo_en", [t.translate(PSEUDO) for t in english]), ("pseudo_ko", korean)):
        folder = raw[side] / "translations/extensions"
        folder.mkdir(parents=True)
        entries = ",\n".join(["\tundefined", *(f"\t{json.dumps(text)}" for text in texts[3:5])])
        (folder.parent / "main.i18n.json.js").write_text(f"var content = [\n{entries}\n];\nexport {{ content }};\n")
        (folder / "x.i18n.json").write_text(json.dumps({"": ["Copyright"], "contents": {"bundle": {"k": texts[5]}}}))
    (raw["typescript"] / "lib/ko").mkdir(parents=True)
    (raw["typescript"] / "lib/_tsc.js").write_text(f'x: diag(1, 1 /* Error */, "K_1", "{english[6]}"),\n')
    (raw["typescript"] / "lib/ko/d.json").write_text(json.dumps({"K_1": korean[6], "K_2": "없는 열쇠"}))
    for language, code, texts in (("en", "en-US", english), ("ko", "ko", korean)):
        folder = raw[language] / code / "text"
        folder.mkdir(parents=True)
        body = f'<p id="a">{texts[7][:8]}<b>{texts[7][8:]}</b></p><p>no id</p><h1 id="h">{texts[8]}</h1>'
        (folder / "page.html").write_text(f"<html><body>{body}</body></html>")
    raw |= write_pairs(tmp_path, "own", list(zip(english[9:], korean[9:], strict=True)))
    corpora = {
        "json": {"format": "json", "english": "nested", "korean": "nested"},
        "gettext": {"format": "gettext", "english": "po", "korean": "po"},
        "pseudo": {"format": "pseudo_locale", "english": "pseudo_en", "korean": "pseudo_ko"},
        "typescript": {"format": "typescript", "english": "typescript", "korean": "typescript"},
        "html": {"format": "html", "english": "en", "korean": "ko"},
        "own": lines("own"),
    }
    removed: Counter[str] = Counter()
    groups = recipe(corpora, held_out="own")._groups(raw, removed)
    found = {group.source: group.references for group in groups.values()}
    assert found == {e: [k] for e, k in zip(english, korean, strict=True)}
    assert not removed


def test_unequal_line_counts_are_refused(tmp_path: Path) -> None:
    raw = write_pairs(tmp_path, "one", sentences("door", 9)) | write_pairs(tmp_path, "other", sentences("window", 9))
    (tmp_path / "one_ko/text.txt").write_text("한 줄\n")
    with pytest.raises(UserError, match=r"^one_en has 9 lines, one_ko has 1: expected as many$"):
        recipe({"one": lines("one"), "other": lines("other")}).prepare(raw, tmp_path / "out")


def test_a_stray_carriage_return_moves_no_pair(tmp_path: Path) -> None:
    pairs = sentences("door", 60)
    english, korean = (list(side) for side in zip(*pairs, strict=True))
    english[10], korean[40] = english[10].replace("number", "number\r"), korean[40].replace(" ", "\u2028", 1)
    raw = write_pairs(tmp_path, "one", pairs)
    (tmp_path / "one_en/text.txt").write_bytes("\r\n".join(english).encode())
    (tmp_path / "one_ko/text.txt").write_bytes("".join(f"{line}\n" for line in korean).encode())
    out = tmp_path / "out"
    out.mkdir()
    recipe({"one": lines("one")}, held_out=None).prepare(raw, out)
    found = {(row["source"], *row["references"]) for name in ("train", "valid", "test") for row in rows(out, name)}
    assert found == {tuple(clean(text) for text in pair) for pair in pairs}


@pytest.mark.parametrize(
    ("name", "columns"),
    [("t.tsv", None), ("t.tsv", ["en", "ko"]), ("t.csv", ["en", "ko"]), ("t.jsonl", ["en", "ko"])],
)
def test_a_table_of_pairs_needs_two_columns_and_no_more(tmp_path: Path, name: str, columns: list[str] | None) -> None:
    pairs = sentences("door", 60)
    (tmp_path / "own").mkdir()
    frame = pd.DataFrame(pairs, columns=["en", "ko"])
    if name.endswith("jsonl"):
        frame.to_json(tmp_path / "own" / name, orient="records", lines=True)
    else:
        separator = "\t" if name.endswith("tsv") else ","
        frame.to_csv(tmp_path / "own" / name, sep=separator, index=False, header=columns is not None)
    corpus = {"format": "table", "english": "own", "korean": "own"} | ({"columns": columns} if columns else {})
    out = tmp_path / "out"
    out.mkdir()
    recipe({"own": corpus}, held_out=None).prepare({"own": tmp_path / "own"}, out)
    found = {(row["source"], *row["references"]) for name in ("train", "valid", "test") for row in rows(out, name)}
    assert found == set(pairs)
    assert "held_out" not in json.loads((out / "meta.json").read_text())["counts"]
    assert not (out / "pairs/held_out.jsonl").exists()


def test_a_line_of_a_table_that_is_no_pair_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.tsv").write_text("one\t하나\ntwo\n")
    corpus = {"format": "table", "english": "own", "korean": "own"}
    with pytest.raises(UserError, match=r"own\.tsv, line 2: 1 columns parted by tabs, expected two"):
        recipe({"own": corpus}, held_out=None).prepare({"own": tmp_path / "own.tsv"}, tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("one_en/text.txt", b"good\n\xff\n", r"text.txt, line 2, byte 1: 0xff is not UTF-8"),
        ("one_en/more.txt", b"x\n", r"2 files, expected one"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    raw = write_pairs(tmp_path, "one", sentences("door", 2)) | write_pairs(tmp_path, "other", sentences("window", 2))
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        recipe({"one": lines("one"), "other": lines("other")}).prepare(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("corpora", "held_out", "message"),
    [
        ({"one": {"format": "json"}}, "one", r"corpora\.one\.english: expected exactly the keys"),
        ({"one": {**lines("one"), "format": "xml"}}, "one", r"corpora\.one\.format: found 'xml', expected one of"),
        ({"one": lines("two")}, "one", r"corpora\.one\.english: no archive 'two_en'; there are one_en, one_ko"),
        ({"one": lines("one")}, "none", r"held_out: no corpus 'none'; there are one"),
        ({"one": {**lines("one"), "format": "json"}}, "one", r"corpora\.one: no pair in one_en and one_ko"),
        ({"one": lines("one")}, "one", r"no pair is left for train"),
    ],
)
def test_a_wrong_configuration_is_named(
    tmp_path: Path, corpora: dict[str, dict[str, str]], held_out: str, message: str
) -> None:
    raw = write_pairs(tmp_path, "one", sentences("door", 5))
    with pytest.raises(UserError, match=message):
        recipe(corpora, held_out=held_out).prepare(raw, tmp_path / "out")


def test_two_versions_of_a_language_pack_are_refused(tmp_path: Path) -> None:
    for side, count in (("en", 2), ("ko", 3)):
        folder = tmp_path / side / "translations"
        folder.mkdir(parents=True)
        (folder / "main.i18n.json.js").write_text("var content = [\n" + ",\n".join(['"x"'] * count) + "\n];\n")
    corpus = {"format": "pseudo_locale", "english": "en", "korean": "ko"}
    with pytest.raises(UserError, match="2 English and 3 Korean entries: two different versions"):
        recipe({"v": corpus}, held_out="v").prepare({k: tmp_path / k for k in ("en", "ko")}, tmp_path / "out")


@given(st.text(max_size=60))
def test_cleaning_is_one_line_and_done_at_once(text: str) -> None:
    cleaned = clean(text)
    assert cleaned == " ".join(cleaned.split())
    assert cleaned.isprintable() or not cleaned
    assert normalise(cleaned) == normalise(normalise(cleaned))


def test_mnemonics_tags_and_links_are_no_text() -> None:
    assert clean("&&File") == clean("_File") == clean("~File") == "File"
    assert clean("파일(&&F)") == clean("파일(~F)") == "파일"
    assert clean("<b>Learn</b> [more](https://a.b)…") == "Learn more..."


def test_everyday_sentences_are_as_promised() -> None:
    path = Path(seqlab.data.__file__).parent / "domains/everyday.jsonl"
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(found) >= 200
    assert found[0]["source"] == "I love this movie."
    assert found[0]["references"][0] == "나는 이 영화를 사랑한다."
    assert all(len(set(row["references"])) >= 2 for row in found)
    assert len({normalise(row["source"]) for row in found}) == len(found)
    for row in found:
        assert all(clean(text) == text for text in (row["source"], *row["references"]))
