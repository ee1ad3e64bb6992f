"""Training fetches no pages anew once its tensors have been allocated."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

STEP = """
import resource, sys, torch
from landscape_sweep.heap import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def work():
    x = torch.ones(12 * 2**20)  # 48 MiB
    for _ in range(3):
        x = x + 1
for _ in range(6):  # until the heap has room for all
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", STEP, how], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_freed_tensors_are_used_again() -> None:
    pages = 48 * 2**20 // 4096
    assert faults("default") >= pages // 512  # more than one, where pages are huge ones
    assert faults("kept") < pages // 512
