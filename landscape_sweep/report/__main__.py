"""``python -m landscape_sweep.report sweep=ID``: analysis again, over finished runs."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

USAGE = """python -m landscape_sweep.report sweep=ID | experiment_name=NAME [key=value …]

  sweep            a sweep's id, as its parent run in MLflow is named
  experiment_name  all runs of an MLflow experiment
  outputs          folder where runs wrote (outputs)
  tracking.uri     MLflow tracking URI (sqlite:///OUTPUTS/mlflow.db)
  device           accepted for symmetry; nothing here computes on a device"""

KEYS = ("sweep", "experiment_name", "outputs", "tracking.uri", "device")


def main(arguments: list[str]) -> int:
    """Write the report of a sweep or an experiment again; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    keys: dict[str, str] = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in KEYS or not value:
            near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.0)[0]
            print(
                f"landscape_sweep.report: {argument}: takes {', '.join(KEYS)}, each as key=value; "
                f"the nearest is {near}",
                file=sys.stderr,
            )
            return 2
        keys[key] = value
    if ("sweep" in keys) == ("experiment_name" in keys):
        print(
            "landscape_sweep.report: takes either sweep=ID or experiment_name=NAME", file=sys.stderr
        )
        return 2

    from landscape_sweep import tracking
    from landscape_sweep.config import ConfigError
    from landscape_sweep.report import publish

    outputs = keys.get("outputs", "outputs")
    uri = keys.get("tracking.uri", f"sqlite:///{outputs}/mlflow.db")
    try:
        sweep = tracking.load_sweep(uri, keys.get("sweep"), keys.get("experiment_name"))
    except ConfigError as error:
        print(f"landscape_sweep.report: {error}", file=sys.stderr)
        return 2
    publish(sweep, uri, sweep.parent_run_id, Path(outputs, "sweeps", sweep.id, "report"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
