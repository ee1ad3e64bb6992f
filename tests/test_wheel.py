"""A built wheel works in an empty folder: its configuration travels inside it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(600)
def test_a_wheel_runs_in_a_new_environment_and_an_empty_folder(tmp_path: Path) -> None:
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    environment, empty = tmp_path / "environment", tmp_path / "empty"
    empty.mkdir()
    call(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    # The new environment sees the dependencies that are installed here, torch among them, but
    # not this checkout: its packages come first, and an editable install's hook is not read.
    site = next((environment / "lib").glob("python*/site-packages"))
    call(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel)
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    where = "import landscape_sweep; print(landscape_sweep.__file__)"
    assert str(site) in call(python, "-c", where, cwd=empty)
    overrides = ("data=digits", "model.width=4", "epochs=1", "probe=fast", "probe.samples=20")
    call(python, "-m", "landscape_sweep", *overrides, cwd=empty)
    assert (empty / "outputs" / "mlflow.db").exists()


def call(*arguments: object, cwd: Path | None = None) -> str:
    words = [str(argument) for argument in arguments]
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
