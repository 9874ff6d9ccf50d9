"""The report as one page: what it says, what it needs (nothing), and how it serves eyes, keyboards and screen readers.

SEQLAB_PICTURES=FOLDER keeps pictures of it at both widths, light and dark.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import chromium
from test_comparison import CELLS, COSTS

from seqlab.artifacts import write_json
from seqlab.errors import UserError
from seqlab.evaluation import leaderboard, pictures
from seqlab.evaluation.metrics import CLASSIFY, FORECAST
from seqlab.evaluation.settings import Comparing, Evaluation
from seqlab.page import content
from seqlab.page.content import Origin
from seqlab.stages.compare import Comparison, draw
from seqlab.stages.report import Behind, report

HEADLINES = {"series": {FORECAST: "mase@4", CLASSIFY: "accuracy"}}
ROWS = leaderboard.build(CELLS, 100, seed=0)
VERDICTS = {"series": {FORECAST: "Best is rnn <by far> & alone.", CLASSIFY: "Nothing can be told apart."}}
WRITTEN = '<!doctype html><html lang="en"><title>x</title><p id="inside">Explained "here".</p></html>'
ORIGINS = {
    "series": {"rnn/full": Origin([("evaluate", "0123abcd")], ["seqlab run evaluate series/rnn/full/0"], ["same bits"])}
}

HEADER = "domain,task,family,strategy,metric,value\n"
OLD = (
    HEADER
    + "series,forecast,rnn,full,mase@4,0.9\nseries,forecast,ar,full,mase@4,1.3\nseries,forecast,ets,full,mase@4,2\n"
)
NEW = HEADER + "series,forecast,rnn,full,mase@4,0.8\nseries,forecast,ar,full,mase@4,1.3\n"
NEW += "series,forecast,last_value,control,mase@4,1.5\nseries,forecast,rnn,full,mase@8,7\n"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two tables, with pictures of each, of a cell's answers, and a text that a cell wrote."""
    folder = tmp_path_factory.mktemp("page")
    reports, cell = folder / "reports", folder / "pictures/series/ar/full/0"
    reports.mkdir(parents=True)
    (cell / "explanations").mkdir(parents=True)
    leaderboard.write_csv(ROWS, reports / "leaderboard.csv")
    leaderboard.write_costs(
        COSTS | {("series", FORECAST, "ar", "full"): next(iter(COSTS.values())),
                 ("series", FORECAST, "rnn", "full"): next(iter(COSTS.values()))},
        reports / "cost.csv",
    )  # fmt: skip
    write_json(reports / "verdicts.json", VERDICTS)
    for task, metric in HEADLINES["series"].items():
        table = [row for row in ROWS if row.table == ("series", task, metric)]
        pictures.leaderboard(table, reports / f"pictures/series-{task}.png")
    shutil.copy(reports / f"pictures/series-{FORECAST}.png", reports / "pictures/critical_difference.png")
    labels = np.arange(12) % 3
    pictures.confusion(labels, labels, 3, "ar", cell / "confusion.png")
    (cell / f"explanations/{CLASSIFY}.html").write_text(WRITTEN, encoding="utf-8")
    about = {"suite": "default", "commit": "abc"}
    behind = Behind(origins=ORIGINS, about=about, before=OLD, named="the committed report")
    report(reports, folder / "pictures", HEADLINES, behind, "seqlab: suite default")
    return reports / "index.html"


@pytest.mark.slow
def test_a_page_needs_nothing_but_itself_and_says_what_is_behind_its_numbers(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href|url)\s*[=(]\s*"?(?!#|data:)[^" >]+', text) == []
    assert "Best is rnn &lt;by far&gt; &amp; alone." in text
    assert "0123abcd" in text
    assert "seqlab run evaluate series/rnn/full/0" in text
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) == 5  # two leaderboards, one against cost, confusion, one across tasks
    assert all(re.search(r' alt="[^"]{20,}"', image) for image in images)
    assert "Against the committed report: " in text


def test_a_missing_file_of_the_comparison_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"leaderboard\.csv: missing"):
        report(tmp_path, tmp_path, HEADLINES, Behind(), "page")
    leaderboard.write_csv(ROWS, tmp_path / "leaderboard.csv")
    with pytest.raises(UserError, match=r"verdicts\.json: missing"):
        report(tmp_path, tmp_path, HEADLINES, Behind(), "page")
    (tmp_path / "leaderboard.csv").write_text("domain,task\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"leaderboard\.csv: its columns are not those of this version"):
        report(tmp_path, tmp_path, HEADLINES, Behind(), "page")


def test_what_changed_counts_values_that_differ_joined_and_left() -> None:
    found = content.changed(OLD, NEW, "an earlier one", HEADLINES)
    assert found.said == "Against an earlier one: 1 of 2 headline values differ, 1 joined, 1 left."
    assert found.table is not None
    told = [[value.text for value in line.values] for line in found.table.lines]
    assert told == [
        ["rnn · full", "0.9", "0.8", "+0.1"],  # lower is better, so it is better by that much
        ["last value", "–", "1.5", "–"],
        ["ets · full", "2", "–", "–"],
    ]
    assert content.changed(OLD, OLD, "itself", HEADLINES).table is None
    assert content.changed(None, NEW, "", HEADLINES).said.startswith("There is no earlier report")


def test_pictures_are_of_the_tables_that_somebody_was_scored_on(tmp_path: Path) -> None:
    tables = {FORECAST: "mase@4", "label": "f1"}  # nothing here was labelled
    comparison = Comparison(
        cells=[],
        domains={"series": Evaluation(tables)},
        judges={},
        judged={"series": []},
        strategies={},
        replicates=1,
        comparing=Comparing("markov", 5),
    )
    draw(comparison, ROWS, [], [], [], "markov · scratch", tmp_path / "pictures")
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == [f"series-{FORECAST}.png"]


def test_an_interval_without_ends_is_called_one_of_too_few() -> None:
    assert content.number(0.5, -float("inf"), float("inf")).bounds == "[too few]"
    assert content.number(12345.678, 12000.0, 13000.0).text == "12,350.0"
    assert content.number(float("nan")).sort is None


# In a browser

pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

PICTURES = os.environ.get("SEQLAB_PICTURES")
# The contrast of the Web Content Accessibility Guidelines 2.2, 1.4.3, of every element with words of its own.
CONTRAST = """
const level = (c) => { const [r, g, b] = c.map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const parts = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (e) => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
  if (c.length === 3 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
const own = [...document.querySelectorAll("body *")].filter((e) => !["SCRIPT", "STYLE"].includes(e.tagName)
  && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
return [own.length, own.map((e) => {
  const [a, b] = [level(parts(getComputedStyle(e).color).slice(0, 3)), level(behind(e))];
  return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 80)]; }).filter(([r]) => r < 4.5)];
"""


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile"), "--hide-scrollbars") as driver:
        driver.get(page.as_uri())
        yield driver


def names(browser: Any, table: str) -> list[str]:
    rows = browser.find_elements(By.CSS_SELECTOR, f"{table} tbody th")
    return [str(row.get_attribute("data-sort")) for row in rows]


def appear(browser: Any, width: int, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.mark.slow
def test_tables_sort_by_keyboard_and_say_so(browser: Any) -> None:
    table = "#series-forecast > .scroll table"
    order = ["rnn · full", "seasonal naive", "ar · full"]
    assert names(browser, table) == order
    header = browser.find_elements(By.CSS_SELECTOR, f"{table} thead th")[1]
    assert header.get_attribute("aria-sort") == "ascending"
    button = header.find_element(By.TAG_NAME, "button")
    button.send_keys(Keys.ENTER)
    assert names(browser, table) == order[::-1]
    assert header.get_attribute("aria-sort") == "descending"
    assert "descending" in browser.find_element(By.ID, "said").get_attribute("textContent")
    seconds = browser.find_elements(By.CSS_SELECTOR, f"{table} thead th button")[6]
    for _ in range(2):  # a control has no seconds, and stands last both ways
        seconds.send_keys(Keys.SPACE)
        assert names(browser, table)[-1] == "seasonal naive"
    assert header.get_attribute("aria-sort") == "none"
    name = browser.find_element(By.CSS_SELECTOR, f"{table} thead th button")
    name.send_keys(Keys.ENTER)
    assert names(browser, table) == sorted(order)


@pytest.mark.slow
def test_no_request_leaves_the_page(browser: Any) -> None:
    script = "return performance.getEntriesByType('resource').map((one) => one.name.slice(0, 60))"
    assert [name for name in browser.execute_script(script) if not name.startswith("data:")] == []
    loaded = "return [...document.images].map((one) => one.complete && one.naturalWidth > 100)"
    assert browser.execute_script(loaded) == [True] * 5
    assert browser.get_log("browser") == []  # nothing that the page's own policy refused


@pytest.mark.slow
def test_headings_landmarks_and_names_for_screen_readers(browser: Any) -> None:
    levels = [int(one.tag_name[1]) for one in browser.find_elements(By.CSS_SELECTOR, "h1, h2, h3, h4, h5, h6")]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for landmark in ("header", "nav[aria-label]", "main", "footer"):
        assert len(browser.find_elements(By.CSS_SELECTOR, landmark)) == 1, landmark
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    unnamed = [
        one for one in browser.find_elements(By.CSS_SELECTOR, "section, [role=region]") if not named(browser, one)
    ]
    assert unnamed == []
    assert browser.execute_script(
        "return [...document.querySelectorAll('a')].every((one) => document.querySelector(one.getAttribute('href')))"
    )
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


def named(browser: Any, one: Any) -> bool:
    by = one.get_attribute("aria-labelledby")
    return bool(one.get_attribute("aria-label") or (by and browser.find_element(By.ID, by).text))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(380, "light"), (380, "dark"), (1600, "light"), (1600, "dark")])
def test_nothing_is_wider_than_the_page_or_too_faint(browser: Any, width: int, scheme: str) -> None:
    appear(browser, width, scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
    count, faint = browser.execute_script(CONTRAST)
    assert count > 50
    assert faint == []
    dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    if PICTURES:
        browser.save_screenshot(str(Path(PICTURES) / f"report-{width}-{scheme}.png"))


@pytest.mark.slow
def test_a_page_that_a_system_wrote_is_shown_within(browser: Any) -> None:
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    frame = browser.find_element(By.TAG_NAME, "iframe")
    assert frame.get_attribute("sandbox") == ""
    browser.switch_to.frame(frame)
    try:
        assert browser.find_element(By.ID, "inside").text == 'Explained "here".'
    finally:
        browser.switch_to.default_content()
