import json

import pytest

from translate.applying import samples


@pytest.fixture
def call(monkeypatch):
    """The call that the command makes."""
    seen = {}

    def sample(model, output, **options):
        seen.update(paths=[model, output], options=options)
        return samples.SampleResult(written=3, skipped=1, seconds=0.5)

    monkeypatch.setattr(samples, "sample", sample)
    return seen


def test_options_are_passed_on_with_the_functions_defaults(call, translate):
    assert translate("sample", "model", "out").status == 0
    assert call["paths"] == ["model", "out"]
    assert call["options"] == {
        "n": 64, "seed": 0, "labels": (), "truncation": 1.0, "batch": 64, "grid": False, "interpolate": [],
        "frames": 8, "mix": [], "format": None, "overwrite": False, "device": "auto", "precision": "auto",
    }  # fmt: skip
    translate("sample", "model", "out", "--n", "9", "--label", "cat", "--label", "dog", "--truncation", "0.7", "--grid")
    assert {"n": 9, "labels": ["cat", "dog"], "truncation": 0.7, "grid": True}.items() <= call["options"].items()


def test_seeds_are_lists_of_whole_numbers(call, translate):
    translate("sample", "model", "out.gif", "--interpolate", "1,2, 30", "--frames", "4")
    assert {"interpolate": [1, 2, 30], "frames": 4}.items() <= call["options"].items()
    translate("sample", "model", "out.png", "--mix", "5")
    assert call["options"]["mix"] == [5]
    for words in (("--mix", "1;2"), ("--interpolate", "1,-2"), ("--mix", ""), ("--mix", "1,,2")):
        answer = translate("sample", "model", "out.png", *words)
        assert answer.status == 2
        assert f"{words[0]} {words[1]!r} is no list of seeds" in answer.err


def test_a_summary_ends_the_work_and_json_has_stdout_to_itself(call, translate):
    summary = "3 written to out, 1 skipped because they exist, in 0.5 s\n"
    assert translate("sample", "model", "out") == (0, summary, "")
    answer = translate("sample", "model", "out", "--json")
    assert json.loads(answer.out) == {"written": 3, "skipped": 1, "seconds": 0.5}
    assert answer.err == summary


@pytest.mark.parametrize("words", [("--format", "gif"), ("--batch", "0"), ("--truncation", "2"), ("--frames", "1")])
def test_a_wrong_value_is_wrong_usage(call, translate, words):
    assert translate("sample", "model", "out", *words).status == 2
