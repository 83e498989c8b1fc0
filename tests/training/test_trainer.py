"""A trainer refuses what its networks cannot take, before anything is written."""

import pytest

from translate import testing
from translate.errors import UsageError

SMALL = {"generator": "resnet(blocks=1, width=4)", "discriminator": "stylegan2(width=4, stddev_group=2)"}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return testing.Case("cyclegan", tmp_path_factory.mktemp("cyclegan"), **SMALL)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch": 1}, "need 2 at once, more than --batch 1 gives; raise --batch"),
        ({"batch": 4, "micro_batches": 4}, "more than --batch 4 in 4 parts gives"),
        ({"batch": 4, "micro_batches": 3}, "--micro-batches 3 does not divide --batch 4"),
    ],
)
def test_a_batch_that_the_networks_cannot_take_is_refused(case, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        case.trainer(**options)


def test_the_smallest_batch_will_do(case):
    case.trainer(batch=4, micro_batches=2).advance()
