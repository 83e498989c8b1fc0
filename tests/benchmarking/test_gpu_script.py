"""The script that measures a GPU runs to its end where there is none, with tiny networks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_the_rehearsal_makes_every_check(tmp_path):
    file = tmp_path / "found.json"
    words = [sys.executable, str(SCRIPT), "--cpu-rehearsal", "--json", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())
    assert len(found["bench"]) == 3
    assert {check["name"].partition(":")[0].split(",")[0] for check in found["checks"]} >= {
        "gradients of cyclegan",
        "gradients of pix2pix",
        "gradients of stylegan2",
        "data wait of fit on a folder",
    }
    assert all(check["found"] is not None for check in found["checks"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--cpu-rehearsal" in done.stdout
