"""Disks of a few kilobytes."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Answer = subprocess.CompletedProcess


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[[str, Sequence[str]], Answer]:
    """Run a command in a disk of its own, which goes with it: small_disk("1m", ["df", "."])."""
    disk = tmp_path / "disk"
    disk.mkdir()
    inside = "mount -t tmpfs -o size={} tmpfs {} && cd {} && "

    def run(size: str, command: Sequence[str]) -> Answer:
        words = inside.format(size, *[shlex.quote(str(disk))] * 2) + shlex.join(command)
        return subprocess.run(
            ["unshare", "-rm", "sh", "-c", words],
            check=False, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    if shutil.which("unshare") is None or run("1m", ["true"]).returncode:
        pytest.skip("a small disk needs `unshare -rm` and tmpfs")
    return run
