"""How long the command line takes to answer: `python tests/benchmarks/startup.py`. Prints a table, asserts nothing."""

import statistics
import subprocess
import sys
import time

REPEATS = 7
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import torch'": [sys.executable, "-c", "import torch"],
    "translate --version": [sys.executable, "-m", "translate", "--version"],
    "translate --help": [sys.executable, "-m", "translate", "--help"],
    "translate fit --help": [sys.executable, "-m", "translate", "fit", "--help"],
    "translate fit cyclegan --help": [sys.executable, "-m", "translate", "fit", "cyclegan", "--help"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    for name, command in COMMANDS.items():
        seconds(command)  # warms the file cache
        print(f"{name:32} {statistics.median(seconds(command) for _ in range(REPEATS)):6.2f} s")
