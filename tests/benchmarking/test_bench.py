"""What a benchmark runs and reports; no test asserts a time."""

import math

import pytest
import torch
from test_conformance import SMALL

from translate.benchmarking.measuring import Operations, Row, bench, fastest, peak_in_a_process
from translate.benchmarking.variants import VariantRun, variants
from translate.plugins import registry
from translate.training.config import FitConfig

CPU = torch.device("cpu")
NAMES = [variant.name for variant in variants(CPU)]
MLP = {"generator": "mlp(width=16)", "discriminator": "mlp(width=16)", "latents": 8}


def config(model="gan", options=MLP, **engine):
    return FitConfig(model=model, options=options, **{"size": 32, "batch": 2, **engine})


@pytest.mark.parametrize("model", registry.model_names())
def test_every_model_runs_in_every_row(model):
    for variant in variants(CPU):
        if not variant.compiled:
            run = VariantRun(variant, config(model, SMALL[model]), CPU)
            before = [parameter.detach().clone() for parameter in run.model.parameters()]
            for _ in range(run.steps_until_all_moved):
                run.advance()
            moved = [not torch.equal(*pair) for pair in zip(before, run.model.parameters(), strict=True)]
            assert sum(moved) > len(moved) / 2, variant


@pytest.mark.parametrize(("model", "cycle"), [("cyclegan", 1), ("wgan-gp", 5), ("stylegan2", 16)])
def test_a_cycle_has_every_move_and_penalty_once_at_least(model, cycle):
    assert VariantRun(variants(CPU)[0], config(model, SMALL[model]), CPU).cycle == cycle


@pytest.mark.slow
def test_each_batch_size_has_all_rows_and_what_exceeds_the_memory_costs_its_own_only():
    found = bench(config(), CPU, [10**12, 2], rounds=2, compile=False)
    assert [table["batch"] for table in found["tables"]] == [10**12, 2]
    large, small = (table["rows"] for table in found["tables"])
    assert [row["name"] for row in large] == [row["name"] for row in small] == NAMES[:-1]
    assert {(row["note"], row["milliseconds"]) for row in large} == {("out of memory", None)}
    for row in small:
        numbers = [value for value in row.values() if isinstance(value, float)]
        assert all(math.isfinite(number) and number >= 0 for number in numbers)
        assert row["images_per_second"] == pytest.approx(2 / row["milliseconds"] * 1000)
    assert small[0]["ratio"] == 1
    assert small[-1]["note"] == "no calls that batch"
    assert found["fastest"] == {"batch": 2, "precision": small[-1]["precision"], "compile": "off"}
    assert fastest(found["tables"][:1]) is None


def test_another_error_is_not_taken_for_a_lack_of_memory():
    row = Row(variants(CPU)[0], config(), CPU)
    row.run.advance = lambda: torch.zeros(2) @ torch.zeros(3)
    with pytest.raises(RuntimeError, match="size"):
        row.run_steps(1)


def test_a_process_that_does_not_come_to_its_end_has_no_peak():
    assert peak_in_a_process(variants(CPU)[0], config(batch=10**12), 1) is None


def test_operations_are_those_of_products_and_convolutions_forward_and_backward():
    weight = torch.zeros(5, 3, 1, 1, requires_grad=True)
    with Operations() as counter:
        torch.conv2d(torch.zeros(1, 3, 4, 4), weight).sum().backward()
        torch.zeros(2, 3) @ torch.zeros(3, 4)
    assert counter.total == 2 * (2 * 3 * 5 * 16) + 2 * 2 * 3 * 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # tracing reads .grad of every tensor
def test_a_compiled_row_says_what_compiling_took():
    rows = bench(config(), CPU, [2], rounds=1)["tables"][0]["rows"]
    assert [row["name"] for row in rows] == NAMES
    assert rows[-1]["compiled"]
    assert rows[-1]["seconds_to_compile"] > 0
    assert all(row["seconds_to_compile"] is None for row in rows[:-1])
