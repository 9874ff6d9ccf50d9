"""Covariates of one's own series, from the look at a file to forecasts: what they are worth, and that nothing leaks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from seqlab import api, config
from seqlab.cli.predict import Asked, answer
from seqlab.cli.verbs import unfit
from seqlab.config import Domain
from seqlab.data.beside import FOLDER, Accompanied, Beside
from seqlab.data.prepared import Prepared
from seqlab.errors import UserError
from seqlab.evaluation import leaderboard
from seqlab.evaluation.leaderboard import Entry
from seqlab.evaluation.scores import Scores
from seqlab.families import bundle, loading
from seqlab.families.base import Use
from seqlab.intake import Hints, look
from seqlab.settings import Strategy
from seqlab.stages.evaluate import evaluate
from seqlab.stages.finetune import finetune
from seqlab.stages.prepare import prepare
from seqlab.training.resume import Checkpoint

ROOT = Path(__file__).resolve().parent.parent
HINTS = Hints(value=("sales",), known=("price", "holiday"), past=("temperature",), static=("region",))
DAYS = 120
pytestmark = pytest.mark.slow


def shops(days: int = DAYS, count: int = 8, seed: int = 0) -> pd.DataFrame:
    """Sales that price and holiday make, and noise; temperature says nothing."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(count):
        price, holiday = rng.choice([1.0, 2.0, 3.0], days), (rng.random(days) < 0.15).astype(float)
        parts.append(
            pd.DataFrame(
                {
                    "day": pd.date_range("2024-01-01", periods=days).strftime("%Y-%m-%d"),
                    "shop": f"s{i}",
                    "region": "north" if i % 2 else "south",
                    "price": price,
                    "holiday": holiday,
                    "temperature": rng.normal(15, 5, days).round(2),
                    "sales": (50 + 10 * i + 25 * holiday - 8 * price + rng.normal(0, 1.5, days)).round(3),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def written(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "shops.csv"
    frame.to_csv(path, index=False)
    return path


def domain_of(path: Path, hints: Hints = HINTS) -> Domain:
    return config.domain("shops", look(path, hints).tree)


def prepared(path: Path, folder: Path, domain: Domain) -> Prepared:
    prepare(domain.prepare, {"panels": path.parent}, folder)
    return Prepared.open(folder)


def trained(domain: Domain, data: Path, name: str, out: Path) -> tuple[Path, Scores]:
    """A family's model of a domain, and its scores."""
    tree = yaml.safe_load((ROOT / "conf/family" / f"{name}.yaml").read_text())
    if name == "gbdt":
        tree |= {"windows": [13], "trees": 100, "leaf_rows": 20}
    family, trainer = config.family(name, tree), settings()
    budgets = config.budgets(domain)
    finetune(
        data,
        out / name,
        domain="shops",
        family=family,
        budgets={task: budgets[task] for task in config.tasks_of(domain, family)},
        strategy=Strategy(init="scratch", learning_rate_factor=1.0),
        start=None,
        teacher=None,
        fraction=1.0,
        steps=1.0,
        positions=None,
        seed=0,
        trainer=trainer,
        checkpoint=Checkpoint(out / "checkpoints", float("inf")),
        bound=config.bound(domain, family),
    )
    evaluate(
        data,
        out / name,
        out / "scores" / name,
        out / "shown" / name,
        domain="shops",
        family=name,
        tasks=config.judged_of(domain, family),
        settings=domain.evaluate,
        order="kept",
        examples=None,
        seed=0,
        trainer=trainer,
    )
    from seqlab.evaluation import scores

    return out / name, scores.read(out / "scores" / name)


@cache
def settings() -> Any:
    tree = config.read_params(ROOT / "params.yaml")["trainer"]
    return config.trainer(tree).settings


class Lab:
    """One panel, prepared with its covariates and without, and trees of both."""

    def __init__(self, folder: Path):
        (folder / "raw").mkdir()
        self.folder, self.path = folder, written(shops(), folder / "raw")
        self.domain = domain_of(self.path)
        self.data = prepared(self.path, folder / "along", self.domain)
        self.plain = domain_of(self.path, Hints(value=("sales",), id=("shop",)))
        target = {key: self.plain.prepare.parameters["target"][key] for key in ("file", "time", "value", "key")}
        bare = replace(
            self.plain.prepare,
            target="seqlab.data.domains.series.Series",
            parameters=self.plain.prepare.parameters | {"target": target},
        )
        finetuned = {"next_step": self.plain.finetune["next_step"]}
        self.plain = replace(self.plain, prepare=bare, finetune=finetuned)
        prepared(self.path, folder / "plain", self.plain)
        self.model, self.scores = trained(self.domain, folder / "along", "gbdt", folder / "with")
        _, self.plain_scores = trained(self.plain, folder / "plain", "gbdt", folder / "without")

    @property
    def answering(self) -> api.Model:
        bundle.write(self.model, self.data, trainer=asdict(settings()), decoding=None, samples=9)
        return api.load(self.model)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("covariates")
    yield Lab(folder)
    shutil.rmtree(folder)


# ------------------------------------------------------------------------------------------------ what they are worth


def test_trees_with_covariates_are_significantly_ahead_of_trees_without(lab: Lab) -> None:
    metric = lab.domain.evaluate.headline["forecast"]
    entries = [
        Entry("shops", name, "scratch", 0, scores)
        for name, scores in (("with", lab.scores), ("without", lab.plain_scores))
    ]
    best, other = (row for row in leaderboard.build(entries, 500, seed=0) if row.table == ("shops", "forecast", metric))
    assert (best.family, other.family) == ("with", "without")
    assert best.value < 0.5 * other.value
    assert other.p_holm is not None
    assert other.p_holm < 0.05


def test_a_regression_on_known_covariates_is_ahead_as_well(lab: Lab) -> None:
    name = lab.domain.evaluate.headline["forecast"]
    _, scores = trained(lab.domain, lab.folder / "along", "arima", lab.folder / "with")
    assert scores.ratios["forecast", name].numerator.mean() < 0.5 * (
        lab.plain_scores.ratios["forecast", name].numerator.mean()
    )


def test_both_are_judged_on_the_same_examples_and_kept_under_the_table(lab: Lab) -> None:
    assert lab.scores.ratios.keys() == lab.plain_scores.ratios.keys()
    for key, ratio in lab.scores.ratios.items():
        np.testing.assert_array_equal(ratio.example, lab.plain_scores.ratios[key].example)
    assert (lab.folder / "with/scores/gbdt/forecast/test.safetensors").exists()
    assert [path.name for path in (lab.folder / "with/shown/gbdt").iterdir()] == ["forecast"]


def test_the_values_are_those_of_a_domain_without(lab: Lab) -> None:
    """To the bit, and nothing else lies among them."""
    for file in sorted((lab.folder / "plain").rglob("*.npy")):
        twin = lab.folder / "along" / file.relative_to(lab.folder / "plain")
        assert file.read_bytes() == twin.read_bytes()
    assert {path.name for path in (lab.folder / "along").iterdir()} == {"meta.json", "target", FOLDER}


def test_who_uses_what_is_said(lab: Lab) -> None:
    families = {
        name: config.family(name, yaml.safe_load((ROOT / "conf/family" / f"{name}.yaml").read_text()))
        for name in ("gbdt", "arima", "theta", "gru")
    }
    unused = {name: config.unused_covariates(lab.domain, family) for name, family in families.items()}
    everything = ["known", "past", "static"]
    assert unused == {"gbdt": [], "arima": ["past", "static"], "theta": everything, "gru": everything}
    assert config.tasks_of(lab.domain, families["gbdt"]) == ["covariates"]
    assert config.tasks_of(lab.domain, families["theta"]) == ["forecast"]
    assert config.tasks_of(lab.plain, families["gbdt"]) == ["forecast"]
    assert config.answering([lab.domain])["forecast"] == "covariates"
    assert config.answering([lab.plain])["forecast"] == "forecast"


# ----------------------------------------------------------------------------------------------------- no leaks


def test_past_covariates_of_the_future_change_no_forecast(lab: Lab) -> None:
    model = loading.load(lab.model / "covariates", Use(settings()))
    stretches = lab.domain.prepare.parameters["stretches"]
    test = Accompanied.open(lab.data, "test").subset(stretches * np.arange(1, 4) - 1)  # the last of three series
    batch, seen = test.batch(np.arange(3)), DAYS - 30
    prefix, mask = batch.x[:, :seen], batch.mask[:, :seen]

    def forecast(beside: Beside) -> np.ndarray:
        return np.asarray(model.forecast_along(prefix, mask, beside, 10, 5, 0))

    place = np.tile(np.arange(DAYS), 3)[:, None]
    plain = forecast(test.beside)
    later = replace(test.beside, past=np.where(place >= seen, 1e6, test.beside.past))
    np.testing.assert_array_equal(forecast(later), plain)
    beyond = replace(test.beside, known=np.where(place >= seen + 10, 1e6, test.beside.known))
    np.testing.assert_array_equal(forecast(beyond), plain)
    told = replace(test.beside, known=np.where(place >= seen, [3.0, 0.0], test.beside.known))
    assert np.abs(forecast(told) - plain).max() > 0.5


def test_covariates_stand_at_their_own_times_across_gaps_and_cuts(tmp_path: Path) -> None:
    """A missing row, a missing value and a cut: the covariate is the number of the day, so that a shift would show."""
    frame = shops(count=2)
    frame["price"] = np.tile(np.arange(DAYS, dtype=float), 2)
    frame.loc[40, "sales"] = np.nan  # carried: its covariates are there
    frame = frame.drop(index=[DAYS + 50])  # carried: the row is missing, and so are its covariates
    frame.loc[70, "price"] = np.nan
    path = written(frame, tmp_path)
    proposal = look(path, HINTS)
    domain = config.domain("shops", proposal.tree)
    longest = 100
    parameters = domain.prepare.parameters | {"longest": longest, "carried": 1}
    found = prepared(path, tmp_path / "out", replace(domain, prepare=replace(domain.prepare, parameters=parameters)))
    stretches = parameters["stretches"]
    every = Accompanied.open(found, "test")
    assert len(every) == 2 * stretches > 2
    for k in range(len(every)):  # each stretch knows what the last one does of the same steps
        own, whole = (
            every.subset(np.array([k])).beside,
            every.subset(np.array([k // stretches * stretches + stretches - 1])).beside,
        )
        np.testing.assert_array_equal(own.known, whole.known[: len(own.known)])
        np.testing.assert_array_equal(own.past, whole.past[: len(own.past)])
    test = every.subset(stretches * np.arange(1, 3) - 1)
    days = np.arange(DAYS - longest, DAYS, dtype=float)
    first, second = test.beside.known[:longest, 0], test.beside.known[longest:, 0]
    np.testing.assert_array_equal(first, np.where(days == 70, np.nan, days))
    np.testing.assert_array_equal(second, np.where(days == 50, np.nan, days))
    train = Accompanied.open(found, "train")
    np.testing.assert_array_equal(train.beside.known[: train.lengths[0], 0], first[: train.lengths[0]])
    assert found.meta.removed["shops.csv: missing values of the covariate price, left missing"] == 2
    assert found.meta.removed["shops.csv: steps carried over a gap"] == 2
    np.testing.assert_array_equal(test.beside.static, [[1.0], [0.0]])  # south, north


# ------------------------------------------------------------------------------------------------- new data


def answered(frame: pd.DataFrame, lab: Lab, unused: Sequence[str] = ()) -> pd.DataFrame:
    """Ten steps after what a file of these rows has."""
    path = lab.folder / "new.csv"
    frame.to_csv(path, index=False)
    asked = Asked("shops", path, None, None, 10, (0.1, 0.5, 0.9), None)
    found = answer(lab.answering, "forecast", asked, lab.domain.prepare.parameters, lab.folder / "raw", unused)
    assert isinstance(found, pd.DataFrame)
    return found


def future(steps: int) -> pd.DataFrame:
    """The panel, its last `steps` without what is measured."""
    frame = shops()
    last = frame.groupby("shop").cumcount() >= DAYS - steps
    frame.loc[last, ["sales", "temperature"]] = np.nan
    return frame


def test_forecasts_of_new_rows_follow_their_known_covariates(lab: Lab) -> None:
    found = answered(future(10), lab)
    truth = shops()[shops().groupby("shop").cumcount() >= DAYS - 10]
    assert found.id.tolist() == truth.shop.tolist()
    assert found.time.dt.strftime("%Y-%m-%d").tolist() == truth.day.tolist()
    error = np.abs(found["0.5"].to_numpy() - truth.sales.to_numpy()).mean()
    assert error < 4  # the sales of a shop deviate by 10
    mixed = answered(future(10).sample(frac=1, random_state=0), lab).sort_values(["id", "time"], ignore_index=True)
    pd.testing.assert_frame_equal(mixed[["id", "time"]], found[["id", "time"]])


def changed(**how: Any) -> pd.DataFrame:
    frame = future(10)
    for column, (row, value) in how.items():
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
    return frame


WRONG: dict[str, tuple[Any, str]] = {
    "too few rows ahead": (lambda: future(4), "price is missing in step 5 to forecast"),
    "a hole in the future": (lambda: changed(price=(DAYS - 3, np.nan)), "price is missing in step 8 to forecast"),
    "no number": (lambda: changed(price=(5, "dear")), "row 7, column price: 'dear' is not a number"),
    "no column": (lambda: future(10).drop(columns="holiday"), "no column 'holiday'"),
    "unseen word": (lambda: future(10).replace({"region": {"north": "east"}}), "'east' was not seen"),
    "two regions": (lambda: changed(region=(3, "north")), "expected one value a sequence"),
    "a jump ahead": (
        lambda: future(12).drop(index=[DAYS - 12 + DAYS * i for i in range(8)]),
        "price is missing in step 1 to forecast",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_new_rows_is_one_line(lab: Lab, name: str) -> None:
    make, message = WRONG[name]

    with pytest.raises(UserError, match=message) as raised:
        answered(make(), lab)
    assert "\n" not in str(raised.value)


def test_a_hole_in_the_past_begins_the_series_anew(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(changed(sales=(5, np.nan)), lab)
    assert found["time"].tolist() == answered(future(10), lab)["time"].tolist()
    assert "steps before a gap that is too long to carry values over, left out: 5 (s0: 5)\n" in capsys.readouterr().err


def test_a_covariate_that_the_model_does_not_use_may_be_lacking(lab: Lab) -> None:
    whole = future(10)
    found = answered(whole.drop(columns="temperature"), lab, ["temperature"])
    assert found[["id", "time"]].equals(answered(whole, lab)[["id", "time"]])
    # A static one may be empty where nothing is known yet.
    whole.loc[whole["sales"].isna(), "region"] = np.nan
    assert answered(whole, lab)["mean"].tolist() == answered(future(10), lab)["mean"].tolist()


@pytest.mark.slow
def test_a_registered_system_takes_covariates_in_a_request(lab: Lab, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    from seqlab.serving import registry

    frame = future(10)
    expected = lab.answering.forecast(frame.drop(columns="day"), 10, levels=[0.5], id="shop")
    registry.save(lab.model, "forecast", tmp_path / "served")
    served = mlflow.pyfunc.load_model(str(tmp_path / "served"))
    assert len(served.predict(served.input_example)) == registry.STEPS
    requests = []
    for name, part in frame.groupby("shop", sort=False):
        past = part["sales"].notna()
        ahead = {column: part[column].tolist() for column in ("price", "holiday")}
        measured = {"values": part["sales"][past].tolist(), "temperature": part["temperature"][past].tolist()}
        requests.append({"id": name, **measured, **ahead, "region": part["region"].iloc[0]})
    found = served.predict(pd.DataFrame(requests), params={"steps": 10, "levels": [0.5]})
    pd.testing.assert_frame_equal(found[["id", "mean", "0.5"]], expected[["id", "mean", "0.5"]])
    requests[1]["price"] = requests[1]["price"][:-1]
    with pytest.raises(UserError, match=r"row 2, price: .* expected"):
        served.predict(pd.DataFrame(requests), params={"steps": 10})
    with pytest.raises(UserError, match="no column 'temperature'"):
        served.predict(pd.DataFrame(requests).drop(columns="temperature"), params={"steps": 10})


def test_values_without_their_covariates_are_refused(lab: Lab) -> None:
    with pytest.raises(UserError, match="forecasts with price, holiday, temperature, region"):
        lab.answering.forecast([1.0, 2.0, 3.0], 2)


# ---------------------------------------------------------------------------------------------- a look at a file


def test_a_column_that_is_constant_within_each_series_is_static(tmp_path: Path) -> None:
    path = written(shops(60), tmp_path)
    found = look(path, Hints(value=("sales",)))
    assert found.tree["prepare"]["target"]["static"] == ["region"]
    [choice] = [choice for choice in found.choices if choice.key == "prepare.target.static"]
    assert "one value throughout each series" in choice.reason
    assert any("--known" in warning for warning in found.card.warnings)
    assert "static" not in look(written(shops(60, 1), tmp_path), Hints(value=("sales",))).tree["prepare"]["target"]


LOOKED: dict[str, tuple[Hints, str]] = {
    "unknown column": (Hints(known=("prise",)), "no column 'prise'"),
    "words": (Hints(value=("sales",), known=("region",)), "known: column 'region' is not of numbers: 'south'"),
    "two roles": (Hints(value=("sales",), known=("price",), past=("price",)), "'price' is named in two roles"),
    "changes": (Hints(value=("sales",), static=("price",)), "row 3, column price"),
}


@pytest.mark.parametrize("name", LOOKED)
def test_what_is_wrong_with_named_columns_is_one_line(tmp_path: Path, name: str) -> None:
    hints, message = LOOKED[name]
    with pytest.raises(UserError, match=message):
        look(written(shops(60), tmp_path), hints)


def test_what_is_no_series_has_no_covariates(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(f"a line of words {i}" for i in range(60)))
    with pytest.raises(UserError, match="text, which have no covariates"):
        look(path, Hints(known=("price",)))


def test_the_verdict_names_the_families_that_do_without(lab: Lab) -> None:
    tree = config.read_params(ROOT / "params.yaml")
    names = ("gbdt", "arima", "theta", "tfidf")
    families = {
        name: config.family(name, yaml.safe_load((ROOT / "conf/family" / f"{name}.yaml").read_text())) for name in names
    }
    whole = config.experiment(tree)
    found = unfit(replace(whole, families=families, domains={"shops": lab.domain, "series": whole.domains["series"]}))
    assert [name for name, _ in found["shops"]] == [
        "tfidf",
        "past and static covariates in arima",
        "known and past and static covariates in theta",
    ]
    assert [name for name, _ in found["series"]] == ["tfidf"]
