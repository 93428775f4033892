from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from math import inf, log, nan
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy
import pytest
import torch
import yaml

from automl import Candidate, Evaluator, Integer, Objective, Options, Real, Report, Space, Study, Trial
from automl.executor import Simulated
from automl.journal import Journal
from automl.testing import NO_TASK, OBJECTIVES, Checksum, ConditionalSpace, Scripted, ToySpace, check_strategy, story
from automl_evaluators.hyperband import Hyperband
from automl_evaluators.tabular import Tabular
from automl_spaces.nasbench201 import NASBench201
from automl_strategies import controller as controllers
from automl_strategies.controller import Controller, Interval
from automl_strategies.intervals import from_unit, to_unit
from automl_strategies.policy_gradient import MovingAverage, Sample
from automl_strategies.ppo import PPO, clipped
from automl_strategies.q_learning import METAQNN, QLearning, Walk
from automl_strategies.reinforce import Reinforce

ROOT = Path(__file__).parents[2]
LOGITS = {"hidden": 0, "learning_rate": 0.01, "entropy": 0.0, "baseline": 0.9, "batch": 1}
SMALL = {
    "reinforce": lambda: Reinforce(hidden=6, batch=3),
    "logits": lambda: Reinforce(**LOGITS),
    "ppo": lambda: PPO(hidden=6, batch=3),
    "q_learning": lambda: QLearning(length=10, replay=16),
    "last": lambda: QLearning(length=10, replay=16, memory=2, shaped=True),
}
every = pytest.mark.parametrize("factory", SMALL.values(), ids=SMALL)


class Written(Space[Any]):
    """A space that is described by the function given."""

    def __init__(self, describe):
        self.describe = describe

    def describe(self, choose):
        raise NotImplementedError

    def build(self, blueprint, task):
        raise NotImplementedError


def everything(choose):
    """Decisions of all kinds, some of them after others, one with a context."""
    depth = choose("depth", range(1, 4))
    for layer in range(depth):
        width = choose(f"{layer}.width", Integer(1, 500, log=True), context=(layer / depth, 1.0))
        choose(f"{layer}.groups", Integer(1, min(width, 8)))
    choose("kind", Options(["a", "b", "c"], prior=(3, 0, 1)))
    choose("rate", Real(1e-4, 1e-1, log=True))
    choose("momentum", Real(0, 1))


def drawn(controller, space, count=1):
    """Return so many samples of the controller, ready to be learnt from."""
    samples = []
    for number in range(count):
        architecture, log_probs = controller.draw(space, random.Random(number))
        sample = Sample(architecture, log_probs)
        sample.steps = controller.steps(architecture)
        sample.advantage = random.Random(-number - 1).uniform(-1, 1)
        samples.append(sample)
    return samples


def study(strategy, space=None, evaluator=None, trials=40, **settings):
    made = Study(space or ToySpace(4, 3), strategy, evaluator or Checksum(), NO_TASK, trials=trials, **settings)
    made.run()
    return made


def told(strategy, number, score, candidate=None, error=None, fidelity=1.0):
    """Tell the strategy of what it asks for next, or of the candidate given, and return the trial."""
    strategy.rng.seed(f"ask/{number}")
    trial = Trial(number, candidate or strategy.ask(), 0)
    trial.error = error
    if error is None:
        trial.reports = [Report({"accuracy": score}, fidelity)]
        trial.judge(OBJECTIVES)
    strategy.rng.seed(f"tell/{number}")
    strategy.tell(trial)
    return trial


def started(strategy, space=None):
    strategy.start(space or ToySpace(4, 3), random.Random(0))
    return strategy


# all of them


@every
def test_ours_keep_the_contract(factory):
    check_strategy(factory, trials=8)


@every
def test_any_space_is_answered(factory):
    strategy = started(factory(), Written(everything))
    for number in range(30):
        trial = told(strategy, number, (number * 7 % 10) / 10)
        for name, value in trial.architecture.values.items():
            assert trial.architecture.domains[name].fit(value) == value
        assert trial.architecture.values["kind"] != "b"  # its prior is 0


@every
def test_a_resumed_study_is_the_unbroken_one_where_there_are_intervals(factory, tmp_path):
    space = Written(everything)
    study(factory(), space, trials=20, journal=Journal(tmp_path / "unbroken", {}))
    lines = (tmp_path / "unbroken").read_bytes().splitlines(keepends=True)
    (tmp_path / "resumed").write_bytes(b"".join(lines[:31]))
    study(factory(), space, trials=20, journal=Journal(tmp_path / "resumed", {}))
    assert story(tmp_path / "resumed") == story(tmp_path / "unbroken")


@every
def test_nan_and_infinity_are_failures_and_not_scores(factory, tmp_path):  # N3
    accuracies = [nan, inf, -inf, 0.1, 0.2, 0.3]
    script = {number: {"accuracy": accuracy} for number, accuracy in enumerate(accuracies)}
    made = study(factory(), evaluator=Scripted(script), trials=6, journal=Journal(tmp_path / "journal.jsonl", {}))
    assert [trial.error for trial in made.trials[:3]] == ["accuracy was nan", "accuracy was inf", "accuracy was -inf"]
    assert made.best.number == 5

    def refuse(constant):
        raise AssertionError(constant)

    for line in (tmp_path / "journal.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


@dataclasses.dataclass
class Lossy(Evaluator):
    """Reports a loss, or its negative, in nine steps; some trials fail."""

    sign: float = 1.0

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        (report,) = Checksum().evaluate(trial)
        if trial.number % 7 == 3:
            raise ValueError("every seventh fails")
        fidelity = trial.candidate.fidelity
        yield Report({"loss": self.sign * (report.metrics["accuracy"] - fidelity)}, fidelity)

    def steps(self) -> int:
        return 9


@every
@pytest.mark.parametrize("scheduled", [False, True])
def test_both_directions_decide_alike(factory, scheduled):  # N4
    runs = []
    for sign, goal in ((1.0, "min"), (-1.0, "max")):
        evaluator: Evaluator = Lossy(sign)
        if scheduled:
            evaluator = Hyperband(evaluator)
        made = study(factory(), evaluator=evaluator, trials=60, objectives=(Objective("loss", goal),))
        asked = [trial.candidate for trial in made.trials]
        runs.append([(one.architecture, one.fidelity, one.parent) for one in asked] + [made.best.number])
    assert runs[0] == runs[1]


@every
@pytest.mark.parametrize("workers", [1, 2])
def test_a_space_with_fewer_architectures_than_trials_ends(factory, workers):  # N7
    made = study(factory(), ToySpace(1, 2), trials=100, executor=Simulated(workers=workers))
    assert len(made.trials) == 2
    assert "exhausted" in made.ending
    assert made.duplicates > 0


@every
def test_a_space_without_a_choice_ends(factory):
    assert len(study(factory(), ToySpace(2, 1), trials=10).trials) == 1


@pytest.mark.parametrize("name", ["reinforce", "ppo", "q_learning"])
def test_the_recipe_lists_every_field_with_its_default(name):
    values = yaml.safe_load((ROOT / "conf" / "strategy" / f"{name}.yaml").read_text())
    cls = {"reinforce": Reinforce, "ppo": PPO, "q_learning": QLearning}[name]
    assert list(values) == ["name", *(field.name for field in dataclasses.fields(cls))]
    assert json.loads(json.dumps(dataclasses.asdict(cls()))) == {key: values[key] for key in values if key != "name"}


def test_torch_is_imported_where_a_controller_is_made():
    code = (
        "import sys, automl_strategies.reinforce, automl_strategies.ppo, automl_strategies.q_learning\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", [Reinforce, PPO])
def test_what_is_learnt_does_not_depend_on_threads_or_the_global_generator(kind):
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            state = torch.get_rng_state()
            made = study(kind(), Written(everything), trials=12)
            assert torch.equal(torch.get_rng_state(), state)
            assert torch.get_num_threads() == threads
            controller = made.strategy.controller
            found.append([trial.architecture for trial in made.trials])
            found[-1] += [table.tolist() for table in (*controller.tables, *controller.cells)]
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


# the controller


@pytest.mark.parametrize(("hidden", "layers"), [(0, 1), (5, 1), (7, 2)])
def test_a_sequence_fed_again_has_the_probability_that_it_was_drawn_with(hidden, layers):
    controller = Controller(hidden, layers, 0.05, seed=1)
    for space in (Written(everything), ConditionalSpace(), ToySpace(6, 5)):
        for _ in range(3):  # also when something is learnt
            samples = drawn(controller, space, 8)
            log_probs, entropies = controller.judge([sample.steps for sample in samples])
            for row, sample in zip(log_probs.tolist(), samples, strict=True):
                count = len(sample.log_probs)
                assert row[:count] == pytest.approx(sample.log_probs, abs=1e-9)
                assert row[count:] == [0.0] * (len(row) - count)
            alone = [controller.judge([sample.steps])[1].sum().item() for sample in samples]
            assert entropies.sum(1).tolist() == pytest.approx(alone, abs=1e-12)
            controller.descend(-log_probs[0].sum())
            del log_probs, entropies


def test_the_entropy_of_the_first_policy_is_that_of_all_that_is_legal():
    space = ToySpace(6, 5)
    for hidden, near in ((0, 1e-12), (100, 2e-3)):
        controller = Controller(hidden, 1, 0.01, seed=0)
        entropies = controller.judge([drawn(controller, space)[0].steps])[1]
        assert entropies.sum().item() == pytest.approx(6 * log(5), abs=near)


def test_the_first_policy_draws_as_the_domains_do():
    def describe(choose):
        choose("kind", Options(["a", "b", "c"], prior=(3, 0, 1)))
        choose("width", Integer(1, 4, log=True))
        choose("large", Integer(1, 1000))
        choose("rate", Real(1e-3, 1e1, log=True))

    controller, rng, space = Controller(0, 1, 0.01, seed=0), random.Random(0), Written(describe)
    found = [controller.draw(space, rng)[0].values for _ in range(4000)]
    kinds, widths = (Counter(values[name] for values in found) for name in ("kind", "width"))
    assert kinds["b"] == 0
    assert kinds["a"] / 4000 == pytest.approx(0.75, abs=0.025)
    for width, share in zip(range(1, 5), (0.5, 0.232, 0.153, 0.114), strict=True):
        assert widths[width] / 4000 == pytest.approx(share, abs=0.03)
    assert fmean(values["large"] for values in found) == pytest.approx(500.5, abs=15)
    assert fmean(log(values["rate"], 10) for values in found) == pytest.approx(-1, abs=0.06)


def test_what_is_not_on_offer_has_no_probability_and_no_gradient():
    def describe(choose):
        first = choose("first", Integer(1, 5))
        choose("second", list(range(first)))
        choose("kind", Options(["a", "b"], prior=(1, 0)))

    space, controller = Written(describe), Controller(4, 1, 0.01, seed=0)
    samples = drawn(controller, space, 200)
    assert {sample.architecture.values["kind"] for sample in samples} == {"a"}
    assert max(sample.architecture.values["first"] for sample in samples) == 5  # all rows are known
    few = next(sample for sample in samples if sample.architecture.values["first"] == 2)
    log_probs, entropies = controller.judge([few.steps, samples[0].steps])
    (log_probs[0].sum() + entropies[0].sum()).backward()
    rows = controller._rows
    for table in (controller.biases, controller.outputs):
        for option in (2, 3, 4):
            assert not table.grad[rows[f"second\0option\0{option}"]].any()
        assert not table.grad[rows['kind\0option\0"b"']].any()
    option = few.architecture.values["second"]
    assert controller.biases.grad[rows[f"second\0option\0{option}"]].any()
    assert len(few.log_probs) == 3
    assert few.log_probs[2] == 0.0


def test_an_interval_has_the_density_and_the_entropy_of_its_beta():
    controller, space = Controller(0, 1, 0.5, seed=0), Written(lambda choose: choose("rate", Real(2, 4)))
    for _ in range(5):
        (sample,) = drawn(controller, space)
        controller.descend(-controller.judge([sample.steps])[0].sum())
    (sample,) = drawn(controller, space)
    (step,) = sample.steps
    assert isinstance(step.head, Interval)
    alpha, beta = controller.biases[step.head.index, 0].exp()
    assert alpha != beta
    curve = torch.distributions.Beta(alpha, beta)
    unit = torch.tensor((sample.architecture.values["rate"] - 2) / 2, dtype=torch.float64)
    assert sample.log_probs[0] == pytest.approx(curve.log_prob(unit).item(), abs=1e-9)
    assert controller.judge([sample.steps])[1].item() == pytest.approx(curve.entropy().item(), abs=1e-9)


@pytest.mark.parametrize(
    "domain", [Real(-1, 3), Real(1e-5, 10, log=True), Integer(-5, 200), Integer(1, 1000, log=True)], ids=str
)
def test_places_in_the_unit_interval_lead_back(domain):
    for unit in (0.0, 0.01, 0.3, 0.77, 1.0):
        value = from_unit(domain, unit)
        assert domain.fit(value) == value
        assert from_unit(domain, to_unit(domain, value)) == pytest.approx(value, rel=1e-4, abs=1e-5)
    assert from_unit(domain, 0.0) == domain.low
    assert from_unit(domain, 1.0) == pytest.approx(domain.high)


def test_the_order_in_which_names_are_met_does_not_matter():
    def one(choose):
        choose("a", [1, 2, 3])
        choose("b", Integer(1, 8))

    def other(choose):
        choose("b", Integer(3, 5))
        choose("a", [3, 2])
        choose("c", Real(0, 1))

    there, back = (Controller(5, 2, 0.01, seed=3) for _ in range(2))
    for space in (Written(one), Written(other)):
        there.draw(space, random.Random(0))
    for space in (Written(other), Written(one)):
        back.draw(space, random.Random(0))
    for space in (Written(one), Written(other)):
        assert there.draw(space, random.Random(1)) == back.draw(space, random.Random(1))
    assert Controller(5, 2, 0.01, seed=4).draw(space, random.Random(1))[1] != back.draw(space, random.Random(1))[1]


def test_a_context_is_seen_when_the_decision_is_made():
    def described(context):
        return Written(lambda choose: choose("a", [1, 2, 3], context=context))

    controller = Controller(5, 1, 0.01, seed=0)
    found = []
    for context in (None, (0.0, 0.0), (1.0, 0.0), (0.0, 2.0)):
        architecture, log_probs = controller.draw(described(context), random.Random(0))
        again = controller.judge([controller.steps(architecture)])[0]
        assert again.item() == pytest.approx(log_probs[0], abs=1e-12)
        found.append(log_probs[0])
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_tables_that_grow_learn_as_large_ones_do(monkeypatch):
    found = []
    for size in (2, 500):
        monkeypatch.setattr(controllers, "ROOM", size)
        controller = Controller(4, 1, 0.05, seed=0)
        for decisions in (1, 3, 12):
            samples = drawn(controller, ToySpace(decisions, 5), 4)
            controller.descend(Reinforce(entropy=0.01).loss(controller, samples))
        found.append(drawn(controller, ToySpace(12, 5))[0].log_probs)
    assert found[0] == found[1]


# the gradient


@pytest.mark.parametrize("hidden", [0, 3])
def test_the_mean_gradient_is_that_of_the_expected_reward(hidden):
    """Of 10^5 single samples, within 3 standard errors, and less spread with a baseline."""
    space, controller, strategy = ToySpace(2, 3), Controller(hidden, 1, 0.01, seed=5), Reinforce(entropy=0.0)
    rng = numpy.random.default_rng(0)
    samples = []
    for architecture in space.enumerate():
        sample = Sample(architecture, ())
        sample.steps = controller.steps(architecture)
        samples.append(sample)
    with torch.no_grad():
        for parameter in (*controller.tables, *controller.cells):  # not uniform any more
            parameter += torch.from_numpy(rng.normal(0, 0.5, parameter.shape))
    rewards = rng.uniform(0, 1, len(samples))

    def gradient(loss):
        controller.optimizer.zero_grad()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in (*controller.tables, *controller.cells)]).numpy().copy()

    shares = controller.judge([sample.steps for sample in samples])[0].sum(1).exp()
    exact = gradient((shares * torch.from_numpy(rewards)).sum())
    shares = shares.detach().numpy()
    assert shares.sum() == pytest.approx(1)
    counts = rng.multinomial(100_000, shares / shares.sum())
    spread = {}
    for baseline in (0.0, float(shares @ rewards)):
        single = []
        for sample, reward in zip(samples, rewards, strict=True):
            sample.advantage = reward - baseline
            single.append(-gradient(strategy.loss(controller, [sample])))
        mean = numpy.average(single, axis=0, weights=counts)
        variance = numpy.average((numpy.array(single) - mean) ** 2, axis=0, weights=counts)
        error = numpy.sqrt(variance / 100_000)
        assert (abs(mean - exact) <= 3 * error + 1e-12).all()
        spread[baseline] = variance.sum()
    assert spread[baseline] < spread[0.0]
    assert abs(exact).max() > 0.01


def test_the_batch_is_averaged_and_the_entropy_adds_to_it():
    controller = Controller(4, 1, 0.01, seed=0)
    samples = drawn(controller, ToySpace(3, 4), 5)
    losses = [Reinforce(entropy=0.1).loss(controller, [sample]).item() for sample in samples]
    assert Reinforce(entropy=0.1).loss(controller, samples).item() == pytest.approx(fmean(losses))
    entropy = controller.judge([samples[0].steps])[1].sum().item()
    without = Reinforce(entropy=0.0).loss(controller, samples[:1]).item()
    assert losses[0] == pytest.approx(without - 0.1 * entropy)


def test_the_average_is_corrected_for_its_beginning():
    average = MovingAverage(0.9)
    assert average.value is None
    average.add(5.0)
    assert average.value == pytest.approx(5.0)
    average.add(7.0)
    assert average.value == pytest.approx((0.9 * 5 + 7) / 1.9)


def test_the_advantage_is_over_the_rewards_before():
    strategy = started(Reinforce(**LOGITS | {"batch": 10}))
    for number, score in enumerate([0.5, 0.7, 0.6]):
        told(strategy, number, score)
    advantages = [sample.advantage for sample in strategy.finished]
    assert advantages == pytest.approx([0.0, 0.2, 0.6 - (0.9 * 0.5 + 0.7) / 1.9])


def test_a_failed_trial_is_worse_than_all_others():
    strategy = started(Reinforce(**LOGITS | {"batch": 10}))
    for number, score in enumerate([0.5, 0.7, None]):
        told(strategy, number, score, error=None if score else "it failed")
    assert strategy.finished[-1].advantage < 0.5 - 0.7


def test_failures_before_any_score_do_not_distort_the_rewards():
    strategy = started(Reinforce(**LOGITS | {"batch": 10}))
    for number in range(2):
        told(strategy, number, None, error="it failed")
    for number, score in enumerate([-1000.0, -999.0]):
        told(strategy, number + 2, score)
    assert [sample.advantage for sample in strategy.finished] == pytest.approx([0.0, 0.0, 0.0, 1.0])


def test_a_sample_is_learnt_from_once_and_against_its_own_fidelity():
    strategy = started(Reinforce(hidden=0, batch=10))
    low = told(strategy, 0, 0.2, fidelity=1 / 3)
    for trial, fidelity in ((low, 1 / 3), (told(strategy, 1, 0.8), 1.0)):
        assert trial.fidelity == pytest.approx(fidelity)
    assert len(strategy.finished) == 2
    told(strategy, 0, 0.2, low.candidate)  # once more
    told(strategy, 2, 0.9, Candidate(low.architecture, 1.0, 0))  # gone on with
    assert len(strategy.finished) == 2
    candidate = strategy.ask()
    told(strategy, 3, 0.3, Candidate(candidate.architecture, 1 / 9))
    assert strategy.finished[-1].advantage == 0.0  # the first of that fidelity
    candidate = strategy.ask()
    told(strategy, 4, 0.4, Candidate(candidate.architecture, 1 / 9))
    assert strategy.finished[-1].advantage == pytest.approx(0.1)


def test_a_settled_controller_still_finds_what_is_new():
    strategy = started(Reinforce(hidden=0), ToySpace(6, 5))
    first = told(strategy, 0, 0.5)
    with torch.no_grad():
        for step in strategy.controller.steps(first.architecture):
            strategy.controller.biases[step.head.rows[step.choice[0]]] = 50.0
    asked = []
    for _ in range(4):
        candidate = strategy.ask()
        asked.append(candidate.architecture == first.architecture)
        told(strategy, 0, 0.5, candidate)
    assert asked == [True, True, True, False]


@pytest.mark.parametrize("factory", [lambda: Reinforce(), lambda: PPO()], ids=["reinforce", "ppo"])
def test_a_rewarded_choice_becomes_likely(factory):
    class Pays(Evaluator):
        def evaluate(self, trial):
            values = trial.architecture.values
            yield Report({"accuracy": (values["a"] == 2) / 2 + values["rate"] / 2})

        def key(self, architecture):
            return None

    def describe(choose):
        choose("a", [0, 1, 2, 3])
        choose("rate", Real(0, 1))

    made = study(factory(), Written(describe), Pays(), trials=400)
    late = made.trials[-50:]
    assert fmean(trial.architecture.values["a"] == 2 for trial in late) > 0.8
    assert fmean(trial.architecture.values["rate"] for trial in late) > 0.6


# PPO


def gradients(controller, loss):
    controller.optimizer.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in (*controller.tables, *controller.cells)]


def test_the_first_gradient_is_that_of_reinforce():
    controller = Controller(5, 2, 0.01, seed=0)
    samples = drawn(controller, Written(everything), 12)
    ours = gradients(controller, PPO(entropy=0.01).loss(controller, samples))
    theirs = gradients(controller, Reinforce(entropy=0.01).loss(controller, samples))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)
    assert max(one.abs().max() for one in ours) > 1e-3


def test_a_ratio_that_went_far_enough_has_no_gradient():
    ratios = torch.tensor([1.3, 1.3, 0.7, 0.7, 1.1, 0.9], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0, -2.0], dtype=torch.float64)
    gain = clipped(ratios, advantages, 0.2)
    assert gain.tolist() == pytest.approx([1.2, -1.3, 0.7, -0.8, 2.2, -1.8])
    gain.sum().backward()
    assert ratios.grad.tolist() == [0.0, -1.0, 1.0, 0.0, 2.0, -2.0]


def test_stale_samples_are_left_out_and_the_divergence_is_known():
    controller, strategy = Controller(4, 1, 0.01, seed=0), PPO(hidden=4, entropy=0.0)
    samples = drawn(controller, ToySpace(3, 4), 4)
    for sample in samples[:3]:
        sample.log_probs = [value - 1 for value in sample.log_probs]  # 3 in all
    seen = []
    strategy.loss = lambda controller, fresh: seen.append(fresh) or PPO.loss(strategy, controller, fresh)
    before = controller.judge([samples[3].steps])[0].sum().item()
    strategy.learn(controller, samples)
    assert seen == [[samples[3]]] * strategy.epochs
    after = controller.judge([samples[3].steps])[0].sum().item()
    assert strategy.divergence == pytest.approx(before - after)
    assert strategy.divergence != 0
    strategy.learn(controller, samples[:3])
    assert len(seen) == strategy.epochs


# Q-learning


def walk(*choices):
    made = Walk()
    for row, place in choices:
        made.rows.append(row)
        made.places.append(place)
    return made


def test_the_schedules_are_those_published():
    assert sum(count for _, count in METAQNN) == 2700
    assert [epsilon for epsilon, _ in METAQNN] == pytest.approx([1 - number / 10 for number in range(10)])
    rounds = (95, 7, 7, 7, 10, 10, 10, 10, 10, 12)  # BlockQNN's, in the recipe's head
    assert sum(rounds) * 64 == 178 * 64 == 11_392


def test_epsilon_follows_the_number_of_different_architectures():
    strategy = started(QLearning(schedule=((1.0, 3), (0.5, 1), (0.1, 2)), length=12), ToySpace(8, 5))
    found = []
    for number in range(15):
        found.append(strategy.epsilon)
        trial = told(strategy, number, 0.5)
        told(strategy, number, 0.5, trial.candidate)  # again: not another
    assert found == [1.0] * 6 + [0.5] * 2 + [0.1] * 7
    published = started(QLearning(length=None))
    published.different = 1499
    assert published.epsilon == 1.0
    published.different = 1500
    assert published.epsilon == 0.9


def test_one_sweep_at_full_rate_finds_the_true_values():
    space, rng = ToySpace(3, 3), random.Random(0)
    strategy = started(QLearning(learning_rate=1.0, initial=0.0, replay=1), space)
    worth = {architecture: 0.1 + rng.random() for architecture in space.enumerate()}
    for architecture, reward in worth.items():
        walk, state = Walk(), 0
        for name, domain in architecture.domains.items():
            walk.rows.append(strategy.row(state, name, domain))
            walk.places.append(architecture.values[name])
            state = strategy.after(state, architecture.values[name])
        walk.learn(reward, 1.0, 1.0, shaped=False)
    first = strategy.row(0, "d0", Options(range(3)))
    for option in range(3):
        best = max(reward for architecture, reward in worth.items() if architecture.values["d0"] == option)
        assert first[option] == best
    strategy.schedule = ((0.0, 1),)
    assert strategy.ask().architecture == max(worth, key=worth.get)


def test_one_pass_backwards_does_what_forwards_takes_as_many_as_there_are_choices():
    depth = 5
    rows = [[0.5, 0.5] for _ in range(depth)]
    walk(*((row, 1) for row in rows)).learn(0.9, 1.0, 1.0, shaped=False)
    assert [row[1] for row in rows] == [0.9] * depth
    forward, passes = [[0.5, 0.5] for _ in range(depth)], 0
    while forward[0][1] != 0.9:
        for row, after in pairwise(forward):
            row[1] = max(after)
        forward[-1][1] = 0.9
        passes += 1
    assert passes == depth


def test_an_update_goes_a_share_of_the_way():
    first, last = [0.5, 0.5], [0.5, 0.7, 0.5]
    walk((first, 0), (last, 2)).learn(0.9, 0.01, 1.0, shaped=False)
    assert last == [0.5, 0.7, pytest.approx(0.99 * 0.5 + 0.01 * 0.9)]
    assert first == [pytest.approx(0.99 * 0.5 + 0.01 * 0.7), 0.5]


def test_shaped_rewards_sum_to_the_reward():
    rows = [[0.0, 0.0] for _ in range(4)]
    walk(*((row, 0) for row in rows)).learn(0.8, 1.0, 1.0, shaped=True)
    assert [row[0] for row in rows] == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_exploring_is_uniform_over_what_is_legal_in_a_state_and_not_over_networks():
    def describe(choose):
        if choose("first", ["a", "b"]) == "b":
            choose("second", [1, 2, 3, 4])

    strategy = started(QLearning(length=None), Written(describe))
    found = Counter(tuple(strategy.ask().architecture.values.values()) for _ in range(4000))
    assert found["a",] / 4000 == pytest.approx(0.5, abs=0.025)
    for option in (1, 2, 3, 4):
        assert found["b", option] / 4000 == pytest.approx(0.125, abs=0.02)


def test_the_best_is_taken_and_equals_alike():
    strategy = started(QLearning(schedule=((0.0, 1),)), ToySpace(1, 4))
    strategy.row(0, "d0", Options(range(4)))[:] = [0.2, 0.7, 0.1, 0.7]
    found = Counter(strategy.ask().architecture.values["d0"] for _ in range(2000))
    assert set(found) == {1, 3}
    assert found[1] / 2000 == pytest.approx(0.5, abs=0.04)


def test_intervals_are_chosen_by_bins():
    def describe(choose):
        choose("rate", Real(1e-4, 1.0, log=True))
        choose("width", Integer(1, 400))

    strategy = started(QLearning(schedule=((0.0, 1),), bins=4), Written(describe))
    strategy.row(0, "rate", Real(1e-4, 1.0, log=True))[2] = 0.9
    for _ in range(50):
        values = strategy.ask().architecture.values
        assert 1e-2 <= values["rate"] <= 1e-1
    state = strategy.after(0, 2)
    strategy.row(state, "width", Integer(1, 400))[3] = 0.9
    widths = [strategy.ask().architecture.values["width"] for _ in range(200)]
    assert 301 <= min(widths) < 310
    assert 390 < max(widths) <= 400


def test_with_memory_states_are_the_last_decisions():
    strategy = started(QLearning(memory=1), ToySpace(5, 3))
    for number in range(60):
        told(strategy, number, 0.5)
    assert len(strategy.rows) == 1 + 4 * 3
    longer = started(QLearning(), ToySpace(5, 3))
    for number in range(60):
        told(longer, number, 0.5)
    assert len(longer.rows) > 1 + 4 * 3


def test_a_walk_that_is_gone_on_with_is_worth_its_last_score():
    strategy = started(QLearning())
    low = told(strategy, 0, 0.2)
    told(strategy, 1, 0.8, Candidate(low.architecture, 1.0, 0))
    assert [strategy.worth.of(walk.trial) for walk in strategy.walks] == [0.8]
    told(strategy, 2, 0.9, Candidate(low.architecture, 1.0, 1))
    assert [strategy.worth.of(walk.trial) for walk in strategy.walks] == [0.9]
    assert strategy.different == 1


def test_known_walks_lead_further_out():
    strategy = started(QLearning(schedule=((0.0, 1),)), ToySpace(4, 5))
    first = told(strategy, 0, 0.9)
    for _ in range(500):
        strategy.walks[0].learn(0.9, 0.01, 1.0, shaped=False)
    found = []
    for number in range(30):
        strategy.rng.seed(number)
        candidate = strategy.ask()
        found.append(candidate.architecture == first.architecture)
        told(strategy, 0, 0.9, candidate)
    assert all(found[:6])
    assert not any(found[-10:])


def test_a_known_architecture_is_remembered_as_another_walk():
    strategy = started(QLearning())
    told(strategy, 0, 0.2)
    told(strategy, 0, 0.2, strategy.ask())
    assert len(strategy.walks) == 2
    assert strategy.different == 1


# on recorded trainings, beside the outcomes that others had


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factory", "trials", "seeds", "least", "most"),
    [
        (lambda: Reinforce(**LOGITS), 100, 20, 83.82, 84.2),
        (lambda: Reinforce(**LOGITS), 500, 8, 84.61, 84.75),
        (lambda: Reinforce(), 500, 5, 84.61, 84.9),
        (lambda: PPO(), 500, 5, 84.61, 84.9),
        (lambda: QLearning(length=500), 500, 12, 84.47, 84.7),
    ],
    ids=["logits 100", "logits 500", "reinforce", "ppo", "q_learning"],
)
def test_searches_end_in_the_published_bands(factory, trials, seeds, least, most, data):
    """The best validation accuracy on NAS-Bench-201, CIFAR-10, after 12 epochs; 3 standard errors of slack."""
    space, evaluator = NASBench201(), Tabular(root=str(data))
    evaluator.objectives = OBJECTIVES
    evaluator.start(space, NO_TASK)
    found = []
    for seed in range(seeds):
        made = study(factory(), space, evaluator, trials=trials, seed=seed)
        found.append(100 * made.best.score)
    slack = 3 * max(numpy.std(found, ddof=1), 0.1) / seeds**0.5
    assert least - slack < fmean(found) < most + slack
