"""A step that the memory does not hold: what took it, and which flags take less."""

import pytest
import torch

from translate import testing
from translate.errors import MemoryFullError
from translate.training.memory import explain_out_of_memory

SMALL = {
    "cyclegan": {"generator": "resnet(blocks=1, width=4)", "discriminator": "patchgan(layers=1, width=4)"},
    "pix2pix": {"generator": "unet(width=4)", "discriminator": "patchgan(layers=1, width=4)"},
}


def hungry(batch, outputs):
    """Asks the allocator for more than any machine has."""
    return {"x": torch.empty(2**58).sum()}


@pytest.mark.parametrize(
    ("model", "options", "remedies"),
    [
        ("cyclegan", {"batch": 4}, "--micro-batches 2 (the same gradient), --batch 2, --size 16"),
        ("cyclegan", {"batch": 4, "micro_batches": 2}, "--micro-batches 4 (the same gradient), --batch 2, --size 16"),
        ("cyclegan", {"batch": 1}, "--size 16"),
        ("pix2pix", {"batch": 4}, "--batch 2, --size 16"),  # its batch norm sees the whole batch
    ],
)
def test_running_out_of_memory_names_what_took_it_and_what_takes_less(tmp_path, model, options, remedies):
    trainer = testing.Case(model, tmp_path, **SMALL[model]).trainer(precision="bf16", **options)
    trainer.advance()
    trainer.stepper.players[0].moves[0].loss = hungry
    said = r"^Memory ran out in step 2 on cpu\. Weights take [\d.]+ kB"
    with pytest.raises(MemoryFullError, match=said) as caught, explain_out_of_memory(trainer):
        trainer.advance()
    assert str(caught.value).endswith(f"What takes less: {remedies}; start again with these and another --run.")


def test_other_errors_stay_what_they_are(tmp_path):
    trainer = testing.Case("pix2pix", tmp_path, **SMALL["pix2pix"]).trainer()
    with pytest.raises(RuntimeError, match="something else"), explain_out_of_memory(trainer):
        raise RuntimeError("something else")
