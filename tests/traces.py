"""The losses of the first 20 steps of each built-in model, float32 on the CPU: `python tests/traces.py > before`.

A change that should leave the numbers alone leaves this output alone, on one machine and one version of torch. Between
processors it differs, so it is not stored.
"""

import tempfile
from pathlib import Path

import torch
from test_conformance import SMALL

from translate import testing

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, options in SMALL.items():
        with tempfile.TemporaryDirectory() as folder:
            trainer = testing.Case(name, Path(folder), **options).trainer(steps=20)
            for step in range(1, 21):
                trainer.advance()
                for term, value in trainer.stepper.records.read().items():
                    print(name, step, term, value.hex())
