import json

import pytest

from translate.applying import folder


@pytest.fixture
def call(monkeypatch):
    """The arguments of the call that the command makes; `failed` sets the failures of its result."""
    seen = {"failed": {}}

    def apply(model, input, output, *, group, **options):
        seen.update(paths=[model, input, output], options=options)
        return folder.ApplyResult(written=3, skipped=1, failed=seen["failed"], notes=("A note.",), seconds=0.5)

    monkeypatch.setattr(folder, "apply", apply)
    return seen


def test_options_are_passed_on_with_the_functions_defaults(call, translate):
    assert translate("apply", "model", "in", "out").status == 0
    assert call["paths"] == ["model", "in", "out"]
    assert call["options"] == {
        "to": None, "batch": 8, "format": "same", "overwrite": False, "seed": 0,
        "device": "auto", "precision": "auto", "side": "auto", "degrade": False,
    }  # fmt: skip
    translate("apply", "model", "in", "out", "--to", "a", "--format", "png", "--overwrite", "--side", "left")
    assert {"to": "a", "format": "png", "overwrite": True, "side": "left"}.items() <= call["options"].items()


def test_a_summary_ends_the_work(call, translate):
    answer = translate("apply", "model", "in", "out")
    assert answer.out == "3 written to out, 1 skipped because they exist, 0 failed, in 0.5 s\n"


def test_failures_are_listed_and_give_status_1(call, translate):
    call["failed"] = {"in/x.png": "truncated"}
    answer = translate("apply", "model", "in", "out")
    assert answer.status == 1
    assert answer.err == "note: A note.\nfailed: in/x.png: truncated\n"


def test_json_has_stdout_to_itself(call, translate):
    call["failed"] = {"in/x.png": "truncated"}
    answer = translate("apply", "model", "in", "out", "--json")
    assert json.loads(answer.out) == {
        "written": 3, "skipped": 1, "failed": {"in/x.png": "truncated"}, "notes": ["A note."], "seconds": 0.5,
    }  # fmt: skip
    assert "3 written" in answer.err


@pytest.mark.parametrize("words", [("--format", "gif"), ("--batch", "0"), ("--side", "top")])
def test_a_wrong_value_is_wrong_usage(call, translate, words):
    assert translate("apply", "model", "in", "out", *words).status == 2
