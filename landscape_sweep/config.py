"""The schema: every configuration key, its type, its unit and its bounds.

Defaults live in ``conf/`` where users read them; this file says what is allowed. ``load``
turns what Hydra composed into a typed ``Config`` and ends with a ``ConfigError`` (one line:
key, value, what is allowed) before any work is done.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

RESULT_VERSION = 1
"""Raised when a change of this package changes results; part of every ``config.hash``."""

NOT_AT_THE_END = ("connectivity", "dynamics", "early")
"""Probes that look at a pair of networks, or at one that is still in training."""


class ConfigError(Exception):
    """A user's mistake in one key, told in one line.

    Attributes:
        key: the dotted key, for example ``optimizer.lr``.
        value: what it got.
        allowed: what it takes, in words.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}{'=' * bool(key)}{_shown(value)}: {allowed}")
        self.key, self.value, self.allowed = key, value, allowed


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


def _key(
    text: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: Sequence[str] = (),
    default: Any = dataclasses.MISSING,
) -> Any:
    """A field of the schema: what it is, and the bounds that its value must keep."""
    bounds = {"low": low, "above": above, "high": high, "below": below}
    metadata = {"text": text, "choices": tuple(choices), **bounds}
    return field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class Model:
    """The network. Each option of the group lists the keys that it takes."""

    name: str = _key("file in landscape_sweep/models")
    width: int = _key("channels of the first stage, or units of a hidden layer", low=1)
    depth: int | None = _key("weight matrices", low=1, default=None)
    norm: str | None = _key("normalisation", choices=("batch", "layer", "none"), default=None)
    skip: bool | None = _key("skip connections", default=None)
    activation: str | None = _key(
        "activation function", choices=("relu", "tanh", "gelu"), default=None
    )


@dataclass(kw_only=True)
class Optimizer:
    """The update rule and its learning rate over time."""

    name: str = _key("update rule", choices=("sgd", "adamw"))
    lr: float = _key("initial learning rate", above=0)
    weight_decay: float = _key("L2 coefficient", low=0)
    schedule: str = _key("learning rate by step", choices=("cosine", "constant"))
    momentum: float | None = _key("heavy-ball momentum", low=0, below=1, default=None)
    beta1: float | None = _key("decay of the mean gradient", low=0, below=1, default=None)
    beta2: float | None = _key("decay of the squared gradient", low=0, below=1, default=None)


@dataclass(kw_only=True)
class Data:
    """Images and labels."""

    name: str = _key("file in landscape_sweep/data")
    classes: int | None = _key("classes kept, the first ones; null keeps all", low=2, default=None)
    train_size: int | None = _key("training images, class-balanced; null takes all", low=1)
    label_noise: float = _key("fraction of training labels drawn at random", low=0, high=1)
    augment: str = _key("augmentation of training batches", choices=("none", "flip_crop"))
    seed: int = _key("seed of the label noise", low=0)
    root: str | None = _key("folder that holds data sets", default=None)
    path: str | None = _key("the user's own npz file", default=None)
    fallback: str | None = _key("data set used where the named one can't be had", default=None)


@dataclass(kw_only=True)
class Hessian:
    """Top eigenvalues and trace (framework, algorithm 1 and section 5.2)."""

    k: int = _key("top eigenvalues", low=1)
    iterations: int = _key("Lanczos steps at most", low=1)
    tol: float = _key("relative residual of a converged eigenvalue", above=0, below=1)
    product: str = _key(
        "Hessian-vector product: exact, or eq. 13", choices=("exact", "finite_difference")
    )
    trace_error: float = _key("relative standard error of an estimated trace", above=0, below=1)
    density: int = _key("start vectors of the spectral density; 0 leaves it out", low=0)
    algorithm_1: bool = _key(
        "also run the paper's algorithm 1 as written, to see how far it is off"
    )


@dataclass(kw_only=True)
class Sharpness:
    """S_rho of eq. 3 by algorithm 2, the maximum over the ball (eq. 2), and the mean."""

    rho: float = _key("radius in parameter space", above=0)
    adaptive_rho: float = _key("radius in units of each weight's magnitude", above=0)
    steps: int = _key("steps of an ascent; 0 leaves the maxima out", low=0)
    restarts: int = _key("random starts of an ascent, beside eq. 3's point", low=0)
    sigma: float = _key("random deviation as a share of each weight's magnitude", above=0)
    draws: int = _key("random perturbations, each with its opposite; 0 leaves them out", low=0)


@dataclass(kw_only=True)
class Surface:
    """The loss on a plane through the final weights (framework, section 4.4)."""

    points: int = _key("grid points a side, odd so that the centre is one of them", low=3, high=101)
    radius: float = _key("half side of the square over the norm of the weights", above=0)
    directions: str = _key(
        "what spans the plane",
        choices=("random", "filter", "hessian", "trajectory"),
        default="random",
    )


@dataclass(kw_only=True)
class Profile:
    """The loss along the gradient, leading eigenvectors and random directions."""

    points: int = _key("points of a line, odd so that the centre is one of them", low=3)
    rise: float = _key("rise of the loss that a line reaches out to, by its quadratic", above=0)
    eigenvectors: int = _key("leading eigenvectors of the Hessian", low=0)
    random: int = _key("random directions", low=0)


@dataclass(kw_only=True)
class Connectivity:
    """Loss along paths between two runs that differ only in seed (section 4.3)."""

    points: int = _key("points along a path, both ends among them", low=3)
    bezier_steps: int = _key("SGD steps that bend the curve; 0 leaves it out", low=0)
    bezier_lr: float = _key("learning rate that bends the curve", above=0)
    plane: int = _key(
        "grid points a side, odd, of the plane through three seeds; 0 leaves it out",
        low=0,
        high=101,
        default=0,
    )


@dataclass(kw_only=True)
class GradientNoise:
    """tr Sigma of per-sample gradients, the noise scale, top eigenvalues of Sigma."""

    k: int = _key("top eigenvalues of Sigma; 0 leaves them out", low=0)


@dataclass(kw_only=True)
class Dynamics:
    """λmax, tr Sigma, gradient norm and sharpness during training."""

    every: int = _key("epochs between two looks; the first is at initialisation", low=1)


@dataclass(kw_only=True)
class Early:
    """Curvature, noise and accuracy after the first epochs, and the steps to a loss of 0.5."""

    epoch: int = _key("measured at the end of this epoch", low=1)


@dataclass(kw_only=True)
class Rank:
    """Ranks of curvature matrices against eq. 12 (proposition 2)."""

    samples: int = _key("images whose Jacobian is formed, from the probe's", low=1, high=2000)


@dataclass(kw_only=True)
class Conditioning:
    """Conditioning of the Gauss-Newton matrix against eq. 11 (proposition 1)."""

    samples: int = _key("images whose Jacobian is formed, from the probe's", low=1, high=2000)
    alpha: float = _key("ridge of the effective dimension, as a weight decay", above=0)


@dataclass(kw_only=True)
class PacBayes:
    """A PAC-Bayes bound that holds, in place of eqs. 9 and 10 (theorem 2)."""

    sigma_min: float = _key("smallest deviation of the weights' perturbation", above=0)
    sigma_max: float = _key("largest deviation of the weights' perturbation", above=0)
    sigmas: int = _key("deviations tried, spaced evenly in logarithms", low=1)
    draws: int = _key("perturbations drawn", low=1)
    delta: float = _key("probability with which the bound may fail", above=0, below=1)


@dataclass(kw_only=True)
class Stationarity:
    """SGD continued at constant rate: is it stationary, how do its weights vary (theorem 1)."""

    k: int = _key("leading eigenvectors of the Hessian along which it is watched", low=1)
    burn_in: int = _key("steps before the Hessian is taken", low=0)
    steps: int = _key("steps that are watched", low=20)
    replacement: bool = _key("draw each batch anew; false goes through shuffled epochs")


@dataclass(kw_only=True)
class Measures:
    """Norms and margins that geometry has to beat as a predictor (question 3); no keys."""


@dataclass(kw_only=True)
class Probe:
    """What is measured at the final weights; a probe that is absent is not run."""

    name: str = _key("the preset's name")
    samples: int = _key("training images that all probes see, class-balanced", low=2)
    hessian: Hessian | None = None
    sharpness: Sharpness | None = None
    surface: Surface | None = None
    profile: Profile | None = None
    gradient_noise: GradientNoise | None = None
    rank: Rank | None = None
    conditioning: Conditioning | None = None
    pac_bayes: PacBayes | None = None
    measures: Measures | None = None
    stationarity: Stationarity | None = None
    connectivity: Connectivity | None = None
    dynamics: Dynamics | None = None
    early: Early | None = None


@dataclass(kw_only=True)
class Stop:
    """What ends training."""

    steps: int | None = _key("steps in all, in place of epochs", low=0)
    train_loss: float | None = _key("clean training loss that ends training", above=0)
    check_every: int = _key("steps between two looks at the training loss", low=1)
    checkpoint_every: float | None = _key(
        "epochs between two checkpoints, fractions allowed; null goes by time alone", above=0
    )
    checkpoint_minutes: float | None = _key(
        "minutes after which a checkpoint is made all the same", above=0, default=None
    )


@dataclass(kw_only=True)
class Tracking:
    """Where results are logged."""

    uri: str = _key("MLflow tracking URI")
    experiment_name: str = _key("MLflow experiment")


@dataclass(kw_only=True)
class SweepLink:
    """Ties a run to its sweep; written by the sweeper, not by users."""

    id: str | None = _key("the sweep's identity", default=None)
    parent_run_id: str | None = _key("MLflow run of the sweep", default=None)
    varied: str | None = _key("swept keys, separated by spaces", default=None)
    number: int = _key("place in the grid", default=0)


@dataclass(kw_only=True)
class Config:
    """One run, complete."""

    model: Model
    optimizer: Optimizer
    data: Data
    probe: Probe
    stop: Stop
    tracking: Tracking
    sweep: SweepLink
    loss: str = _key("what training minimises", choices=("cross_entropy", "mse"))
    batch_size: int = _key("images a step", low=1)
    epochs: int = _key("passes over the training set", low=0)
    seed: int = _key("seed of initialisation and data order", low=0, high=2**32 - 1)
    fork_step: int | None = _key("steps that runs of one fork_seed share", low=0)
    fork_seed: int = _key("seed of what is shared before the fork", low=0, high=2**32 - 1)
    device: str = _key("where to compute", choices=("auto", "cpu", "cuda"))
    deterministic: bool = _key("identical bits from identical configurations")
    threads: int | None = _key("CPU threads; null chooses by the network's size", low=1)
    resume: bool = _key("skip what an earlier call of the same sweep has finished")
    outputs: str = _key("folder where runs write")
    dry_run: bool = _key("say what would run and for how long, and stop", default=False)
    rerun: str | None = _key("run whose stored configuration is the base of this one", default=None)


@dataclass(kw_only=True)
class Search:
    """``hydra.sweeper`` where ``hydra/sweeper=optuna``; objectives are read by the sweeper."""

    sampler: str = _key("what proposes trials", choices=("tpe", "random", "qmc", "cmaes", "nsga2"))
    seed: int = _key("seed of the sampler", low=0, high=2**32 - 1)
    n_trials: int = _key("trials that end with a result, earlier calls' included", low=1)
    n_jobs: int = _key("trials at a time, for launchers that run several", low=1)
    pruner: str = _key("what ends hopeless trials early", choices=("none", "median", "hyperband"))
    storage: str | None = _key("database URL, or a journal's file", default=None)
    study_name: str | None = _key("study that is begun or gone on with", default=None)


def load_search(given: dict[str, Any]) -> Search:
    """The typed settings of a search.

    Raises:
        ConfigError: as ``load``.
    """
    search = _typed(Search, given, "hydra.sweeper.")
    assert isinstance(search, Search)
    return search


def load(composed: DictConfig) -> Config:
    """The typed configuration of one run.

    Args:
        composed: what Hydra composed, without its ``hydra`` node.

    Raises:
        ConfigError: an unknown key, a wrong type, or a value out of bounds.
    """
    try:
        given = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error.full_key), "?", _first_line(error)) from error
    assert isinstance(given, dict)
    config = _typed(Config, {str(k): v for k, v in given.items() if k != "experiment"}, "")
    assert isinstance(config, Config)
    for name in ("surface", "profile"):
        part = getattr(config.probe, name)
        if part and part.points % 2 == 0:
            raise ConfigError(f"probe.{name}.points", part.points, "takes an odd number")
    joined = config.probe.connectivity
    if joined and joined.plane and (joined.plane < 3 or joined.plane % 2 == 0):
        raise ConfigError("probe.connectivity.plane", joined.plane, "takes 0 or an odd number ≥ 3")
    bound = config.probe.pac_bayes
    if bound and bound.sigma_min > bound.sigma_max:
        raise ConfigError(
            "probe.pac_bayes.sigma_min",
            bound.sigma_min,
            f"takes at most probe.pac_bayes.sigma_max={bound.sigma_max}",
        )
    for name in ("rank", "conditioning"):
        keys = getattr(config.probe, name)
        if keys and keys.samples > config.probe.samples:
            raise ConfigError(
                f"probe.{name}.samples",
                keys.samples,
                f"takes at most probe.samples={config.probe.samples}",
            )
    if config.probe.stationarity and config.optimizer.name != "sgd":
        raise ConfigError("optimizer.name", config.optimizer.name, "probe.stationarity takes sgd")
    if config.probe.sharpness and config.probe.sharpness.draws == 1:
        raise ConfigError("probe.sharpness.draws", 1, "takes 0, or 2 and more (standard error)")
    return config


def _typed(schema: type, given: dict[str, Any], prefix: str) -> Any:
    """``given`` as an instance of the dataclass ``schema``, checked key by key."""
    known = {f.name: f for f in dataclasses.fields(schema)}
    for name, value in given.items():
        if name not in known:
            raise unknown_key(f"{prefix}{name}", value)
    values = {}
    for name, spec in known.items():
        key = f"{prefix}{name}"
        if name not in given:
            if spec.default is dataclasses.MISSING:
                raise ConfigError(key, None, f"is missing; takes {_takes(spec)}")
            continue
        part, value = _part(spec), given[name]
        if part is not None:
            if value is None:
                continue  # a probe that is switched off
            if not isinstance(value, dict):
                raise ConfigError(key, value, f"takes {_group(part)}")
            values[name] = _typed(part, value, f"{key}.")
        else:
            values[name] = _checked(key, value, spec)
    return schema(**values)


_TYPES: dict[str, tuple[type, str]] = {
    "int": (int, "an integer"),
    "float": (float, "a number"),
    "bool": (bool, "true or false"),
    "str": (str, "a text"),
}


_BOUNDS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "low": ("≥", operator.ge),
    "above": (">", operator.gt),
    "high": ("≤", operator.le),
    "below": ("<", operator.lt),
}


def _kind(spec: dataclasses.Field[Any]) -> tuple[str, bool]:
    """The name of a key's type, and whether null is one of its values."""
    kind = str(spec.type)
    return kind.removesuffix(" | None"), kind.endswith(" | None")


def _part(spec: dataclasses.Field[Any]) -> type | None:
    """The dataclass of a group of keys; None for a single key."""
    found = globals().get(_kind(spec)[0])
    return found if dataclasses.is_dataclass(found) and isinstance(found, type) else None


def _group(schema: type) -> str:
    """What a group of keys takes, in words; a probe may have none."""
    names = ", ".join(f.name for f in dataclasses.fields(schema))
    return f"the keys {names}" if names else "{}: it has no keys"


def _checked(key: str, value: object, spec: dataclasses.Field[Any]) -> object:
    """One value, converted without loss to its type and held against its bounds."""
    kind, optional = _kind(spec)
    if value is None and optional:
        return None
    wanted = _TYPES[kind][0]
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind == "str" and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    bounds = spec.metadata
    good = isinstance(value, wanted) and (kind == "bool") == isinstance(value, bool)
    if good and isinstance(value, int | float) and not isinstance(value, bool):
        good = math.isfinite(value) and all(
            keeps(value, bounds[name])
            for name, (_, keeps) in _BOUNDS.items()
            if bounds[name] is not None
        )
    if good and bounds["choices"]:
        good = value in bounds["choices"]
    if not good:
        raise ConfigError(key, value, f"takes {_takes(spec)}")
    return value


def _takes(spec: dataclasses.Field[Any]) -> str:
    """What a key takes, in words, from its type and bounds."""
    kind, optional = _kind(spec)
    if _part(spec) is not None:
        return "a group of keys"
    bounds = spec.metadata
    if bounds["choices"]:
        words = "one of " + ", ".join(bounds["choices"])
    else:
        words = _TYPES[kind][1]
        limits = [
            f"{sign} {bounds[name]}"
            for name, (sign, _) in _BOUNDS.items()
            if bounds[name] is not None
        ]
        words += " " + " and ".join(limits) if limits else ""
    words += ", or null" if optional and spec.default is dataclasses.MISSING else ""
    return f"{words} ({bounds['text']})"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def known_keys(schema: type = Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every dotted key of the schema, with what it is in words; a group has no words."""
    for spec in dataclasses.fields(schema):
        yield f"{prefix}{spec.name}", spec.metadata.get("text", "")
        if (part := _part(spec)) is not None:
            yield from known_keys(part, f"{prefix}{spec.name}.")


def unknown_key(key: str, value: object) -> ConfigError:
    """The error for a key that does not exist, with the nearest one that does.

    Nearest is one whose last word is the same, else one that its last word describes
    (``learning_rate``), and of several the one that is spelt most alike.
    """
    search = key.startswith("hydra.sweeper.")
    keys = dict(known_keys(Search, "hydra.sweeper.") if search else known_keys())
    if key in keys:
        group = "hydra/sweeper" if search else key.split(".")[0]
        adds = f"; +{key}={_shown(value)} adds it" if group == "probe" else ""
        return ConfigError(key, value, f"does not apply to this choice of {group}{adds}")
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [known for known in keys if known.rsplit(".", 1)[-1] == leaf]
    words = re.compile(rf"\b{re.escape(leaf.replace('_', ' '))}\b")
    described = [known for known, text in keys.items() if words.search(text)]
    (near,) = difflib.get_close_matches(key, same_leaf or described or list(keys), 1, cutoff=0.0)
    return ConfigError(key, value, f"is not a key; the nearest is {near}")


def explain(error: BaseException, overrides: Sequence[str] = ()) -> ConfigError | None:
    """What Hydra or the file system says of a user's mistake, as one ``ConfigError``.

    None when the error is not a user's mistake in a key. ``overrides`` is the command line,
    from which the value of an unknown key is told.
    """
    if isinstance(error, ConfigError):
        return error
    text = str(error)
    for link in _causes(error):
        options = getattr(link, "options", None)
        missing = getattr(link, "missing_cfg_file", None)
        if options is not None and missing:
            group, _, option = str(missing).rpartition("/")
            return ConfigError(group, option, "takes one of " + ", ".join(sorted(options)))
    if found := re.search(r"Could not (?:override|append to|delete) '([^']*)'", text):
        key = found[1].split("@")[0]
        return unknown_key(key, _given(key, overrides))
    if found := re.search(r"Multiple values for (\S+)\.|(\S+) appears more than once", text):
        group = found[1] or found[2]
        value = _given(group, overrides)
        return ConfigError(group, value, f"takes no +, for it is there: {group}={value}")
    if found := re.search(r"Error merging override (\S+?)=(.*)", text):
        return ConfigError(found[1].lstrip("+~"), found[2], _first_line(error.__cause__ or error))
    if found := re.search(r"Ambiguous value for argument '(.*?)=(.*)'", text):
        return ConfigError(found[1], found[2], "takes one value; add -m to sweep over several")
    if isinstance(error, OverrideParseException):
        return ConfigError("", error.override, "is not of the form key=value that Hydra reads")
    if isinstance(error, OSError) and error.filename is not None:
        return ConfigError("outputs", error.filename, f"can't be written: {error.strerror}")
    return None


def _given(key: str, overrides: Sequence[str]) -> str:
    """The value of a key on the command line; empty where it is not there."""
    pairs = (text.lstrip("+~").partition("=") for text in overrides)
    return next((value for name, _, value in pairs if name == key), "")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def flat(config: Config) -> dict[str, Any]:
    """Dotted keys and values, without the keys that an option does not take."""

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for spec in dataclasses.fields(node):
            value = getattr(node, spec.name)
            if dataclasses.is_dataclass(value) and not dataclasses.fields(value):
                yield f"{prefix}{spec.name}", True  # a probe without keys: switched on
            elif dataclasses.is_dataclass(value):
                yield from walk(value, f"{prefix}{spec.name}.")
            elif not (value is None and spec.default is None):
                yield f"{prefix}{spec.name}", value

    return dict(walk(config, ""))


def as_json(config: Config) -> str:
    """The resolved configuration, from which ``from_json`` makes it again."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """The configuration that ``as_json`` wrote.

    Raises:
        ConfigError: a key that this version does not have.
    """
    config = _typed(Config, json.loads(text), "")
    assert isinstance(config, Config)
    return config


_NOT_IDENTITY = (
    *("device", "threads", "resume", "outputs", "tracking.", "sweep.", "rerun", "dry_run"),
    *("data.root", "data.path", "data.fallback", "probe.name", "stop.checkpoint_"),
)
"""Keys that say where a run computes and writes, or are a name for what other keys say."""


def identity(config: Config) -> dict[str, Any]:
    """The part of a configuration that decides its result: not where it runs or is written."""
    return {k: v for k, v in flat(config).items() if not k.startswith(_NOT_IDENTITY)}


def training_identity(config: Config) -> dict[str, Any]:
    """The part that decides the trained weights: everything but the probes."""
    return {k: v for k, v in identity(config).items() if not k.startswith("probe.")}


def probes_of_training(config: Config) -> dict[str, Any]:
    """Keys of the probes that look at the network while it is trained.

    Stored weights can't answer these; a run whose ``train_hash`` is the same, and which has
    measured with the same keys, can.
    """
    keys = {
        k: v for k, v in flat(config).items() if k.startswith(("probe.early", "probe.dynamics"))
    }
    return {**keys, "probe.samples": config.probe.samples} if keys else {}


def probes_at_one_model(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and keys of every probe that is switched on and looks at the final network."""
    for spec in dataclasses.fields(config.probe):
        keys = getattr(config.probe, spec.name)
        if dataclasses.is_dataclass(keys) and spec.name not in NOT_AT_THE_END:
            yield spec.name, dataclasses.asdict(keys)  # type: ignore[arg-type]


def needs_trajectory(config: Config) -> bool:
    """Whether a probe looks at the weights along training."""
    return config.probe.surface is not None and config.probe.surface.directions == "trajectory"


def in_training(config: Config) -> list[str]:
    """The probes that look at the network in training, which stored weights can't answer."""
    named = ("early", "dynamics")
    found = [name for name in named if getattr(config.probe, name) is not None]
    return found + ["surface"] * needs_trajectory(config)


def without_probes(config: Config, names: Sequence[str]) -> Config:
    """The same configuration with these probes switched off."""
    off: dict[str, Any] = dict.fromkeys(names)
    return dataclasses.replace(config, probe=dataclasses.replace(config.probe, **off))


def config_hash(config: Config, data_name: str) -> str:
    """Twelve hexadecimal digits that name the result of a configuration, probes included.

    ``data_name`` is the data set that was really there, so that a run on the fallback is never
    taken for a run on the data set that was asked for.
    """
    return _result_digest(identity(config), data_name)


def train_hash(config: Config, data_name: str) -> str:
    """Twelve hexadecimal digits that name the trained weights of a configuration."""
    return _result_digest(training_identity(config), data_name)


def _result_digest(keys: dict[str, Any], data_name: str) -> str:
    parts = {**keys, "data.loaded": data_name, "result_version": RESULT_VERSION}
    return digest(json.dumps(parts, sort_keys=True))


def digest(text: str) -> str:
    """Twelve hexadecimal digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
