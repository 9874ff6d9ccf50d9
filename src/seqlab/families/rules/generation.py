"""Generation: Korean words from morphemes. Kiwi conjugates, contracts and chooses the form of particles."""

from __future__ import annotations

from functools import cache
from typing import Any

Morpheme = tuple[str, str]
Word = list[Morpheme]
Phrase = list[Word]

# Stems whose conjugation Kiwi takes for the other kind: -I irregular, -R regular.
STEMS = {(stem, "VV"): "VV-I" for stem in ("짓", "듣", "깨닫", "낫", "붓", "잇", "긋", "싣")} | {("닫", "VV"): "VV-R"}
# Particles before which 나 and 너 stay as they are (나에게, not 내게).
APART = (("에게", "JKB"), ("에게서", "JKB"))

NATIVE = ("", "하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉")
NATIVE_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
ATTRIBUTIVE = {"하나": "한", "둘": "두", "셋": "세", "넷": "네", "스물": "스무"}
SINO = ("", "일", "이", "삼", "사", "오", "육", "칠", "팔", "구")
ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
TEENS = "seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
ENGLISH = {word: value for value, word in enumerate([*ONES.split(), *TEENS.split()])}
ENGLISH |= {word: 10 * value for value, word in enumerate(TENS.split(), 2)}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6}


@cache
def _kiwi() -> Any:
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)


@cache
def join(word: tuple[Morpheme, ...]) -> str:
    """The surface of one word."""
    if len(word) > 1 and word[-1] in APART:
        return join(word[:-1]) + word[-1][0]
    if len(word) > 1 and word[0][1] == "SL" and word[1][1].startswith("J"):
        # A foreign word's last letter tells Kiwi nothing: a Korean syllable that ends alike stands in for the word.
        text = word[0][0]
        alike = "갈" if text[-1:] in "lL" else "간" if text[-1:] in "mnMN" or text.endswith("ng") else "가"
        return text + join(((alike, "NNG"), *word[1:]))[1:]
    made = str(_kiwi().join([(form, STEMS.get((form, tag), tag)) for form, tag in word])).replace(" ", "")
    # Written Korean leaves these two apart.
    made = made.replace("됐", "되었").replace("줬", "주었")
    # The ending -니 takes no 으 in today's language, which Kiwi puts before it: 있으니 would be a reason.
    return made.removesuffix("으니") + "니" if word[-1] == ("니", "EF") and made.endswith("으니") else made


def surface(phrase: Phrase) -> str:
    """The surface of words, with a space between them."""
    return " ".join(join(tuple(word)) for word in phrase if word)


def extend(phrase: Phrase, template: str | None) -> Phrase:
    """A new phrase with a template's morphemes behind it: `+` attaches, a space begins a word."""
    made = [list(word) for word in phrase]
    for part in (template or "").split():
        form, _, tag = part.removeprefix("+").rpartition("/")
        if part.startswith("+") and made:
            made[-1].append((form, tag))
        else:
            made.append([(form, tag)])
    return made


def number_of(words: list[str]) -> int | None:
    """The value of an English number in words or digits; None: it is no number."""
    total = 0
    for word in " ".join(words).lower().replace("-", " ").split():
        if word in ENGLISH:
            total += ENGLISH[word]
        elif word.replace(",", "").isdecimal():
            total += int(word.replace(",", ""))
        elif word in SCALES and SCALES[word] > total % SCALES[word]:
            total = max(total, 1) * SCALES[word]
        elif word != "and":
            return None
    return total


def sino(value: int) -> str:
    """A number below 10⁸ in Sino-Korean words."""
    if value == 0:
        return "영"
    if value >= 10**4:
        high, low = divmod(value, 10**4)
        return ("만" if high == 1 else sino(high) + "만") + (sino(low) if low else "")
    text = ""
    for size, name in ((1000, "천"), (100, "백"), (10, "십"), (1, "")):
        digit, value = divmod(value, size)
        if digit:
            text += ("" if digit == 1 and size > 1 else SINO[digit]) + name
    return text


def native(value: int) -> str:
    """A number in front of a counter: native Korean below 100 (한, 두, 스물한), Sino-Korean above."""
    if not 0 < value < 100:
        return sino(value)
    tens, ones = divmod(value, 10)
    if not ones:
        return ATTRIBUTIVE.get(NATIVE_TENS[tens], NATIVE_TENS[tens])
    return NATIVE_TENS[tens] + ATTRIBUTIVE.get(NATIVE[ones], NATIVE[ones])


def units(texts: list[str]) -> tuple[list[list[str]], list[list[str | None]]]:
    """Nouns with their affixes, and predicates in citation form (사용하다, 열다), of Korean sentences.

    And what stands before each since the one before: nothing, a space, or None for anything else.
    """
    found, gaps = [], []
    for tokens in _kiwi().tokenize(texts):
        row: list[str] = []
        before: list[str | None] = []
        end, prefix = -2, ""
        for token in tokens:
            gap = {0: "", 1: " "}.get(token.start - end)
            if token.tag == "XPN":
                prefix, start = token.form, gap
                end = token.start + token.len
                continue
            if token.tag in ("NNG", "NNP", "SL"):
                row.append(prefix + token.form)
                before.append(start if prefix else gap)
            elif token.tag == "XSN" and row and gap == "":
                row[-1] += token.form
            elif token.tag in ("XSV", "XSA") and row:
                row[-1] += token.form + "다"
            elif token.tag.startswith(("VV", "VA")):
                row.append(token.form + "다")
                before.append(None)
            else:
                prefix = ""
                continue
            end, prefix = token.start + token.len, ""
        found.append(row)
        gaps.append(before)
    return found, gaps
