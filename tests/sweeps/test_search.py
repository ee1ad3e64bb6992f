"""Searches: what is proposed, what a killed one goes on with, the front, the pruned."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from scipy import stats

from landscape_sweep import __file__ as package
from landscape_sweep import tracking
from landscape_sweep.config import ConfigError
from landscape_sweep.sweeps import study as studies
from landscape_sweep.sweeps.search import ALWAYS
from landscape_sweep.sweeps.space import as_overrides, corners, split

TINY = ("-m", "hydra/sweeper=optuna", "data=digits", "model=mlp", "model.width=8", "probe=none")
RATE = "optimizer.lr=tag(log,interval(1e-3,1))"
SPACE = (RATE, "batch_size=16,32")


def uri(folder: Path = Path()) -> str:
    return f"sqlite:///{(folder / 'outputs/mlflow.db').absolute()}"


def study(folder: Path = Path()) -> optuna.Study:
    """The one study of the default storage, by the URL that is printed for optuna-dashboard."""
    return optuna.load_study(
        study_name=None, storage=f"sqlite:///{(folder / 'outputs/optuna.db').absolute()}"
    )


def trials(folder: Path = Path()) -> pd.DataFrame:
    """``trials.csv`` of the one search."""
    client = MlflowClient(uri(folder))
    experiments = [e.experiment_id for e in client.search_experiments()]
    (parent,) = client.search_runs(experiments, "tags.`sweep.parent` != ''")
    return pd.read_csv(client.download_artifacts(parent.info.run_id, tracking.TRIALS))


# ---------------------------------------------------------------- the space


def parse(*lines: str):
    return OverridesParser.create().parse_overrides(list(lines))


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("k=range(1,10,3)", [1, 4, 7]),
        ("k=range(0,0.5,0.1)", [0, 0.1, 0.2, 0.3, 0.4]),
        ("k=range(5,1,-2)", [3, 5]),
        ("k=int(interval(2,4))", [2, 3, 4]),
        ("k=tag(log,int(interval(2,4)))", [2, 3, 4]),
        ("k=choice(3,1)", [1, 3]),
        ("k=shuffle(3,1)", [1, 3]),
    ],
)
def test_proposals_are_the_numbers_of_the_line_and_no_others(line: str, numbers: list) -> None:
    space, fixed = split(parse(line, "seed=0"))
    assert fixed == ["seed=0"]
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    texts = {as_overrides(drawn.ask(space).params, space)[0] for _ in range(100)}
    assert sorted(float(text.removeprefix("k=")) for text in texts) == numbers  # 0.3, not 0.30…04


def test_an_interval_tagged_log_is_even_in_the_logarithm() -> None:
    space, _ = split(parse("lr=interval(0,1)", "lr=tag(log,interval(1e-4,1e-1))"))  # the last holds
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = np.log10([drawn.ask(space).params["lr"] for _ in range(500)])
    assert values.min() >= -4
    assert values.max() <= -1
    assert stats.kstest(values, stats.uniform(-4, 3).cdf).pvalue > 0.01


def test_options_of_groups_and_sets_of_keys_pass_unchanged() -> None:
    space, _ = split(parse("model=cnn,resnet", "stop={steps:10},{steps:20}", "+a.b='x y',null"))
    found = {tuple(corner) for corner in corners(space)}
    assert ("model=resnet", "stop={steps:10}", "+a.b='x y'") in found
    assert ("model=cnn", "stop={steps:20}", "+a.b='x y'") in found
    assert ("model=cnn", "stop={steps:10}", "+a.b=null") in found


@pytest.mark.parametrize(
    "line", ["lr=interval(2,1)", "lr=tag(log,interval(0,1))", "lr=tag(log,choice(1,2))"]
)
def test_a_range_that_cannot_be_searched_is_told_by_its_key(line: str) -> None:
    with pytest.raises(ConfigError) as told:
        split(parse(line))
    assert str(told.value).startswith(line)


# ---------------------------------------------------------------- the study


def stale_study(storage: str) -> optuna.Study:
    """Two trials told, one left running."""
    objectives = {"test/loss": "minimize"}
    begun = studies.open_study(storage, "s", objectives, "none", {"epochs": 1})
    for value in (2.0, 1.0):
        begun.tell(begun.ask(split(parse(RATE))[0]), value)
    begun.ask(split(parse(RATE))[0])
    return begun


@pytest.mark.parametrize("storage", ["sqlite:///{}/o.db", "{}/journal.log"])
def test_what_a_dead_driver_left_is_failed_and_queued_once(storage: str, tmp_path: Path) -> None:
    begun = stale_study(storage.format(tmp_path))
    running = begun.trials[2].params
    begun.enqueue_trial(running, user_attrs={"retry_of": 2})  # killed here, before it was failed
    assert studies.retire(begun) == [2]
    assert studies.retire(begun) == []
    states = [trial.state for trial in begun.trials]
    assert states == [TrialState.COMPLETE] * 2 + [TrialState.FAIL, TrialState.WAITING]
    assert studies.count_results(begun) == 2
    assert studies.place_of_next(begun) == 3  # the trial that is run again counts once
    assert begun.ask(split(parse(RATE))[0]).params == running


def test_a_study_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/o.db"
    stale_study(storage)
    with pytest.raises(ConfigError, match=r"study_name=s: has trials with epochs=1$"):
        studies.open_study(storage, "s", {"test/loss": "minimize"}, "none", {"epochs": 2})
    with pytest.raises(ConfigError, match=r"study_name=s: has the objectives .*test/loss"):
        studies.open_study(storage, "s", {"test/loss": "maximize"}, "none", {"epochs": 1})


@pytest.mark.parametrize("name", ["tpe", "random", "qmc", "cmaes", "nsga2"])
def test_a_search_that_goes_on_proposes_what_it_would_have_proposed(name: str) -> None:
    """A sampler seeded once would, in a new process, start again with its first proposals."""
    if name == "cmaes":
        pytest.importorskip("cmaes")
    space, _ = split(parse(RATE, "w=int(interval(1,1000))"))

    def run_on(begun: optuna.Study, count: int) -> None:
        for _ in range(count):
            begun.sampler = studies.make_sampler(name, 7, studies.place_of_next(begun))
            trial = begun.ask(space)
            begun.tell(trial, math.log(trial.params["optimizer.lr"]) ** 2 + trial.params["w"])

    whole, parted = optuna.create_study(), optuna.create_study()
    run_on(whole, 14)
    run_on(parted, 9)
    begun = optuna.load_study(study_name=parted.study_name, storage=parted._storage)
    begun.sampler = studies.make_sampler(name, 7, studies.place_of_next(begun))
    begun.ask(space)  # and this process dies
    studies.retire(begun)
    run_on(begun, 5)
    told = [t.params for t in begun.trials if t.state == TrialState.COMPLETE]
    if name != "cmaes":  # whose seed Optuna mixes with the number of the trial
        assert told == [t.params for t in whole.trials]
    assert len({json.dumps(params) for params in told}) == 14


def test_the_front_of_the_table_is_that_of_comparing_all_with_all() -> None:
    directions = {"a": "maximize", "b": "minimize", "c": "maximize"}
    begun = optuna.create_study(directions=list(directions.values()))
    points = np.random.default_rng(0).normal(size=(60, 3)).round(1)  # ties in an objective, too
    points[30:40] = points[:10]  # and ties in all
    for number, point in enumerate(points):
        trial = begun.ask()
        if number % 10 == 9:
            begun.tell(trial, state=TrialState.FAIL)
        else:
            begun.tell(trial, list(point))
    found = studies.table(begun, list(directions))
    gain = points * [1, -1, 1]
    complete = found["state"] == "COMPLETE"
    for i in range(60):
        rivals = gain[complete]
        beaten = ((rivals >= gain[i]).all(axis=1) & (rivals > gain[i]).any(axis=1)).any()
        assert found["on_front"][i] == (complete[i] and not beaten)
    assert 2 < found["on_front"].sum() < 30


def test_four_processes_open_a_fresh_database_at_once(tmp_path: Path) -> None:
    code = (
        "from landscape_sweep.sweeps.study import open_study; import sys;"
        "open_study(sys.argv[1], sys.argv[2], {'test/loss': 'minimize'}, 'none', {})"
    )
    words = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/o.db"]
    here = {**os.environ, "PYTHONPATH": str(Path(package).parents[1])}
    opened = [subprocess.Popen([*words, str(number)], env=here) for number in range(4)]
    assert [process.wait(timeout=120) for process in opened] == [0] * 4
    assert len(optuna.get_all_study_names(f"sqlite:///{tmp_path}/o.db")) == 4


# ---------------------------------------------------------------- the command


def test_a_search_is_taken_up_and_takes_what_is_finished(command) -> None:
    two = "hydra.sweeper.objectives={test/accuracy: maximize, measure/norm: minimize}"
    grid = ("data=digits", "model=mlp", "model.width=8", "probe=none", "epochs=1")
    assert command("-m", *grid, "batch_size=16,32", "optimizer.lr=0.1").status == 0
    (one, other) = (
        r.info.run_id for r in MlflowClient(uri()).search_runs(["1"], "tags.label != ''")
    )
    lines = (*TINY, "epochs=1", "batch_size=16,32", "optimizer.lr=0.1,0.2", two)
    first = command(*lines, "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2")
    assert first.status == 0
    again = command(*lines, "hydra.sweeper.n_trials=8", "hydra.sweeper.n_jobs=2")
    assert "3 trials have a result, 5 to do" in again.out
    assert again.status == 0
    begun = study()
    assert [t.state for t in begun.trials] == [TrialState.COMPLETE] * 8
    # Four configurations in all: no more than two runs beside those of the grid.
    runs = tracking.load_runs(uri(), experiment_name="landscape_sweep")
    ran = {(t.params["batch_size"], t.params["optimizer.lr"]) for t in begun.trials}
    assert len(MlflowClient(uri()).search_runs(["1"], "tags.label != ''")) == 2 + len(
        ran - {("16", "0.1"), ("32", "0.1")}
    )
    used = {t.user_attrs["run_id"] for t in begun.trials}
    assert used <= set(runs["run_id"])
    assert used & {one, other}
    # What was told is what MLflow has.
    measured = runs.set_index("run_id")
    for trial in begun.trials:
        run = measured.loc[trial.user_attrs["run_id"]]
        assert trial.values == [run["test/accuracy"], run["measure/norm"]]
        assert (str(run["batch_size"]), str(run["optimizer.lr"])) == tuple(
            trial.params[key] for key in ("batch_size", "optimizer.lr")
        )
    sweep_id = again.out.split("search ")[1].split(",")[0]
    sweep = tracking.load_sweep(uri(), sweep=sweep_id)
    assert sweep.objectives == {"test/accuracy": "maximize", "measure/norm": "minimize"}
    assert sweep.trials["number"].tolist() == list(range(8))
    assert set(sweep.runs["run_id"]) == used
    assert "hydra.sweeper.n_trials=8" in sweep.command
    assert Path(f"outputs/sweeps/{sweep_id}/report/pareto_front.png").exists()
    assert f"optuna-dashboard sqlite:///{Path('outputs/optuna.db').absolute()}" in again.out


def test_failed_and_diverged_trials_are_told_as_failed(command) -> None:
    lines = ("epochs=2", "optimizer.lr=0.1,1e30", "batch_size=16,1024", "hydra.sweeper.seed=1")
    sampler = ("hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=6")
    # data.train_size=1000 lets every corner pass but not batch_size=1024: a corner is refused.
    refused = command(*TINY, *lines, *sampler, "data.train_size=1000")
    assert refused.status == 2
    assert refused.err.startswith("landscape_sweep: batch_size=1024: takes at most 1000")
    assert not Path("outputs/optuna.db").exists()
    ended = command(*TINY, *lines[:2], "batch_size=16", *sampler)
    assert ended.status == 0  # a divergence is a result
    begun = study()
    assert len(begun.trials) == 6
    for trial in begun.trials:
        diverged = (
            trial.params["optimizer.lr"] == "1e+30" or float(trial.params["optimizer.lr"]) > 1
        )
        assert trial.state == (TrialState.FAIL if diverged else TrialState.COMPLETE)
        assert trial.user_attrs["outcome"] == ("diverged" if diverged else "completed")
    assert {t.state for t in begun.trials} == {TrialState.FAIL, TrialState.COMPLETE}
    assert "0 to do" in command(*TINY, *lines[:2], "batch_size=16", *sampler).out


def test_a_run_that_fails_decides_the_status_and_is_replaced(
    command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from landscape_sweep import run

    lines = (*TINY, "epochs=1", *SPACE, "hydra.sweeper.n_trials=3")
    whole, calls = run.train, itertools.count()

    def train(*arguments, **keys):
        if next(calls) == 1:
            raise RuntimeError("no room")
        return whole(*arguments, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(run, "train", train)
        ended = command(*lines)
    assert ended.status == 1
    assert "no room" in ended.out
    states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert [t.state for t in study().trials] == states
    assert list(Path("outputs/sweeps").glob("*/report/search_history.png"))
    assert command(*lines).status == 0
    assert [t.state for t in study().trials] == [*states, TrialState.COMPLETE]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra.sweeper.objectives={hesian/trace: minimize}"], "hesian/trace=minimize: is no "),
        (["hydra.sweeper.objectives={hessian/trace: minimize}"], "needs probe.hessian, off in"),
        (
            ["hydra.sweeper.objectives={test/acc: maximize}"],
            "test/acc=maximize: is no metric",
        ),
        (["hydra.sweeper.objectives={test/accuracy: up}"], "takes maximize or minimize"),
        (["hydra.sweeper.sampler=grid"], "hydra.sweeper.sampler=grid: takes one of tpe, random"),
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: takes an integer"),
        (["hydra.sweeper.trials=3"], "hydra.sweeper.trials=3: is not a key"),
        (["hydra.sweeper.storage=oracle9://x"], "hydra.sweeper.storage=oracle9://x: can't be used"),
        (["optimizer.lr=interval(-1,1)"], "optimizer.lr=-1.0: takes a number > 0"),
        (
            ["hydra.sweeper.objectives={gap/loss: minimize}", "hydra.sweeper.pruner=median"],
            "hydra.sweeper.pruner=median: takes test/accuracy or test/loss",
        ),
    ],
)
def test_mistakes_end_in_one_line_before_any_run(command, words: list[str], said: str) -> None:
    ended = command(*TINY, *SPACE, *words)
    assert ended.status == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("outputs/mlartifacts").exists()


def test_the_metrics_of_every_run_are_known_beforehand(command) -> None:
    early = "+probe.early.epoch=1"  # counts the steps to a loss
    few = [text for text in TINY if not text.startswith(("-m", "hydra"))]
    assert command(*few, early, "probe.samples=20", "epochs=40", "optimizer.lr=0.1").status == 0
    client = MlflowClient(f"sqlite:///{Path('outputs/mlflow.db').absolute()}")
    experiment = client.search_experiments(filter_string="name != 'Default'")[0]
    (run,) = client.search_runs([experiment.experiment_id])
    for family, members in ALWAYS.items():
        measured = {m.split("/")[1] for m in run.data.metrics if m.startswith(f"{family}/")}
        assert members == () or measured == set(members)


def test_an_objective_that_no_run_measures_is_said_after_the_first(command) -> None:
    ended = command(*TINY, *SPACE, "epochs=1", "hydra.sweeper.objectives={measure/nrom: maximize}")
    assert ended.status == 2
    assert "hydra.sweeper.objectives.measure/nrom=maximize: is not measured" in ended.err
    assert "measure/norm" in ended.err
    assert [t.state for t in study().trials] == [TrialState.FAIL]
    assert list(Path("outputs/sweeps").glob("*/report/report.html"))


def test_an_interval_in_a_grid_is_said(command) -> None:
    ended = command("-m", *TINY[2:], RATE)
    assert ended.status == 2
    assert "takes an interval only with hydra/sweeper=optuna" in ended.err


def test_hopeless_trials_end_early_by_the_rule_of_the_pruner(command) -> None:
    ended = command(
        *(*TINY, "epochs=6", "optimizer.lr=tag(log,interval(1e-4,1))", "batch_size=16"),
        *("hydra.sweeper.pruner=median", "hydra.sweeper.n_trials=12"),
    )
    assert ended.status == 0
    begun = study()
    pruned = [t for t in begun.trials if t.state == TrialState.PRUNED]
    assert pruned
    assert len(begun.trials) == 12
    client = MlflowClient(uri())
    for trial in begun.trials:
        reported = trial.intermediate_values
        history = client.get_metric_history(trial.user_attrs["run_id"], "test/accuracy")
        assert reported == {point.step: point.value for point in history}
        # MedianPruner: pruned where its best so far is below the median of the earlier completed
        # trials at this epoch, from the sixth trial on.
        earlier = [t for t in begun.trials[: trial.number] if t.state == TrialState.COMPLETE]
        below = [
            epoch
            for epoch in reported
            if len(earlier) >= 5
            and max(v for e, v in reported.items() if e <= epoch)
            < np.median([t.intermediate_values[epoch] for t in earlier])
        ]
        assert below == ([max(reported)] if trial in pruned else [])
        run = client.get_run(trial.user_attrs["run_id"])
        assert run.data.tags["run.outcome"] == ("pruned" if trial in pruned else "completed")
    assert not list(Path("outputs/checkpoints").glob("*"))


# ---------------------------------------------------------------- kill -9


LONG = (
    *(*TINY, "epochs=60", "data.augment=flip_crop", "stop.checkpoint_every=1", *SPACE),
    *("hydra.sweeper.n_trials=4", "hydra.sweeper.seed=3"),
)


def start(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    here = {**os.environ, "PYTHONPATH": str(Path(package).parents[1])}
    words = [sys.executable, "-m", "landscape_sweep", *LONG]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            words, cwd=folder, env=here, stdout=output, stderr=subprocess.STDOUT
        )


def test_a_search_killed_in_a_trial_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    first, second = start(undisturbed), start(killed)
    deadline, output = time.monotonic() + 300, killed / "output.txt"

    def in_the_third_trial() -> bool:
        said = output.read_text()
        return "trial 2:" in said and "  epoch  3" in said.rpartition("trial 2:")[2]

    while not in_the_third_trial():
        assert second.poll() is None, output.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(second.pid, signal.SIGSTOP)  # it holds the search and does not get on
    rival = start(killed)
    assert rival.wait(timeout=120) == 2
    assert f"is being run by process {second.pid} on" in output.read_text()
    os.kill(second.pid, signal.SIGKILL)
    assert second.wait() == -signal.SIGKILL
    assert start(killed).wait(timeout=300) == 0
    said = output.read_text()
    assert "trial 2 was left running by a process that died: again" in said
    assert "going on at step" in said
    assert first.wait(timeout=300) == 0

    begun = study(killed)
    assert [t.state.name for t in begun.trials] == [
        *("COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE")
    ]
    assert begun.trials[3].user_attrs["retry_of"] == 2
    results = ["outcome", "optimizer.lr", "batch_size", "test/accuracy"]
    here, there = (trials(folder) for folder in (killed, undisturbed))
    done = here[here["state"] == "COMPLETE"].reset_index(drop=True)
    pd.testing.assert_frame_equal(done[results], there[results])
    # Not one finished run was made twice: five runs, of which the killed one is interrupted.
    runs = MlflowClient(uri(killed)).search_runs(["1"], "tags.`config.hash` != ''")
    outcomes = sorted(run.data.tags["run.outcome"] for run in runs)
    assert outcomes == ["completed"] * 4 + ["interrupted"]
    folders = {file.name for file in killed.glob("outputs/sweeps/*/*") if file.name.isdigit()}
    assert folders == {"0", "1", "2", "3", "4"}  # a folder a trial, none overwritten
