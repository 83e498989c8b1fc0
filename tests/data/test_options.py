import pytest
from pydantic import ValidationError

from translate.data.options import DataOptions, suggested_range


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"holdout": "5"}, "'5' is not a share; write a percentage"),
        ({"holdout": "100%"}, "not a share"),
        ({"background": "grey"}, "'grey' is not a background; write white"),
        ({"value_range": "4095"}, "'4095' is not a range; write two numbers"),
        ({"value_range": "low,high"}, "not a range"),
        ({"value_range": "9,9"}, "is empty or endless"),
        ({"value_range": "0,inf"}, "is empty or endless"),
        ({"value_range": "nan,1"}, "is empty or endless"),
        ({"preprocess": "crop", "load_size": 300}, "--load-size does not go with it"),
        ({"load_size": 100}, "--load-size 100 is smaller than --size 256"),
        ({"augment": "flop"}, "Did you mean 'flip'"),
    ],
)
def test_wrong_words_are_refused_with_what_would_be_right(options, says):
    with pytest.raises(ValidationError, match=says):
        DataOptions(**options)


@pytest.mark.parametrize(("high", "range_"), [(100, "0,255"), (4095, "0,4095"), (4096, "0,8191"), (2**14, "")])
def test_a_narrower_range_is_suggested_where_most_of_sixteen_bits_is_empty(high, range_):
    assert suggested_range(high) == range_
