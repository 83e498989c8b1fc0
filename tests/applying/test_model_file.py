import errno
import json
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from translate.applying.model_file import load_model, read_manifest, stride_of, write_model_file
from translate.errors import CheckpointError, PluginError
from translate.version import __version__

CPU = torch.device("cpu")


def rewrite(path, tensors=None, **manifest):
    """Change a model file's tensors or fields of its manifest."""
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["translate"])
    save_file(load_file(path) if tensors is None else tensors, path, {"translate": json.dumps({**values, **manifest})})
    return path


def test_a_model_comes_back_as_it_was_written(make, tmp_path):
    model = make("noisy", gain=0.25)
    torch.nn.init.normal_(model.net.weight)
    write_model_file(tmp_path / "m.safetensors", model, model.state_dict(), run={"steps": 3})
    again = load_model(tmp_path / "m.safetensors", CPU)
    assert type(again) is type(model)
    assert again.config == model.config
    assert dict(again.spec) == dict(model.spec)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_the_manifest_says_what_made_the_file(model_file):
    manifest = read_manifest(model_file("blocks"))
    assert (manifest.format, manifest.model, manifest.stride) == (1, "blocks", 4)
    assert (manifest.distribution, manifest.distribution_version) == ("translate-tiny", "1.2")
    assert manifest.translate_version == __version__
    assert manifest.run == {"steps": 7, "images": 28, "precision": "fp32"}


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_else(model_file):
    first = model_file("invert").read_bytes()
    path = model_file("invert")
    assert path.read_bytes() == first
    assert not list(path.parent.glob(".*"))


def test_a_file_that_cannot_be_written_leaves_the_old_one_as_it_was(model_file, make, monkeypatch):
    path = model_file("invert")
    before = path.read_bytes()
    model = make("invert", gain=2.0)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="The disk is full"):
        write_model_file(path, model, model.state_dict(), run={})
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == [path, path.parent / "site"]


def test_others_may_read_a_model_file_as_any_other(model_file, tmp_path):
    (tmp_path / "ordinary").touch()
    assert model_file("invert").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_tied_tensor_is_stored_once_and_loaded_everywhere(make, tmp_path):
    model = make("tied")
    torch.nn.init.normal_(model.net.weight)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("twin")}
    write_model_file(tmp_path / "m.safetensors", model, tensors, run={})
    assert torch.equal(load_model(tmp_path / "m.safetensors", CPU).twin.weight, model.net.weight)


def test_a_run_folder_stands_for_its_export(model_file, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(CheckpointError, match="is no run folder"):
        read_manifest(run)
    (run / "run.toml").touch()
    with pytest.raises(CheckpointError, match="has not exported a model yet"):
        read_manifest(run)
    model_file("invert").rename(run / "model.safetensors")
    assert load_model(run, CPU).name == "invert"


def test_loading_leaves_the_random_generator_alone(model_file):
    path = model_file("invert")
    before = torch.get_rng_state()
    load_model(path, CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".ckpt"])
def test_a_pickle_is_refused_unread(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(CheckpointError, match="can run any code"):
        load_model(path, CPU)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"There is no .*absent\.safetensors"):
        load_model(tmp_path / "absent.safetensors", CPU)


def test_a_damaged_file_is_distinguished_from_a_foreign_one(model_file, tmp_path):
    path = model_file("invert")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="damaged or no safetensors file"):
        load_model(path, CPU)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged or no safetensors file"):
        load_model(path, CPU)
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="not written by translate"):
        load_model(tmp_path / "foreign.safetensors", CPU)
    save_file({"x": torch.zeros(1)}, tmp_path / "half.safetensors", {"translate": '{"format": 1}'})
    with pytest.raises(CheckpointError, match="damaged manifest"):
        load_model(tmp_path / "half.safetensors", CPU)


def test_a_newer_format_asks_for_an_upgrade(model_file):
    with pytest.raises(CheckpointError, match="pip install -U translate-img2img"):
        load_model(rewrite(model_file("invert"), format=2), CPU)


def test_a_missing_plugin_says_what_to_install(model_file, monkeypatch):
    path = model_file("invert")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not entry.endswith("site")])
    with pytest.raises(PluginError, match=r"pip install translate-tiny$"):
        load_model(path, CPU)


def test_a_strangers_words_never_become_a_command(model_file):
    path = rewrite(model_file("invert"), model="unheard-of", distribution="x; rm -rf ~")
    with pytest.raises(PluginError) as caught:
        load_model(path, CPU)
    assert "rm" not in str(caught.value)


def test_yesterdays_config_is_upgraded_and_nonsense_is_refused(model_file):
    path = model_file("invert")
    assert load_model(rewrite(path, config={"factor": 3.0}), CPU).config.gain == 3.0
    with pytest.raises(CheckpointError, match=r"(?s)gain.*Written by translate-tiny 1\.2"):
        load_model(rewrite(path, config={"gain": "loud"}), CPU)


def test_tensors_that_do_not_fit_are_named(model_file):
    path = model_file("invert")
    tensors = load_file(path)
    with pytest.raises(CheckpointError, match=r"net\.weight of shape \(3, 3, 3, 3\), but the model has \(3, 3, 1, 1\)"):
        load_model(rewrite(path, {**tensors, "net.weight": torch.zeros(3, 3, 3, 3)}), CPU)
    with pytest.raises(CheckpointError, match=r"holds other\.weight, unknown"):
        load_model(rewrite(path, {**tensors, "other.weight": torch.zeros(1)}), CPU)
    with pytest.raises(CheckpointError, match=r"lacks net\.bias"):
        load_model(rewrite(path, {"net.weight": tensors["net.weight"]}), CPU)


def test_a_stride_is_an_int_on_a_network(make):
    assert stride_of(make("invert")) == 1  # a convolution's stride is a tuple
    assert stride_of(make("blocks")) == 4
