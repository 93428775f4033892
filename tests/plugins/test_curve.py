"""Learning curves: the eleven families, what is extrapolated from them, and which trials end by it."""

import random
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import yaml

from automl import BadInput, Candidate, Cost, Evaluator, Limit, Objective, Report, Strategy, Study, Trial
from automl.executor import Simulated
from automl.journal import Journal
from automl.testing import NO_TASK, ToySpace, check_evaluator, check_strategy, story
from automl_evaluators import curve_model
from automl_evaluators.curve import Curve, Terminating
from automl_evaluators.curve_families import FAMILIES, Family, Parameter
from automl_evaluators.curve_model import Data, Prediction, Sampling, extrapolate, fitted, flat
from automl_evaluators.hyperband import Hyperband
from automl_strategies.evolution import Evolution
from automl_strategies.random import Random

CONF = Path(__file__).parents[2] / "conf" / "evaluator" / "curve.yaml"
ACCURACY = (Objective("accuracy"),)
SHORT = Sampling(samples=100, burn_in=50, thinning=5)
BRIEF = {"samples": 100, "burn_in": 50}
TABLE = {
    "vapor_pressure": (0.335519, 0.564631, 0.649321),
    "pow3": (0.320000, 0.331837, 0.343404),
    "log_log_linear": (0, 1.194706, 1.723689),
    "hill3": (0.286500, 0.536541, 0.693359),
    "log_power": (0.138208, 0.319148, 0.536004),
    "pow4": (0.211296, 0.332376, 0.428553),
    "mmf": (0.100000, 0.100006, 0.400000),
    "exp4": (0.498103, 0.608938, 0.681405),
    "janoschek": (0.267226, 0.492917, 0.695551),
    "weibull": (0.105970, 0.157098, 0.479272),
    "ilog2": (0.159641, 0.600676, 0.686828),
}
BY_NAME = {family.name: family for family in FAMILIES}


def of(name: str, length: int, noise: float = 0.0, seed: int = 0, spread: float = 0.0) -> list[float]:
    """Return a curve of a family, at or near its start values."""
    rng = np.random.default_rng(seed)
    family = BY_NAME[name]
    parameters = family.start * rng.uniform(1 - spread, 1 + spread, len(family.start))
    values = family.at(np.arange(1.0, length + 1), parameters[None])[0]
    return (values + noise * rng.standard_normal(length)).tolist()


@dataclass
class Rising(Evaluator):
    """Curves that rise towards what the first decision says, a tenth each, by the decisions and the seed alone."""

    length: int = 20
    noise: float = 0.0

    def steps(self):
        return self.length

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        values = trial.architecture.values
        drawn = random.Random(f"{trial.seed}")
        begun = 0 if trial.parent is None else round(trial.parent.fidelity * self.length)
        for step in range(begun + 1, round(trial.candidate.fidelity * self.length) + 1):
            accuracy = values["d0"] / 10 * (1 - 0.7 * step**-0.7) + self.noise * drawn.random()
            error = 1 - accuracy
            yield Report(
                {
                    "accuracy": accuracy,
                    "error": error,
                    "negated": -error,
                    "parameters": 1.0 + values.get("d1", 0),
                    "seconds": float(step - begun),
                },
                step / self.length,
            )


@dataclass
class Listed(Strategy):
    """Asks for the listed first decisions, one after the other, and writes down what it is told."""

    values: tuple[int, ...]

    def start(self, space, rng):
        super().start(space, rng)
        self.left = list(self.values)
        self.told: list[Trial] = []

    def ask(self):
        if not self.left:
            return None
        value = self.left.pop(0)
        rest = dict.fromkeys(self.space.sample(self.rng).values, 0)
        return Candidate(self.space.read({**rest, **(value if isinstance(value, dict) else {"d0": value})}))

    def tell(self, trial):
        self.told.append(trial)


@pytest.fixture
def cheap(monkeypatch) -> list[tuple[list[float], list[float]]]:
    """Put a simple rule in the place of the model: the last value and a little more. Returns what it was asked of."""
    asked: list[tuple[list[float], list[float]]] = []

    def rule(steps, values, horizon, seed, sampling, ceiling):
        asked.append((list(steps), list(values)))
        return Prediction(np.full(2, min(1.0, 1.2 * values[-1])), np.full(2, 0.01))

    monkeypatch.setattr(curve_model, "extrapolate", rule)
    return asked


def search(evaluator, strategy, objectives=ACCURACY, space=None, trials=20, **options) -> Study:
    study = Study(space or ToySpace(1, 11), strategy, evaluator, NO_TASK, objectives, trials=trials, **options)
    study.run()
    return study


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_families_have_the_published_values_and_rise(family):
    assert family.at(np.array([1.0, 10.0, 100.0]), family.start[None])[0] == pytest.approx(TABLE[family.name], abs=1e-6)
    curve = family.at(np.arange(1.0, 1001), family.start[None])[0]
    assert (np.diff(curve) >= 0).all()
    assert ((family.low <= family.start) & (family.start <= family.high)).all()


def test_there_are_eleven_families_of_36_parameters():
    assert list(TABLE) == [family.name for family in FAMILIES]
    assert sum(len(family.parameters) for family in FAMILIES) == 36


def test_a_flat_beginning_is_left_out():
    assert flat([0.1, 0.1, 0.1, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.5]) == 3
    assert flat([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]) == 0
    assert flat([0.1] * 20) == 0
    assert flat([0.1, 0.1, 0.2, 0.3, 0.4]) == 0, "fewer than five follow"
    rising = of("hill3", 10)
    late = extrapolate(range(1, 16), [0.1] * 5 + rising, 45, [0], SHORT)
    assert flat([0.1] * 5 + rising) == 4
    assert late.mean == pytest.approx(extrapolate(range(1, 12), [0.1, *rising], 41, [0], SHORT).mean, abs=1e-9)


def test_a_bound_is_exceeded_with_its_probability():
    prediction = Prediction(np.array([0.5, 0.6, 0.9]), np.array([0.01, 0.02, 0.1]))
    for probability in (0.01, 0.05, 0.5, 0.95):
        assert prediction.exceeds(prediction.bound(probability)) == pytest.approx(probability, abs=1e-6)
    normal = Prediction(np.array([0.5]), np.array([0.1]))
    assert normal.bound(0.05) == pytest.approx(0.5 + 1.644854 * 0.1, abs=1e-6)
    assert (normal.mean, normal.std) == pytest.approx((0.5, 0.1))


def test_every_family_is_fitted_to_a_curve_of_shares_and_one_alone_finds_its_own():
    observed = np.array(of("janoschek", 50, noise=0.01))
    times = np.arange(1.0, 51)
    model = fitted(Data(times, observed, 100))
    assert len(model.families) >= 9
    assert np.isfinite(model.log_probability(model.best[None])).all()
    alone = fitted(Data(times, np.array(of("hill3", 50)), 100), [BY_NAME["hill3"]])
    assert alone.best[:3] == pytest.approx(BY_NAME["hill3"].start, abs=1e-3)


def test_the_prior_excludes_what_leaves_its_bounds_falls_or_ends_too_high():
    model = fitted(Data(np.arange(1.0, 11), np.array(of("pow3", 10)), 100), [BY_NAME["pow3"]])
    c, a, alpha, weight, noise = range(5)
    for place, value in [(alpha, -0.1), (weight, -1.0), (noise, 0.0), (a, -0.5), (c, -5.0), (c, 5.0)]:
        point = model.best.copy()
        point[place] = value
        assert model.log_probability(point[None])[0] == -np.inf
    assert np.isfinite(model.log_probability(model.best[None])[0])


def test_the_density_is_that_of_gaussian_noise():
    observed = np.array(of("ilog2", 20, noise=0.01))
    model = fitted(Data(np.arange(1.0, 21), observed, 50), [BY_NAME["ilog2"], BY_NAME["hill3"]])
    point = model.best.copy()
    point[-3:-1] = 30.0, 10.0
    mixed = 0.75 * BY_NAME["ilog2"].at(np.arange(1.0, 21), point[None, :2])
    mixed = mixed + 0.25 * BY_NAME["hill3"].at(np.arange(1.0, 21), point[None, 2:5])
    expected = -np.square(mixed[0] - observed).sum() / 2 / point[-1] ** 2 - 20 * np.log(point[-1])
    assert model.log_probability(point[None])[0] == pytest.approx(expected)


def test_a_seed_decides_a_prediction_whatever_numpy_draws_globally():
    curve, steps = of("hill3", 10, noise=0.01), range(1, 11)
    np.random.seed(1)
    one = extrapolate(steps, curve, 40, [3, 4], SHORT)
    before = np.random.get_state()[1].tolist()
    np.random.seed(2)
    other = extrapolate(steps, curve, 40, [3, 4], SHORT)
    assert (one.ends == other.ends).all()
    assert (one.noises == other.noises).all()
    np.random.seed(1)
    assert np.random.get_state()[1].tolist() == before
    assert extrapolate(steps, curve, 40, [3, 5], SHORT).mean != one.mean


def test_nothing_is_predicted_where_no_family_fits():
    nowhere = Family("nowhere", lambda t, a: a * t * np.nan, (Parameter("a", 1.0, 0, 2),))
    falling = Family("falling", lambda t, a: 1 - a * t, (Parameter("a", 0.01, 0.001, 2),))
    curve = of("hill3", 10)
    assert extrapolate(range(1, 11), curve, 40, [0], SHORT, families=[nowhere, falling]) is None
    alone = extrapolate(range(1, 11), curve, 40, [0], SHORT, families=[nowhere, BY_NAME["hill3"], falling])
    assert alone.mean == pytest.approx(of("hill3", 40)[-1], abs=0.01)


def test_a_curve_far_below_the_best_is_stopped_and_one_that_crosses_it_is_not():
    study = search(Curve(Rising(noise=0.01), **BRIEF, every=7), Listed((8, 3, 9)))
    best, low, high = study.trials
    assert (best.fidelity, high.fidelity) == (1.0, 1.0)
    assert low.fidelity < 0.5
    assert low.metrics["predicted"] == pytest.approx(0.3, abs=0.1)
    assert low.metrics["predicted_bound"] < best.score
    assert low.metrics["predicted_std"] < 0.2
    assert low.score < 0.3, "what was measured is kept"
    told = study.strategy.inner.told
    assert told[1].number == 1
    assert told[1].scores == (low.metrics["predicted"],)
    assert told[1].fidelity == 1.0
    assert told[1].seed == low.seed
    assert told[0] is best
    assert study.best is high
    assert study.evaluations < 2.5


def test_a_trial_ends_where_the_best_is_exceeded_with_less_than_the_threshold(cheap):
    for threshold, ends in [(0.05, True), (0.001, False)]:
        study = search(Curve(Rising(), threshold=threshold, every=9), Listed((8, 7)))
        assert (study.trials[1].fidelity < 1) == ends
    best, other = study.trials
    metrics = other.reports[8].metrics
    expected = Prediction(np.full(2, metrics["predicted"]), np.full(2, 0.01))
    assert metrics["predicted"] == 1.2 * metrics["accuracy"]
    assert 0.001 < expected.exceeds(best.score) < 0.05
    assert expected.exceeds(metrics["predicted_bound"]) == pytest.approx(0.001)


def test_nothing_ends_before_a_trial_was_trained_in_full(cheap):
    study = search(Curve(Rising()), Listed((2, 1)))
    assert [trial.fidelity for trial in study.trials] == [1.0, 0.2]
    study = search(Curve(Rising()), Listed((2, 1)), executor=Simulated(workers=2))
    assert [trial.fidelity for trial in study.trials] == [1.0, 1.0]


def test_a_trial_that_exceeded_the_best_already_goes_on_whatever_is_predicted(monkeypatch):
    monkeypatch.setattr(curve_model, "extrapolate", lambda *_: Prediction(np.zeros(2), np.full(2, 0.01)))
    study = search(Curve(Rising()), Listed((2, 8, 1)))
    assert [trial.fidelity for trial in study.trials] == [1.0, 1.0, 0.2]


@pytest.mark.parametrize("ends", [1.2, -0.1, None])
def test_a_trial_goes_on_where_nothing_sensible_is_predicted(ends, monkeypatch):
    prediction = None if ends is None else Prediction(np.full(2, ends), np.full(2, 0.01))
    monkeypatch.setattr(curve_model, "extrapolate", lambda *_: prediction)
    study = search(Curve(Rising()), Listed((8, 1)))
    assert study.trials[1].fidelity == 1.0
    assert not any("predicted" in name for report in study.trials[1].reports for name in report.metrics)


@pytest.mark.parametrize(
    ("settings", "length", "steps"),
    [
        ({}, 20, [4, 6, 8, 10, 12, 14, 16, 18]),
        ({}, 5, [4]),
        ({}, 100, list(range(10, 100, 10))),
        ({"every": 3, "first": 7}, 20, [9, 12, 15, 18]),
        ({"first": 20}, 20, []),
    ],
)
def test_it_extrapolates_every_so_many_steps_and_never_at_the_last(settings, length, steps, cheap):
    study = search(Curve(Rising(length), **settings), Listed((8,)))
    foreseen = [report for report in study.trials[0].reports if "predicted" in report.metrics]
    assert [round(report.fidelity * length) for report in foreseen] == steps
    assert [len(asked) for asked, _ in cheap] == steps
    assert "predicted" not in study.trials[0].metrics


def test_with_certain_a_trial_ends_as_soon_as_its_end_is_known_well_enough(cheap):
    study = search(Curve(Rising(), certain=0.02), Listed((6, 7, 5)))
    assert [trial.fidelity for trial in study.trials] == [1.0, 0.2, 0.2]
    told = study.strategy.inner.told
    assert told[1].score > told[0].score
    assert search(Curve(Rising(), certain=0.001), Listed((6, 7))).trials[1].fidelity == 1.0


def test_both_directions_are_decided_alike(cheap):
    stories = []
    for objective in (Objective("error", "min"), Objective("negated")):
        study = search(Curve(Rising(noise=0.1)), Evolution(4, 2), (objective,), ToySpace(3, 11), trials=40)
        stories.append([(trial.architecture, trial.fidelity, trial.score) for trial in study.trials])
        assert 5 < sum(trial.fidelity < 1 for trial in study.trials) < 39
        stopped = [trial.metrics for trial in study.trials if trial.fidelity < 1]
        better = [metrics["predicted_bound"] > metrics["predicted"] for metrics in stopped]
        assert all(better) if objective.goal == "max" else not any(better)
    assert stories[0] == stories[1]
    assert [values for _, values in cheap[: len(cheap) // 2]] == [values for _, values in cheap[len(cheap) // 2 :]]


def test_what_leaves_0_to_1_is_trained_to_its_end_with_a_word(cheap, caplog):
    @dataclass
    class Losing(Rising):
        def evaluate(self, trial):
            for report in super().evaluate(trial):
                yield Report({"loss": 3 - report.metrics["accuracy"]}, report.fidelity)

    study = search(Curve(Losing()), Listed((8, 1, 2)), (Objective("loss", "min"),))
    assert all(trial.fidelity == 1.0 for trial in study.trials)
    assert not cheap
    assert caplog.text.count("extrapolates shares, between 0 and 1, but loss was between 2.") == 1


def test_nan_is_a_failure_and_no_number_to_extrapolate(cheap):
    @dataclass
    class Diverging(Rising):
        def evaluate(self, trial):
            for report in super().evaluate(trial):
                is_late = trial.number < 2 and report.fidelity > 0.4
                yield Report({"accuracy": float("nan")} if is_late else report.metrics, report.fidelity)

    study = search(Curve(Diverging(), every=1), Listed((8, 7, 3, 9, 2)))
    assert [trial.error for trial in study.trials[:2]] == ["accuracy was nan"] * 2
    assert [trial.fidelity for trial in study.trials[2:]] == [1.0, 1.0, 0.2]
    assert all(np.isfinite(values).all() for _, values in cheap)


def test_factors_of_an_objective_count_at_the_end_too(cheap):
    objective = Objective("accuracy", costs=(Cost("parameters", 1.0, beta=-1.0),))
    space = ToySpace(2, 11)
    heavy, light = {"d0": 9, "d1": 9}, {"d0": 4, "d1": 0}
    study = search(Curve(Rising()), Listed((heavy, light, heavy | {"d1": 8})), (objective,), space)
    assert [trial.fidelity < 1 for trial in study.trials] == [False, False, True]


def test_with_several_objectives_a_trial_ends_where_one_is_better_in_all(cheap):
    objectives = (Objective("accuracy"), Objective("parameters", "min"))
    trials = ({"d0": 8, "d1": 3}, {"d0": 5, "d1": 2}, {"d0": 5, "d1": 3}, {"d0": 4, "d1": 2}, {"d0": 9, "d1": 9})
    study = search(Curve(Rising()), Listed(trials), objectives, ToySpace(2, 11))
    assert [trial.fidelity < 1 for trial in study.trials] == [False, False, True, True, False]
    assert len(study.strategy.full) == 3


def test_a_trial_that_breaks_a_limit_is_no_best(cheap):
    limits = (Limit("parameters", 1.0),)
    trials = ({"d0": 9, "d1": 9}, {"d0": 5, "d1": 0}, {"d0": 4, "d1": 0})
    study = search(Curve(Rising()), Listed(trials), space=ToySpace(2, 11), limits=limits)
    assert [trial.fidelity < 1 for trial in study.trials] == [False, False, True]


def test_a_promotion_is_extrapolated_from_all_its_curve(cheap):
    study = search(Hyperband(Curve(Rising(9), every=1, first=2)), Random(), space=ToySpace(3, 11), trials=60)
    assert all(steps == list(range(1, len(steps) + 1)) for steps, _ in cheap)
    stopped = [trial for trial in study.trials if trial.fidelity < trial.candidate.fidelity]
    assert any(trial.parent for trial in stopped)
    assert not {trial.number for trial in stopped} & {trial.candidate.parent for trial in study.trials}
    assert not any("predicted" in trial.metrics for trial in study.trials if trial not in stopped)
    assert study.best.fidelity == 1.0


@pytest.mark.parametrize("workers", [1, 3])
def test_a_resumed_study_decides_by_its_journal_alone(workers, tmp_path, monkeypatch):
    def run(path, trials):
        return search(
            Curve(Rising(noise=0.05), **BRIEF, first=8, every=14),
            Evolution(4, 2),
            space=ToySpace(2, 11),
            trials=trials,
            journal=Journal(path, {}),
            executor=Simulated(workers=workers),
        )

    study = run(tmp_path / "journal", 8)
    assert any(trial.fidelity < 1 for trial in study.trials)
    before = story(tmp_path / "journal")
    monkeypatch.setattr(curve_model, "extrapolate", None)
    again = run(tmp_path / "journal", 8)
    assert story(tmp_path / "journal") == before
    assert [trial.score for trial in again.trials] == [trial.score for trial in study.trials]
    assert again.strategy.full == study.strategy.full


@pytest.mark.parametrize("evaluator", [lambda: Curve(Rising(5)), lambda: Hyperband(Curve(Rising(9), every=1, first=2))])
def test_a_study_killed_at_any_line_ends_as_if_it_had_not_been(evaluator, cheap):
    check_strategy(lambda: Evolution(4, 2), (ToySpace(2, 11),), trials=16, evaluator=evaluator)


def test_the_strategy_around_keeps_the_contract_of_strategies():
    check_strategy(lambda: Terminating(Evolution(4, 2), ACCURACY), trials=20)


def test_it_evaluates_what_it_is_around():
    check_evaluator(lambda: Curve(Rising(noise=0.01), **BRIEF, every=10), ToySpace(2, 11), NO_TASK)


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        (
            lambda: Curve(Hyperband(Rising(9))),
            "around evaluator.inner=hyperband, .* type evaluator=hyperband evaluator/inner=curve",
        ),
        (lambda: Curve(Curve(Rising(9))), "evaluator=curve is around evaluator.inner=curve: leave one out"),
        (lambda: Curve(Rising(9), samples=100), "evaluator.samples=100 leaves none .* give at least 260"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(evaluator, message):
    with pytest.raises(BadInput, match=message):
        evaluator().start(ToySpace(), NO_TASK)


def test_an_evaluator_without_steps_is_refused():
    @dataclass
    class Whole(Rising):
        def steps(self):
            return None

    with pytest.raises(BadInput, match="Whole, evaluates is whole: type evaluator/inner=training, or"):
        Curve(Whole()).start(ToySpace(), NO_TASK)


def test_a_missing_emcee_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setattr("automl_evaluators.curve.find_spec", lambda name: None)
    with pytest.raises(
        BadInput, match=r"emcee, which is not installed: type pip install 'automl-lightweight\[bayes\]'"
    ):
        Curve(Rising()).start(ToySpace(), NO_TASK)


def test_the_config_lists_every_field_in_order_with_its_default():
    values = yaml.safe_load(CONF.read_text(encoding="utf-8"))
    assert values.pop("defaults") == [{"/evaluator@inner": "training"}, "_self_"]
    assert values.pop("name") == "curve"
    assert list(values) == [field.name for field in fields(Curve) if field.name != "inner"]
    assert values == {field.name: field.default for field in fields(Curve) if field.default is not MISSING}


@pytest.mark.slow
def test_of_simulated_curves_seen_to_their_half_the_end_is_within_the_interval():
    rng = np.random.default_rng(0)
    hits = []
    for number in range(18):
        name = ("vapor_pressure", "pow3", "hill3", "log_power", "pow4", "exp4", "janoschek", "weibull", "ilog2")[
            number % 9
        ]
        length = int(rng.choice([20, 50, 100]))
        curve = of(name, length, noise=0.01, seed=number, spread=0.1)
        prediction = extrapolate(range(1, length // 2 + 1), curve[: length // 2], length, [number], Sampling())
        hits.append(prediction.bound(0.95) <= curve[-1] <= prediction.bound(0.05))
    assert np.mean(hits) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("seen", [10, 20])
def test_of_real_curves_the_end_is_within_the_interval_and_nearer_than_the_last_value(seen, data):
    path = data / "cnn_curves" / "cnn_cifar10_curves.npz"
    if not path.is_file():
        pytest.skip(f"no curves in {path}")
    with np.load(path, allow_pickle=False) as file:
        curves = 1 - file["error"][::20].astype(float)
    hits, errors = [], []
    for number, curve in enumerate(curves):
        prediction = extrapolate(range(1, seen + 1), curve[:seen].tolist(), len(curve), [number], Sampling())
        hits.append(prediction.bound(0.95) <= curve[-1] <= prediction.bound(0.05))
        errors.append(abs(prediction.mean - curve[-1]))
    assert np.mean(hits) >= 0.8
    assert np.mean(errors) < np.abs(curves[:, seen - 1] - curves[:, -1]).mean()
