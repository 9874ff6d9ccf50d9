"""Translation by rule: the grammar's phenomena, Korean numbers and particles, induction of words, bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqlab.errors import UserError
from seqlab.families import rule_based, saved
from seqlab.families.rule_based import RuleBased
from seqlab.families.rules import induction
from seqlab.families.rules.analysis import parse
from seqlab.families.rules.conditions import Trace, rules
from seqlab.families.rules.generation import join, native, number_of, sino
from seqlab.families.rules.lexicon import Entry, Lexicon, read, written
from seqlab.families.rules.transfer import Transfer
from seqlab.families.saved import Recipe

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def family(**changed: Any) -> RuleBased:
    values = yaml.safe_load((ROOT / "conf/family/rule_based.yaml").read_text())
    values.pop("_target_")
    return RuleBased(**(values | changed))


# None of these is one of the everyday sentences, from which nothing here was written.
GRAMMAR = {
    "declarative": ("My sister reads a newspaper.", "내 여동생은 신문을 읽는다."),
    "negative": ("Tom does not drive a car.", "톰은 차를 운전하지 않는다."),
    "lexical negative": ("She doesn't know my name.", "그녀는 내 이름을 모른다."),
    "negative copula": ("This is not my bag.", "이것은 내 가방이 아니다."),
    "yes-no question": ("Does your father work at a hospital?", "네 아버지는 병원에서 일하니?"),
    "wh question": ("Where did you buy this book?", "너는 어디에서 이 책을 샀니?"),
    "who": ("Who broke the window?", "누가 창문을 깼니?"),
    "whose": ("Whose book is that?", "그것은 누구의 책이니?"),
    "how old": ("How old is your sister?", "네 여동생은 몇 살이니?"),
    "imperative": ("Close the door.", "문을 닫아라."),
    "prohibition": ("Don't touch that.", "그것을 만지지 마라."),
    "request": ("Please give me some water.", "나에게 물을 주세요."),
    "let's": ("Let's eat dinner together.", "저녁을 함께 먹자."),
    "adjective": ("I saw a small white dog.", "나는 작은 하얀 개를 봤다."),
    "relative subject": ("The boy who broke the window ran away.", "창문을 깬 소년은 도망갔다."),
    "relative object": ("The girl I met yesterday is very kind.", "내가 어제 만난 소녀는 매우 친절하다."),
    "possessive": ("Her brother's friend is a nurse.", "그녀의 동생의 친구는 간호사다."),
    "of": ("The name of the city is Seoul.", "도시의 이름은 서울이다."),
    "with a person": ("He went to school with his friend.", "그는 그의 친구와 학교에 갔다."),
    "with a thing": ("He cut the bread with a knife.", "그는 칼로 빵을 잘랐다."),
    "existence": ("There are five chairs in the room.", "방에 의자가 다섯 개 있다."),
    "future": ("I will travel with my family next year.", "나는 내년에 내 가족과 여행할 것이다."),
    "progressive": ("They were playing baseball in the park.", "그들은 공원에서 야구를 하고 있었다."),
    "posture": ("The man standing at the door is my uncle.", "문에 서 있는 남자는 내 삼촌이다."),
    "perfect": ("I have already eaten lunch.", "나는 이미 점심을 먹었다."),
    "experience": ("Have you ever seen a tiger?", "너는 호랑이를 본 적이 있니?"),
    "can": ("You can use this computer.", "너는 이 컴퓨터를 사용할 수 있다."),
    "cannot": ("She cannot come today.", "그녀는 오늘 올 수 없다."),
    "must": ("We must wash our hands.", "우리는 우리의 손을 씻어야 한다."),
    "must not": ("You must not open this box.", "너는 이 상자를 열면 안 된다."),
    "need not": ("We don't have to work on Sunday.", "우리는 일요일에 일할 필요가 없다."),
    "may": ("It might snow tonight.", "오늘 밤 눈이 올지도 모른다."),
    "want to": ("Do you want to play tennis?", "너는 테니스를 하고 싶니?"),
    "wants to": ("She doesn't want to sleep.", "그녀는 자고 싶어 하지 않는다."),
    "want someone to": ("I want you to come.", "나는 네가 오기를 원한다."),
    "passive": ("The cake was made by my aunt.", "케이크는 내 이모에 의해 만들어졌다."),
    "coordinated nouns": ("He speaks English and French.", "그는 영어와 프랑스어를 말한다."),
    "coordinated clauses": ("I ate three apples and drank two glasses of milk.",
                            "나는 사과 세 개를 먹고 우유 두 잔을 마셨다."),
    "when": ("When the bus arrives, we will leave.", "버스가 도착할 때 우리는 떠날 것이다."),
    "if": ("If you have time, please call me.", "시간이 있으면 나에게 전화해 주세요."),
    "because": ("Because the train was late, we took a taxi.", "기차가 늦었기 때문에 우리는 택시를 탔다."),
    "shared subject": ("She smiled because she was happy.", "그녀는 행복했기 때문에 웃었다."),
    "that": ("He said that he would come.", "그는 올 것이라고 말했다."),
    "indirect question": ("I do not know who he is.", "나는 그가 누군지 모른다."),
    "comparative": ("He runs faster than his friends.", "그는 그의 친구들보다 더 빨리 달린다."),
    "superlative": ("It is the oldest tree in the village.", "그것은 마을에서 가장 오래된 나무다."),
    "counter": ("We have two dogs.", "우리는 개가 두 마리 있다."),
    "clock": ("I usually get up at six thirty.", "나는 보통 여섯 시 삼십 분에 일어난다."),
    "age": ("He is twenty years old.", "그는 스무 살이다."),
    "duration": ("It takes two hours.", "두 시간이 걸린다."),
    "subject clause": ("It is easy to forget a name.", "이름을 잊는 것은 쉽다."),
    "purpose": ("He came here to help my mother.", "그는 내 어머니를 돕기 위해 여기에 왔다."),
}  # fmt: skip


@pytest.fixture(scope="module")
def translations() -> dict[str, str]:
    sentences = [english for english, _ in GRAMMAR.values()]
    return dict(zip(GRAMMAR, family().translate(sentences), strict=True))


@pytest.mark.parametrize("phenomenon", GRAMMAR)
def test_grammar(phenomenon: str, translations: dict[str, str]) -> None:
    assert translations[phenomenon] == GRAMMAR[phenomenon][1]


def test_the_first_everyday_sentence_and_its_steps() -> None:
    (steps,) = family().explain("I love this movie.")
    assert steps["surface"] == "나는 이 영화를 사랑한다."
    assert steps["tokens"] == ["I", "love", "this", "movie", "."]
    assert steps["analysis"][3] == "movie/NN dobj ← love"
    assert "movie → 영화" in steps["lexicon"]
    assert steps["order"] == [["나는", "이 영화를", "사랑한다"]]
    assert steps["morphemes"][-1] == "사랑하/VV + ᆫ다/EF"
    assert steps["unknown"] == {}


def test_the_polite_style() -> None:
    polite = family(style="polite")
    assert polite.translate(["She reads a book.", "Do you like fish?", "Open the window.", "Don't run."]) == [
        "그녀는 책을 읽습니다.", "물고기를 좋아합니까?", "창문을 여세요.", "달리지 마세요.",
    ]  # fmt: skip


# The polite register of software: labels, descriptions, nobody addressed.
POLITE = {
    "you": ("Take your bag.", "가방을 가져가세요."),
    "label": ("Open the window", "창문 열기"),
    "row of labels": ("Choose a color and draw a house", "색 고르기 및 집 그리기"),
    "noun with a full stop": ("The color of the window.", "창문의 색입니다."),
    "noun without": ("Milk and bread", "우유 및 빵"),
    "no subject": ("Explains the book.", "책을 설명합니다."),
    "whether to": ("Asks whether to open the door.", "문을 열지 여부를 묻습니다."),
    "whether alone": ("Whether the bus arrives.", "버스가 도착하는지 여부입니다."),
    "future": ("The bus will arrive tomorrow.", "버스가 내일 도착합니다."),
    "failed": ("The teacher failed to open the door.", "선생님이 문을 열지 못했습니다."),
    "could not": ("We could not open the door.", "우리는 문을 열 수 없습니다."),
    "may": ("She may come.", "그녀는 올 수 있습니다."),
    "name": ("He uses e-mail-2.", "그는 e-mail-2를 사용합니다."),
    "aside": ("The color (new) of the window.", "창문의 색입니다. (새)"),
    "aside in front": ("(New) Color of the house.", "(새) 집의 색입니다."),
    "clause on a noun": ("A new house when sleeping", "잘 때 새 집"),
}


@pytest.mark.parametrize("phenomenon", POLITE)
def test_the_polite_register(phenomenon: str) -> None:
    english, korean = POLITE[phenomenon]
    assert family(style="plain").in_register("polite").translate([english]) == [korean]


def test_in_register_leaves_the_original_as_it_was() -> None:
    plain = family()
    assert plain.in_register("polite").translate(["She reads."]) == ["그녀는 읽습니다."]
    assert plain.translate(["She reads."]) == ["그녀는 읽는다."]


def test_a_target_that_describes_its_commands_has_them_described() -> None:
    pairs = [("Open the door.", "문을 엽니다.")] * 6 + [("Open it.", "여세요.")]
    polite = family(style="polite")
    polite.habits = induction.habits(pairs, written())
    assert polite.habits == {"register": "polite", "commands": "described"}
    assert polite.translate(["Close the door."]) == ["문을 닫습니다."]
    assert induction.habits(pairs[:4], written())["commands"] == "polite"


def test_what_is_not_known_is_kept_and_counted() -> None:
    found = family()
    (text,) = found.translate(["My brother bought a flumph."])
    assert text == "내 동생은 flumph를 샀다."
    assert found.coverage.unknown == {"flumph": 1}
    assert found.coverage.share == pytest.approx(1 - 1 / found.coverage.words)


def test_the_lexicon_holds_every_word_of_the_everyday_set() -> None:
    """As the report says of its scores: they measure grammar. The phenomena tested above are not of the kept half."""
    lines = files("seqlab.data.domains").joinpath("everyday.jsonl").read_text(encoding="utf-8").splitlines()
    sources = [json.loads(line)["source"] for line in lines]
    found = family()
    found.translate(sources)
    assert found.coverage.unknown == {}
    assert not {english for english, _ in GRAMMAR.values()} & set(sources[1::2])


BAD = {
    "empty": "",
    "spaces": "  \t ",
    "control characters": "I love\x00 this\x07 movie.\x1b",
    "another script": "Я люблю этот фильм. 我爱这部电影。",
    "Korean": "나는 이 영화를 사랑한다.",
    "10,000 characters": "x" * 10_000,
    "2,000 words": "I love this movie and " * 400,
    "symbols": "@@ ## $$ %% ^^ && (( ))",
    "emoji": "I love 🐶 and 🐱!",
    "only a mark": "?",
    "nested": "(((I [love] {this} movie)))",
    "fragment": "of which the",
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_translated_somehow(kind: str) -> None:
    good = "나는 이 영화를 사랑한다."
    found = family().translate(["I love this movie.", BAD[kind], "I love this movie."])
    assert (found[0], found[2]) == (good, good)
    assert "\n" not in found[1]
    if kind == "control characters":
        assert found[1] == good


def test_a_text_of_two_sentences_gives_two() -> None:
    assert family().translate(["I love this movie. She reads a book."]) == [
        "나는 이 영화를 사랑한다. 그녀는 책을 읽는다."
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from([*sorted({lemma for lemma, _ in written()}), *".,?!'\"-", "the", "12", "is"]), max_size=14)
)
def test_any_words_in_any_order_are_translated(words: list[str]) -> None:
    (text,) = family().translate([" ".join(words).replace("_", " ")])
    assert isinstance(text, str)


def test_a_translation_does_not_depend_on_its_batch() -> None:
    sentences = [english for english, _ in GRAMMAR.values()][:12]
    together = family().translate(sentences)
    assert together == [family().translate([sentence])[0] for sentence in sentences]


# Lexicon, numbers, particles


def test_one_analysis_answers_all_that_is_asked_of_a_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, parsed = ["I love the zyx.", "She reads."], list[str]()
    monkeypatch.setattr(rule_based, "parse", lambda parts, words: (parsed.extend(parts), parse(parts, words))[1])
    made = family().translated(texts)
    assert made.unknown() == [(1, 3), (0, 2)]
    assert "She" in made.explained([1])
    assert "zyx" not in made.explained([1])
    assert parsed == texts
    assert made.translations == family().translate(texts)


def test_every_condition_and_template_of_the_rules_is_known() -> None:
    known = set(Transfer(Lexicon({}, {}), "plain", Trace()).tests)

    def conditions(value: Any) -> Iterator[dict[str, Any]]:
        for one in value if isinstance(value, list) else [value]:
            yield one
            for key in ("has", "lacks", "head"):
                if key in one:
                    yield from conditions(one[key])

    def parts(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            yield value
            for part in value.values():
                yield from parts(part)
        elif isinstance(value, list):
            for part in value:
                yield from parts(part)

    for section, content in rules().items():
        for part in parts(content):
            if section not in ("predicate", "connectives"):
                for key in ("if", "child", "object", "from"):
                    if isinstance(part.get(key), dict):
                        assert all(set(one) <= known for one in conditions(part[key])), part
            for template in (part.get("particle"), part.get("add")):
                for morpheme in (template or "").split():
                    form, slash, tag = morpheme.removeprefix("+").partition("/")
                    assert all((form, slash, tag.isupper())), template


def test_a_wrong_entry_is_named() -> None:
    with pytest.raises(UserError, match=r"^mine, line 2: expected lemma"):
        read("dog\tn\t개\ncat 고양이\n", "mine")
    with pytest.raises(UserError, match=r"^mine, line 2: 'dog' \(n\) stands there twice"):
        read("dog\tn\t개\ndog\tn\t강아지\n", "mine")


@given(st.integers(0, 10**8 - 1))
def test_sino_korean_numbers_are_read_back(value: int) -> None:
    digits = {name: i for i, name in enumerate("영일이삼사오육칠팔구")}
    total = part = digit = 0
    for letter in sino(value):
        if letter == "만":
            total, part, digit = (part + digit or 1) * 10_000, 0, 0
        elif letter in "십백천":
            part, digit = part + (digit or 1) * 10 ** (1 + "십백천".index(letter)), 0
        else:
            digit = digits[letter]
    assert total + part + digit == value


def test_numbers() -> None:
    assert [native(n) for n in (1, 3, 11, 20, 21, 40, 99, 100)] == [
        "한", "세", "열한", "스무", "스물한", "마흔", "아흔아홉", "백",
    ]  # fmt: skip
    assert number_of(["two", "hundred", "and", "forty-one"]) == 241
    assert number_of(["three", "thousand"]) == 3000
    assert number_of(["1,250"]) == 1250
    assert number_of(["dozen"]) is None


@pytest.mark.parametrize(
    ("word", "surface"),
    [
        ((("닫", "VV"), ("어", "EC")), "닫아"), ((("짓", "VV"), ("었", "EP"), ("다", "EF")), "지었다"),
        ((("듣", "VV"), ("어", "EC")), "들어"), ((("돕", "VV"), ("었", "EP"), ("다", "EF")), "도왔다"),
        ((("있", "VA"), ("니", "EF")), "있니"), ((("멀", "VA"), ("니", "EF")), "머니"),
        ((("나", "NP"), ("에게", "JKB")), "나에게"), ((("나", "NP"), ("가", "JKS")), "내가"),
        ((("email", "SL"), ("로", "JKB")), "email로"), ((("pattern", "SL"), ("를", "JKO")), "pattern을"),
        ((("서울", "NNP"), ("으로", "JKB")), "서울로"), ((("책", "NNG"), ("와", "JC")), "책과"),
    ],
)  # fmt: skip
def test_words_are_conjugated(word: tuple[tuple[str, str], ...], surface: str) -> None:
    assert join(word) == surface


# Induction


def loop_model_one(english: list[list[str]], korean: list[list[str]], iterations: int) -> dict[tuple[str, str], float]:
    """IBM Model 1 as Brown et al. write it, one link at a time; "" is the empty word."""
    table: dict[tuple[str, str], float] = {}
    counts: dict[tuple[str, str], float] = {}
    for step in range(iterations + 1):
        counts = {}
        for row, other in zip(english, korean, strict=True):
            for word in other:
                total = sum(table.get((e, word), 0.0) for e in ["", *row]) or 1.0
                for e in ["", *row]:
                    share = 1.0 if step == 0 else table[e, word] / total
                    counts[e, word] = counts.get((e, word), 0.0) + share
        sums: dict[str, float] = {}
        for (e, _), count in counts.items():
            sums[e] = sums.get(e, 0.0) + count
        table = {key: count / sums[key[0]] for key, count in counts.items()}
    return table


ENGLISH = [["red", "house"], ["house"], ["red", "book"], ["book", "book"], ["green", "house", "book"]]
KOREAN = [["빨갛다", "집"], ["집"], ["빨갛다", "책"], ["책"], ["초록", "집", "책"]]


def test_model_one_equals_a_loop() -> None:
    pairs = induction.Aligned(ENGLISH, KOREAN)
    found = induction.induce(pairs, {}, 0.0, 4, 0.0)
    expected = loop_model_one(ENGLISH, KOREAN, 4)
    for (lemma, word), probability in expected.items():
        if lemma:
            assert found[lemma][word] == pytest.approx(probability, abs=1e-6)
    assert {lemma: max(options, key=lambda word: options[word]) for lemma, options in found.items()} == {
        "red": "빨갛다", "house": "집", "book": "책", "green": "초록",
    }  # fmt: skip


def test_a_prior_counts_as_observations() -> None:
    pairs = induction.Aligned(ENGLISH, KOREAN)
    alone = induction.induce(pairs, {}, 0.0, 3, 0.0)
    helped = induction.induce(pairs, {"green": {"집": 1.0}, "sky": {"하늘": 1.0}}, 5.0, 3, 0.0)
    assert helped["green"]["집"] > alone["green"]["집"]
    assert helped["sky"] == {"하늘": 1.0}


def test_a_run_of_nouns_is_one_translation() -> None:
    rows = [
        ("The gadget is new.", "온도 조절기는 새것입니다."), ("Open the gadget.", "온도 조절기를 여세요."),
        ("A gadget", "온도 조절기"), ("Gadget and house", "온도 조절기와 집"), ("House", "집"),
    ] * 3  # fmt: skip
    pairs = induction.morphemes(rows)
    assert (["온도", "조절기", "열다"], [None, " ", None]) in zip(pairs.korean, pairs.gaps or [], strict=True)
    found = induction.induce(pairs, {}, 0.0, 5, 0.3)
    assert list(found["gadget"]) == ["온도 조절기"]
    assert list(found["house"]) == ["집"]


def test_a_term_of_the_target_replaces_words_that_it_does_not_use() -> None:
    table = {("field", "n"): Entry("n", ("들판",)), ("hour", "n"): Entry("n", ("시간",), {"unit": "시간"})}
    pairs = induction.Aligned([["field", "hour"]] * 6, [["필드", "때"]] * 6)
    induced = {"field": {"필드": 0.9}, "hour": {"때": 0.9}}
    assert induction.terms(pairs, table, induced) == {"field/n": "필드"}
    assert induction.terms(induction.Aligned(pairs.english[:4], pairs.korean[:4]), table, induced) == {}


def test_alternatives_follow_the_target() -> None:
    table = {("run", "v"): Entry("v", ("달리다", "실행하다")), ("dog", "n"): Entry("n", ("개",))}
    pairs = induction.Aligned([["run", "file"]] * 6, [["파일", "실행하다"]] * 5 + [["달리다"]])
    assert induction.adapt(pairs, table) == {"run/v": "실행하다"}
    assert induction.adapt(induction.Aligned(pairs.english[:4], pairs.korean[:4]), table) == {}


def test_what_is_learned_is_saved_and_used(tmp_path: Path) -> None:
    rows = [("Open the sprocket.", "스프로킷을 여세요."), ("The sprocket is new.", "스프로킷은 새것입니다."),
            ("A new sprocket", "새 스프로킷"), ("Run the program.", "프로그램을 실행하세요.")] * 6  # fmt: skip
    path = tmp_path / "prepared/pairs/train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"source": e, "references": [k], "group": e}) + "\n" for e, k in rows))
    source = family().fit(tmp_path / "prepared", None)
    assert source.translate(["I bought a sprocket."]) == ["나는 스프로킷을 샀다."]
    assert source.chosen == {}
    target = family().fit(tmp_path / "prepared", source)
    assert target.chosen["run/v"] == "실행하다"
    assert target.habits == {"register": "polite", "commands": "polite"}
    target.save(tmp_path / "model")
    loaded = family().load(tmp_path / "model")
    assert all(getattr(loaded, name) == getattr(target, name) for name in ("induced", "chosen", "habits"))
    assert loaded.in_register("polite").translate(["Run this sprocket."]) == ["이 스프로킷을 실행하세요."]
    assert loaded.in_register("plain").translate(["Run to this sprocket."]) == ["이 스프로킷에 달려라."]
    assert loaded.parameters == target.parameters > 0
    family().fit(tmp_path / "prepared", source).save(tmp_path / "again")
    assert (tmp_path / "again/lexicon.json").read_bytes() == (tmp_path / "model/lexicon.json").read_bytes()
    (tmp_path / "again/lexicon.json").write_text('{"induced": {}, "chosen": {}}')
    with pytest.raises(UserError, match=r"lexicon\.json: no 'habits', which a later version learns"):
        family().load(tmp_path / "again")


def test_missing_pairs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.jsonl: missing; run the prepare stage"):
        family().fit(tmp_path, None)


def test_importing_is_light() -> None:
    code = "import sys, seqlab.families.rule_based; print(sorted({'spacy', 'kiwipiepy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_shows_the_steps_and_keeps_the_other_lines(tmp_path: Path) -> None:
    parameters = {"style": "plain", "pairs": 10, "iterations": 1, "probability": 0.3, "prior_weight": 1.0}
    recipe = Recipe("seqlab.families.rule_based.RuleBased", parameters, "rules", "pairs", 400, None)
    saved.save(tmp_path / "translate", recipe, {}, {"lexicon.json": b'{"induced": {}, "chosen": {}, "habits": {}}'})
    script = str(ROOT / "pipelines/translate.py")
    command = [sys.executable, script, "family=rule_based", f"model={tmp_path}", "--explain"]
    text = b"I love this movie.\n\xff\nShe reads a book.\n"
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["seqlab: line 2: byte 1 is not UTF-8; left empty"]
    assert "surface: 나는 이 영화를 사랑한다." in lines
    assert "surface: 그녀는 책을 읽는다." in lines
    steps = ("tokens", "analysis", "lexicon", "order", "morphemes")
    assert all(any(line.startswith(f"{step}: ") for line in lines) for step in steps)
