import json

import pytest

from translate.evaluating import evaluation
from translate.evaluating.measurements import Distance, Mean, PairedError

ANSWER = {
    "model": "run",
    "to": "b",
    "made": 120,
    "real": 1140,
    "half": 570,
    "size": 256,
    "resize": "bicubic, antialiased",
    "features": "efficientnet",
    "features_sha256": "851e4ec8f7f01235",
    "distances": {
        "frechet": Distance(42.51234, None, 9.5, 81.0),
        "kernel": Distance(0.0512345, 0.00123, None, 0.2),
    },
    "pairs": 118,
    "errors": {"l1": PairedError(Mean(0.125, 0.0021), Mean(0.25, 0.003)), "psnr": PairedError(Mean(14.5, None), None)},
    "notes": ("A note.",),
    "seconds": 0.5,
}


@pytest.fixture
def call(monkeypatch):
    """The arguments of the call that the command makes; `answer` replaces fields of its result."""
    seen = {"answer": {}}

    def evaluate(model, *, group, **options):
        seen.update(model=model, options=options)
        return evaluation.Evaluation(**ANSWER | seen["answer"])

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    return seen


def test_options_are_passed_on_with_the_functions_defaults(call, translate):
    assert translate("evaluate", "run").status == 0
    assert call["model"] == "run"
    assert call["options"] == {
        "a": None, "b": None, "data": None, "swap": False, "images": None, "to": None, "features": None,
        "n": None, "seed": 0, "batch": 16, "device": "auto", "precision": "auto",
    }  # fmt: skip
    translate("evaluate", "run", "--data", "DIR", "--swap", "--features", "pixels", "--to", "a", "--precision", "fp32")
    assert {"data": "DIR", "swap": True, "features": "pixels", "to": "a", "precision": "fp32"}.items() <= call[
        "options"
    ].items()


def test_tables_show_each_number_beside_those_it_is_read_by(call, translate):
    answer = translate("evaluate", "run")
    assert answer.out.splitlines() == [
        "120 images translated to b, 1,140 real ones, at 256 × 256 (bicubic, antialiased)",
        "",
        "In the features of efficientnet (sha256 851e4ec8f7f0):",
        "                  value            floor: halves of 570 real  ceiling: untranslated",
        "Fréchet distance  42.51            9.5                        81",
        "kernel distance   0.05123 ± 0.001  -                          0.2",
        "",
        "118 of them against their truths, the images of the same name:",
        "                           translated     left as they are",
        "L1, 0 to 1                 0.125 ± 0.002  0.25 ± 0.003",
        "PSNR in dB (high is good)  14.5           -",
    ]
    assert answer.err == "note: A note.\n"


def test_samples_are_compared_with_noise_and_with_no_truth(call, translate):
    call["answer"] = {"to": None, "pairs": 0, "errors": {}, "features": "pixels", "features_sha256": None}
    lines = translate("evaluate", "run").out.splitlines()
    assert lines[0].startswith("120 images made, 1,140 real ones")
    assert lines[2] == "In the features of pixels:"
    assert lines[3].endswith("ceiling: noise")
    assert len(lines) == 6


def test_json_has_stdout_to_itself(call, translate):
    answer = translate("evaluate", "run", "--json")
    report = json.loads(answer.out)
    assert report["distances"]["kernel"] == {"value": 0.0512345, "deviation": 0.00123, "floor": None, "ceiling": 0.2}
    assert report["errors"]["l1"]["made"] == {"mean": 0.125, "standard_error": 0.0021}
    assert (report["notes"], answer.err) == (["A note."], "note: A note.\n")


@pytest.mark.parametrize("words", [("--n", "1"), ("--batch", "0"), ("--precision", "fp8"), ("--feature", "pixels")])
def test_a_wrong_value_is_wrong_usage(call, translate, words):
    assert translate("evaluate", "run", *words).status == 2


def test_a_model_that_is_not_there_is_an_error_of_one_line(translate):
    answer = translate("evaluate", "nowhere")
    assert answer.status == 1
    assert answer.err == "error: There is no nowhere. Expected a model file (.safetensors) or a run folder.\n"
