import json

import pytest

from translate.cli import bench

SMALL = ("--size", "16", "--generator", "mlp(width=16)", "--discriminator", "mlp(width=16)", "--latents", "8")


def test_the_answer_is_one_document_or_tables_and_ends_with_a_command(translate, capsys):
    answer = translate("bench", "gan", *SMALL, "--batch", "2", "--turns", "1", "--no-compile", "--json")
    assert answer.status == 0, answer.err
    report = json.loads(answer.out)
    assert report["devices"][0]["device"] == report["device"] == "cpu"
    assert report["versions"]["torch"]
    assert report["options"]["latents"] == 8
    assert report["command"].startswith("translate fit gan --size 16 --generator 'mlp(width=16)'")
    bench._print(report, report["command"])
    text = capsys.readouterr().out
    for row in report["tables"][0]["rows"]:
        assert any(line.startswith(row["name"]) for line in text.splitlines())
    assert text.splitlines()[-1].endswith(report["command"])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nope",), "no model 'nope'"),
        (("gan", "--batch", "2,x"), "--batch '2,x': expected whole numbers from 1"),
        (("gan", "--batch", "0"), "--batch '0': expected whole numbers from 1"),
        (("gan", "--steps", "3"), "There is no option --steps"),
        (("cyclegan", "--size", "30", "--no-compile"), "--size 30 is no multiple of 4, as the networks need; try 28."),
        (("gan", "--turns", "0"), "--turns"),
        (("gan", "--device", "abacus"), "The device 'abacus' cannot be used"),
        (("gan", "--generator", "mpl"), "mlp"),
    ],
)
def test_what_cannot_be_measured_is_wrong_usage(words, complaint, translate):
    answer = translate("bench", *words)
    assert answer.status == 2
    assert complaint in answer.err


def test_the_help_has_the_models_own_options_and_none_of_training(translate):
    text = translate("bench", "gan", "--help").out
    assert all(f"--{name}" in text for name in ("size", "batch", "turns", "no-compile", "json", "latents"))
    assert not any(f"--{name}" in text for name in ("images", "steps", "run", "discriminator-augment"))
