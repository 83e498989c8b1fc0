"""Where and how tensors are computed: device, precision, memory format; by name, or by what the machine is good at."""

from __future__ import annotations

import ctypes
import platform
import sys
from contextlib import AbstractContextManager
from typing import Literal, cast

import torch

from translate.errors import UsageError

Precision = Literal["bf16", "fp32"]


def resolve_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA, else MPS, else the CPU. Raises UsageError if it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"The device {name!r} cannot be used: {reason} Try --device auto or --device cpu.") from error
    return device


def resolve_precision(name: str, device: torch.device, deep: bool = False) -> Precision:
    """The precision of that name; "auto" is bf16 where matrix units compute it natively, else fp32.

    deep: images have more than 8 bits, which the 8 of bf16's fraction would not hold; "auto" is fp32 then.
    """
    if name == "auto":
        return "bf16" if fast_bf16(device) and not deep else "fp32"
    if name not in ("bf16", "fp32"):
        raise UsageError(f"--precision {name!r} is unknown; choose auto, bf16 or fp32.")
    return cast(Precision, name)


def fast_bf16(device: torch.device) -> bool:
    """GPUs from Ampere on; CPUs with AMX or AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        return capability.startswith("AVX512") and _cpu_flag("avx512_bf16", "amx_bf16")
    return False


def keep_freed_memory() -> None:
    """Have the C library keep what is freed, since tensors of the same sizes come and go with every step.

    glibc gives large blocks back to the system at once, and gets them again page by page. Does nothing elsewhere.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        no_mapped_blocks, no_trimming = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD
        library.mallopt(*no_mapped_blocks)
        library.mallopt(*no_trimming)


def cpu_name() -> str:
    """The processor's name, as the system has it."""
    return _cpu_info("model name").strip() or platform.processor() or platform.machine()


def _cpu_flag(*names: str) -> bool:
    flags = _cpu_info("flags").split()
    return any(name in flags for name in names)


def _cpu_info(key: str) -> str:
    """A line of /proc/cpuinfo; empty outside Linux, where torch has no public way to ask."""
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.partition(":")[2] for line in file if line.startswith(key)), "")
    except OSError:
        return ""


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Mixed precision for forward passes and losses; does nothing in fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def memory_format(device: torch.device, precision: Precision) -> torch.memory_format:
    """channels_last where it measured faster (bf16 matrix units), contiguous otherwise: docs/performance.md."""
    fast = precision == "bf16" and device.type in ("cpu", "cuda")
    return torch.channels_last if fast else torch.contiguous_format
