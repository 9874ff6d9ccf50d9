"""MLflow's pages in a browser: model training, families in columns, the verdict, a picture, charts of families.

    SEQLAB_PICTURES=docs/pictures pytest tests/test_ui.py -k "sqlite and pages"

does the same with the committed leaderboard, and keeps pictures of the pages.
Chromium and its driver are Debian's packages chromium and chromium-driver; PostgreSQL is the package postgresql.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium
from test_comparison import CELLS, COSTS, HEADLINES

from seqlab.errors import UserError
from seqlab.evaluation import leaderboard, pictures
from seqlab.evaluation.leaderboard import Row
from seqlab.tracking import Run, System, Tracking, comparison, journal, names, spool, ui
from seqlab.tracking.comparison import Leaderboard
from seqlab.tracking.ui import Pages

pytest.importorskip("mlflow")
pytest.importorskip("selenium.webdriver")
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

pytestmark = pytest.mark.slow

ROOT = Path(".seqlab/tracking")
SECONDS = 60  # for a page, on a busy machine
REPORTS = Path(__file__).parents[1] / "reports"
PICTURES = os.environ.get("SEQLAB_PICTURES")


def committed() -> tuple[list[Row], comparison.Headlines]:
    """The rows of the committed leaderboard, and its headline metrics, those of the next step first."""
    rows = leaderboard.read_csv(REPORTS / "leaderboard.csv")
    tables = sorted(
        (path.stem.split("-", 2) for path in (REPORTS / "metrics").glob("*.json")), key=lambda t: t[1][::-1]
    )
    headlines: dict[str, dict[str, str]] = {}
    for domain, task, metric in tables:
        headlines.setdefault(domain, {})[task] = metric
    return rows, headlines


ROWS, HEADLINE = committed() if PICTURES else (leaderboard.build(CELLS, 100, seed=0), HEADLINES)
TABLE = next(iter(HEADLINE["series"].items()))
RANKED = [row for row in ROWS if row.table == ("series", *TABLE)]
SYSTEMS = [System("", "series", row.family, row.strategy, row.control).name for row in RANKED]  # the best first
VERDICT = f"{RANKED[0].system} is best of {len(SYSTEMS)} systems by {TABLE[1]}."
BEST = names.score(*TABLE)
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
LARGEST_PICTURE = 150_000  # bytes
# Both stores are searched, for the newest comparison and for the systems; what is drawn of an answer is the same.
SQLITE = pytest.mark.parametrize("pages", ["sqlite"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL of our own, by Unix socket alone, run by an unprivileged user: it refuses root."""
    if not POSTGRES:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    pytest.importorskip("psycopg2")
    (programs,) = POSTGRES
    # Not below pytest's own folder, which other users may not enter.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="seqlab-pg-") as folder:
        user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(folder, user)

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / program), *arguments]
            other = {"user": user} if os.geteuid() == 0 else {}
            subprocess.run(command, check=True, capture_output=True, cwd=folder, env={"LC_ALL": "C.UTF-8"}, **other)

        run("initdb", "-D", "data", "-U", "seqlab", "--auth=trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-D", "data", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            run("createdb", "-h", folder, "-U", "seqlab", "runs")
            yield f"postgresql+psycopg2://seqlab@/runs?host={folder}"
        finally:
            run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def pages(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> Iterator[Pages]:
    """The pages of a store with stages and two comparisons; what they say before there are any, and after the end."""
    from seqlab.tracking import upload

    folder = tmp_path_factory.mktemp(request.param)
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = "sqlite:///mlflow.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(journal, "ensure_uploader", lambda *_: None)
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        with ui.serve(uri, folder, port=0) as served:
            opens_the_experiments(served)
            fill(uri)
            upload.Uploader(folder / ROOT).deliver_all()
            assert spool.kept(ROOT) == []
            yield served
    with socket.socket() as tried:  # it ended with the block
        assert tried.connect_ex(("127.0.0.1", port_of(served))) != 0


def opens_the_experiments(empty: Pages) -> None:
    """Where nothing was compared yet."""
    assert empty.newest("seqlab") == f"{empty.address}/#/experiments?workflowType=machine_learning"
    with pytest.raises(UserError, match="seqlab/series: no such experiment"):
        empty.systems("seqlab", "series", "default")


def port_of(pages: Pages) -> int:
    return int(pages.address.rpartition(":")[2])


def fill(uri: str) -> None:
    settings = Tracking(uri=uri, prefix="seqlab", system_interval=60.0, results=[])
    for seed in (0, 1, 2):
        system = System("default", "series", "rnn", "full")
        name = f"rnn·full·s{seed} finetune"
        with Run(ROOT, settings, experiment="series", name=name, tags={"seed": seed}, params={}, system=system) as run:
            for step in range(5):
                run.metrics({"train/loss": 1 / (step + 1)}, step=step)
    made = Leaderboard(
        suite="default",
        rows=ROWS,
        headlines=HEADLINE,
        costs=leaderboard.read_costs(REPORTS / "cost.csv") if PICTURES else COSTS,
        deviations=comparison.deviations(CELLS, HEADLINES),
        verdicts={"series": VERDICT},
        rerun=lambda system: f"dvc repro {system.family}",
    )
    pictures.leaderboard(RANKED, Path("pictures/series.png"))
    for name in ("older", "newer"):
        with Run(
            ROOT, settings, experiment="leaderboard", name=f"compare {name}", tags={}, params={}, kind="comparison"
        ) as run:
            comparison.record(run, made)
            run.artifact(Path("pictures"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile"), "--window-size=1500,950") as driver:
        yield driver


def text_of(browser: Any) -> str:
    return str(browser.find_element(By.TAG_NAME, "body").text)


def wait(browser: Any, seen: Callable[[Any], Any], what: str) -> Any:
    """What `seen` finds, once it finds anything; a page that is being drawn anew is looked at again."""
    try:
        return WebDriverWait(browser, SECONDS, ignored_exceptions=[WebDriverException]).until(seen)
    except WebDriverException:
        raise AssertionError(f"{what}: not on the page:\n{text_of(browser)}") from None


def opened(browser: Any, address: str, *texts: str) -> None:
    """Open a page and wait for texts on it."""
    browser.get(address)
    for text in texts:
        wait(browser, lambda driver, text=text: text in text_of(driver), repr(text))


def kept(browser: Any, name: str) -> None:
    """Keep a picture of the page where the environment asks for it, without the assistant that opens by itself."""
    if PICTURES is None:
        return
    for button in browser.find_elements(By.CSS_SELECTOR, '[aria-label="Close"], [data-testid*="assistant"] button'):
        if button.location["x"] > 1000 and button.location["y"] < 100:
            button.click()
    time.sleep(3)  # what moves comes to rest
    path = Path(__file__).parents[1] / PICTURES / f"mlflow-{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(path))
    assert path.stat().st_size < LARGEST_PICTURE, path


def test_pages_open_on_the_newest_comparison_and_its_verdict(pages: Pages, browser: Any) -> None:
    opened(browser, pages.newest("seqlab"), "compare newer", VERDICT, f"series/{BEST}")
    assert "Judges" not in text_of(browser), "GenAI's pages"
    kept(browser, "comparison")


@SQLITE
def test_pages_show_the_picture_of_a_leaderboard(pages: Pages, browser: Any) -> None:
    address = pages.newest("seqlab").replace("?", "/artifacts/pictures/series.png?")
    opened(browser, address, "series.png")
    width = "return Math.max(0, ...[...document.querySelectorAll('img')].map(one => one.naturalWidth))"
    wait(browser, lambda driver: driver.execute_script(width) > 300, "the picture")
    kept(browser, "picture")


def test_pages_have_families_beside_controls_in_a_table(pages: Pages, browser: Any) -> None:
    opened(browser, pages.systems("seqlab", "series", "default"), VERDICT, *SYSTEMS[:3])
    headers = wait(
        browser,
        lambda driver: [one.text for one in driver.find_elements(By.CSS_SELECTOR, ".ag-header-cell") if one.text],
        "columns",
    )
    assert {"family", "strategy", "control", BEST} <= set(headers)
    shown = [one.text for one in browser.find_elements(By.CSS_SELECTOR, ".ag-pinned-left-cols-container .ag-row")]
    order = [next((line for line in text.splitlines() if line in SYSTEMS), text) for text in shown]
    # After them come the controls of other tasks; before them, and among them, no stage.
    assert order[: len(SYSTEMS)] == SYSTEMS[: len(order)]
    assert "finetune" not in text_of(browser)
    kept(browser, "families")


@SQLITE
def test_pages_compare_families_in_charts(pages: Pages, browser: Any) -> None:
    opened(browser, pages.systems("seqlab", "series", "default", charts=True), "Families", "Add chart")
    bars = "return document.querySelector('.js-plotly-plot').querySelectorAll('.bars .point').length"
    wait(browser, lambda driver: driver.execute_script(bars) == len(SYSTEMS), "a bar of every system")
    assert all(name in text_of(browser) for name in SYSTEMS[:3])
    titles = text_of(browser)
    assert "cost/seconds" in titles
    assert "interval/" not in titles
    kept(browser, "charts")


@SQLITE
def test_an_experiment_that_a_reader_finds_by_itself_links_to_the_table_and_the_charts(
    pages: Pages, browser: Any
) -> None:
    address = pages.systems("seqlab", "series", "default").partition("?")[0]
    opened(browser, f"{address}?workflowType=machine_learning", VERDICT)
    browser.find_element(By.XPATH, "//*[contains(text(), 'Views')]").click()
    wait(browser, lambda driver: "Families (default)" in text_of(driver), "the view among the views")


@SQLITE
def test_a_port_that_is_taken_is_named(pages: Pages, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Address already in use; choose another one"):
        ui.serve("sqlite:///mlflow.db", tmp_path, port=port_of(pages))


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mlflow ui: no answer at http://127\.0\.0\.1:\d+: .+"):
        ui.serve("nonsense://somewhere", tmp_path, port=0)


def test_a_store_that_is_a_server_shows_its_own_pages(tmp_path: Path) -> None:
    with ui.serve("http://127.0.0.1:1/", tmp_path, port=0) as served:
        assert served.address == "http://127.0.0.1:1"
