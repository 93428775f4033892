"""Workers of Ray: on a Ray started here, on a cluster that loses a node, refused where none answers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from test_workers import SCRIPT, begin, gone, outcome, written

from automl import BadInput, allotment, cluster
from automl.cluster import Ray
from automl.study import Study
from automl.testing import NO_TASK, ToySpace
from automl_strategies.random import Random
from working import Dawdling, Dying, Telling, Uneven

needs_ray = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("ray"), reason="ray is not installed: pip install '.[ray]'"
)
QUIET = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")  # of Ray's own sockets


def search(evaluator, executor, trials, folder=None):
    evaluator.folder = folder
    study = Study(ToySpace(9, 4), Random(), evaluator, NO_TASK, trials=trials, executor=executor)
    study.run()
    return study


def test_ray_that_is_not_installed_is_refused_with_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"pip install 'automl-lightweight\[ray\]', or type executor=processes"):
        Ray().check(Uneven(), Random())


@needs_ray
@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:1", r"no Ray cluster answers at executor\.address=127\.0\.0\.1:1: start one by ray start --head"),
        ("ray://head:10001", r"is of Ray's client: give host:port"),
        ("head", r"executor\.address=head must be host:port of a cluster's head, or auto"),
    ],
)
def test_an_address_that_does_not_answer_is_refused(address, sentence):
    with pytest.raises(BadInput, match=sentence):
        Ray(address=address).check(Uneven(), Random())


@needs_ray
@pytest.mark.slow
@QUIET
def test_a_ray_that_is_started_here_keeps_what_workers_promise(tmp_path, monkeypatch):
    """In one start: threads, deaths, limits; the signals stay whose they were, and Ray is gone afterwards."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    said = []
    executor = Ray(workers=2, trial_minutes=0.5, trial_memory=2.0)
    executor.say = said.append
    study = search(Dying(always=(3,), once=(1,), marks=str(tmp_path)), executor, 8)
    assert outcome(study) == {**dict.fromkeys(range(8)), 3: "worker died (its process or its node is gone) 3 times"}
    assert [len((tmp_path / str(number)).read_text()) for number in range(4)] == [1, 2, 1, 3]
    assert said[0].startswith("Ray, started here: 1 node, 2 workers (2 on ")
    threads = str(max(1, allotment.cores() // 2))
    assert [worker["threads"] for worker in executor.facts()["workers"]] == [threads] * 2
    assert signal.getsignal(signal.SIGTERM) is before
    import ray

    assert not ray.is_initialized()


@needs_ray
@pytest.mark.slow
def test_what_a_script_defines_works_on_ray(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.replace("EXECUTOR", "ray"))
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[(0, None), (1, 'Odd: one'), (2, None), (3, None)]\n", "")


@needs_ray
@pytest.mark.slow
@QUIET
def test_a_cluster_is_probed_limited_and_may_lose_a_node(tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        lost = nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        executor, said = Ray(workers=2, address=nodes.address), []
        executor.say = said.append
        with monkeypatch.context() as patched, pytest.raises(BadInput, match=r"does not see the run's folder .* runs="):
            patched.setattr(cluster, "write_text", lambda path, text: None)
            search(Uneven(), Ray(workers=2, address=nodes.address), 1, tmp_path)
        eager = Dawdling((1,), 60.0, str(tmp_path), 900)
        told = outcome(search(eager, Ray(workers=2, address=nodes.address, trial_memory=0.6), 4))
        assert told.pop(1).startswith("over its memory limit of 0.6 GiB")
        assert set(told.values()) == {None}

        def lose():
            written(place / "0.json", 1)
            written(place / "1.json", 1)
            began = [json.loads((place / f"{number}.json").read_text())["process"] for number in (0, 1)]
            if len({psutil.Process(process).ppid() for process in began}) == 2:
                nodes.remove_node(lost, allow_graceful=False)
                are_apart.append(True)
                while all(psutil.pid_exists(process) for process in began):  # until its worker has noticed
                    time.sleep(0.02)
            (place / "lost").touch()

        are_apart = []
        for attempt in range(5):  # where Ray puts workers is in the end its own choice
            place = tmp_path / f"attempt{attempt}"
            place.mkdir()
            said.clear()
            thread = threading.Thread(target=lose, daemon=True)
            thread.start()
            study = search(Telling(str(place), until="lost"), executor, 6, tmp_path)
            thread.join()
            if are_apart:
                break
        assert outcome(study) == dict.fromkeys(range(6))
        assert said[0].startswith("Ray, a cluster: 2 nodes, 2 workers (")
        assert said[0].endswith("all see the run's folder.")
        assert any("is lost; its trials run again elsewhere" in line for line in said), said
    finally:
        nodes.shutdown()


@needs_ray
@pytest.mark.slow
def test_no_process_of_ray_outlives_a_driver_that_is_killed(tmp_path):
    driver = begin(tmp_path / "runs", "executor=ray", "evaluator.sleep=500", f"evaluator.counts={tmp_path / 'n'}")
    try:
        written(tmp_path / "n", 2)
        started = [one.pid for one in psutil.Process(driver.pid).children(recursive=True)]
        assert len(started) > 4
        driver.kill()
        assert gone(started, 30) == []
    finally:
        driver.kill()
        driver.communicate()
