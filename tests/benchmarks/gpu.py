"""All that is claimed of a GPU, built, checked and timed in one call of under eight minutes.

    pip install --no-index --find-links WHEELS translate-img2img && python tests/benchmarks/gpu.py [--json FILE]
    python tests/benchmarks/gpu.py --cpu-rehearsal      all of it with tiny networks on the CPU, to try the script

Gradients of the engine in float32, in mixed precision and compiled, against the plain loop's; the rows of `translate
bench` for CycleGAN, Pix2Pix and StyleGAN2; the share of the time that `fit` waits for data on a folder of images.
Prints what was found, what is wanted, and whether that holds. Exit status: 0 if all holds, 1 if something does not or
was not reached in time, 2 without a GPU.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch._inductor.config

import translate
from translate import testing
from translate.benchmarking.measuring import bench
from translate.benchmarking.variants import Variant, VariantRun
from translate.device import autocast, memory_format, resolve_device, resolve_precision
from translate.plugins import registry
from translate.training.config import FitConfig
from translate.training.memory_order import from_memory_order

SECONDS = 460
"""After which no further part is begun."""
TINY = {
    "cyclegan": {"generator": "resnet(blocks=1, width=4)", "discriminator": "patchgan(layers=1, width=4)"},
    "pix2pix": {"generator": "unet(width=4, dropout=0)", "discriminator": "patchgan(layers=1, width=4)"},
    "stylegan2": {"width": 4, "latents": 8, "style_width": 8, "mapping_layers": 1},
}
TINY["stylegan2"]["discriminator"] = "stylegan2(width=4, stddev_group=2, equalized=True)"
SMALL = {
    "cyclegan": {"generator": "resnet(blocks=2, width=16)", "discriminator": "patchgan(layers=2, width=16)"},
    "pix2pix": {"generator": "unet(width=16, dropout=0)", "discriminator": "patchgan(layers=2, width=16)"},
    "stylegan2": {"width": 16, "latents": 64, "style_width": 64, "mapping_layers": 2},
}
"""For gradients, so that compiling takes seconds; what is timed has the default networks. Dropout is left out, since it
draws other images' masks in another memory format."""


class Check(NamedTuple):
    """Something found, and what it should be: at least, or at most; None for what is only reported."""

    name: str
    found: float | None
    least: float | None = None
    most: float | None = None

    @property
    def holds(self):
        if self.found is None:
            return self.least is None and self.most is None
        return (self.least is None or self.found >= self.least) and (self.most is None or self.found <= self.most)

    def __str__(self):
        wanted = f"at least {self.least:g}" if self.least is not None else ""
        wanted = f"at most {self.most:g}" if self.most is not None else wanted
        found = "not measured" if self.found is None else f"{self.found:.4g}"
        return f"{'ok' if self.holds else 'FAILS':6} {self.name:60} {found:>12}  {wanted}"


# ------------------------------------------------------------------ gradients


def gradients(config, device, variant, within="fp32"):
    """The flat gradient of each update of the first step, in order. Nothing is moved. within: an outer autocast."""
    torch.manual_seed(1)  # the images
    run = VariantRun(variant, config, device)
    found = []
    if run.loop:
        for player, optimizer in zip(run.loop.players, run.loop.optimizers, strict=True):
            optimizer.register_step_pre_hook(lambda *_, player=player: found.append(take(player.parameters())))
    else:
        for state in run.trainer.stepper.players:
            state.optimizer.register_step_pre_hook(lambda *_, state=state: found.append(take_from(state)))
    torch.manual_seed(2)  # the noise
    with autocast(device, within):
        run.advance()
    assert not run.compile_error, run.compile_error
    return found


def take_from(state):
    """The gradients of a player of the engine, whose optimizer has views of the weights in memory order."""
    for parameter, dense in state.dense_views.items():
        parameter.grad = None if dense.grad is None else from_memory_order(dense.grad, parameter)
    taken = take(state.parameters)
    for parameter in state.parameters:
        parameter.grad = None
    return taken


def take(parameters):
    """The gradients as a vector; zeros are left, on which Adam moves nothing."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    found = torch.cat([part.flatten() for part in parts])
    for part in parts:
        part.zero_()
    return found


def distances(found, expected):
    return [float((mine - theirs).norm() / theirs.norm()) for mine, theirs in zip(found, expected, strict=True)]


def gradient_checks(model, rehearsal, device):
    """Of the engine: in float32 the distance from the plain loop's, without TF32, which would hide what is compared.

    In mixed precision, whose distance is rounding and depends on the networks, the distance over that of the plain loop
    in torch's autocast.
    """
    fast = resolve_precision("auto", device)
    last = memory_format(device, fast) == torch.channels_last
    config = FitConfig(model=model, size=32, batch=2, options=(TINY if rehearsal else SMALL)[model])
    tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch._inductor.config.fallback_random = True  # a compiled function draws the numbers that an eager one draws
    try:
        plain = Variant("plain loop", plain=True)
        expected = gradients(config, device, plain)
        rounding = distances(gradients(config, device, plain, fast), expected)
        for compiled in (False, True) if not rehearsal or model == "pix2pix" else (False,):
            how = f"{model}{', compiled' if compiled else ''}"
            exact = gradients(config, device, Variant(how, batched=True, compiled=compiled))
            most = 1e-3 if compiled else 1e-4
            yield Check(f"gradients of {how}, fp32: distance", max(distances(exact, expected)), most=most)
            mixed = Variant(how, precision=fast, channels_last=last, batched=True, compiled=compiled)
            found = distances(gradients(config, device, mixed), expected)
            worst = max(own / (base or 1) for own, base in zip(found, rounding, strict=True))
            yield Check(f"gradients of {how}, {fast}: distance over autocast's", worst, most=2)
    finally:
        torch.set_float32_matmul_precision(tf32[0])
        torch.backends.cudnn.allow_tf32 = tf32[1]


# ------------------------------------------------------------------ time


def timed(model, rehearsal, device, batches, size, least):
    """The rows of `translate bench`; least: (ratio of the fastest row to the plain loop, share of the matrix rate)."""
    options = TINY[model] if rehearsal else {}
    config = FitConfig(model=model, size=32 if rehearsal else size, options=options)
    found = bench(config, device, batches, rounds=1 if rehearsal else 5, compile=not rehearsal)
    checks = []
    for table in found["tables"]:
        ratio, share = (None, None) if rehearsal else least[table["batch"]]
        rows = [row for row in table["rows"] if row["batched"] and row["ratio"]]
        best = max(rows, key=lambda row: row["ratio"], default={"ratio": None, "matrix_share": None})
        what = f"{model} {config.size}², batch {table['batch']}"
        checks.append(Check(f"{what}: times the plain loop", best["ratio"], least=ratio))
        checks.append(
            Check(
                f"{what}: share of the {found['matrix_rate']['precision']} matrix rate",
                best["matrix_share"],
                least=share,
            )
        )
        for row in table["rows"]:
            numbers = ("milliseconds", "images_per_second", "peak_megabytes", "ratio", "seconds_to_compile")
            shown = "  ".join(f"{row[name] or float('nan'):10.4g}" for name in numbers)
            print(f"{what:28} {row['name']:18} {shown}  {row['note']}", flush=True)
    return checks, found


def data_wait(rehearsal, device):
    """The share of the time that `fit` waits for images of a real folder, without its first tick."""
    kind, size, steps = registry.model("cyclegan"), 32 if rehearsal else 256, 6 if rehearsal else 200
    with tempfile.TemporaryDirectory() as folder:
        run, options = Path(folder) / "run", TINY["cyclegan"] if rehearsal else {}
        images = testing.draw_images(Path(folder), kind, size, count=8 if rehearsal else 64)
        length = {"steps": steps, "log_every": steps // 6, "batch": 1 if rehearsal else 4, "compile": "off"}
        config = {"model": "cyclegan", "size": size, "device": str(device), "run": str(run), "options": options}
        translate.fit(FitConfig(**config, **length, **images))
        ticks = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = max(tick["data_wait"] for tick in ticks[1:])
    return [Check("data wait of fit on a folder", found, most=None if rehearsal else 0.01)]


def parts(rehearsal, device, record):
    """The parts of all this, the most important ones first: name and what gives its checks."""

    def bench_of(*arguments):
        checks, found = timed(*arguments)
        record.append(found)
        return checks

    translators = {1: (6, None), 8: (4, 0.35)}
    batches = [1] if rehearsal else [1, 8]
    for model in ("cyclegan", "pix2pix", "stylegan2"):
        yield f"gradients of {model}", lambda model=model: list(gradient_checks(model, rehearsal, device))
    for model in ("cyclegan", "pix2pix"):
        yield f"time of {model}", lambda model=model: bench_of(model, rehearsal, device, batches, 256, translators)
    yield "data wait", lambda: data_wait(rehearsal, device)
    style = [2] if rehearsal else [32]
    yield "time of stylegan2", lambda: bench_of("stylegan2", rehearsal, device, style, 64, {32: (None, None)})


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-rehearsal", action="store_true")
    parser.add_argument("--json", type=Path, help="also write everything that was measured into this file")
    given = parser.parse_args(words)
    if not torch.cuda.is_available() and not given.cpu_rehearsal:
        print("There is no GPU here. To try the script on the CPU with tiny networks: --cpu-rehearsal")
        return 2
    device, started = resolve_device("cpu" if given.cpu_rehearsal else "cuda"), time.monotonic()
    if device.type == "cuda":
        tf32 = f"{torch.get_float32_matmul_precision()} and {torch.backends.cudnn.allow_tf32}"
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, TF32 in products and convolutions: {tf32}")
    print(f"{'':47} {'ms/step':>10}  {'images/s':>10}  {'peak MB':>10}  {'× plain':>10}  {'s to compile':>10}")
    checks, record = [], []
    for name, part in parts(given.cpu_rehearsal, device, record):
        if time.monotonic() - started > SECONDS:
            checks.append(Check(f"{name}: not reached in time", None, least=0))
            continue
        try:
            checks += part()
        except Exception as error:  # the parts that follow are worth having
            checks.append(Check(f"{name}: {type(error).__name__}: {error}", None, least=0))
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print(*checks, f"{time.monotonic() - started:.0f} seconds", sep="\n")
    if given.json:
        given.json.write_text(
            json.dumps({"bench": record, "checks": [c._asdict() | {"holds": c.holds} for c in checks]})
        )
    return 0 if all(check.holds for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
