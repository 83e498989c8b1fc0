"""Where and how tensors are computed: device, precision and memory format, by name or chosen for the machine."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import AbstractContextManager
from typing import Literal, cast, get_args

import torch

from translate.errors import UsageError

Precision = Literal["bf16", "fp16", "fp32"]
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA, else MPS, else the CPU. Raises UsageError if it cannot be used."""
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
    """The precision of that name; "auto" is the fastest one of the device.

    deep: images have more than 8 bits, too many for the 8 and 11 significant bits of bf16 and fp16; then "auto" is
    fp32.
    Raises UsageError for an unknown name.
    """
    if name == "auto":
        return "fp32" if deep else fastest_precision(device)
    if name not in get_args(Precision):
        raise UsageError(f"--precision {name!r} is unknown; choose auto, bf16, fp16 or fp32.")
    return cast(Precision, name)


def fastest_precision(device: torch.device) -> Precision:
    """bf16 on GPUs from Ampere on and on CPUs with AMX or AVX512-BF16, fp16 on Volta and Turing, fp32 elsewhere."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "fp32"
    if device.type == "cpu":
        instructions = torch.backends.cpu.get_cpu_capability()
        return "bf16" if instructions.startswith("AVX512") and _cpu_flag("avx512_bf16", "amx_bf16") else "fp32"
    return "fp32"


def use_tf32(allowed: bool) -> None:
    """Whether a GPU may round the factors of fp32 matrix products to 11 significant bits (TF32), which is faster."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def keep_freed_memory() -> None:
    """Make the C library keep freed memory, since every step allocates tensors of the same sizes.

    glibc returns large blocks to the system at once, and gets them back page by page. Does nothing elsewhere.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        no_mapped_blocks, no_trimming = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD
        library.mallopt(*no_mapped_blocks)
        library.mallopt(*no_trimming)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: torch has an error class for devices; its CPU allocator raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name, as the system reports it."""
    return _cpu_info("model name").strip() or platform.processor() or platform.machine()


def _cpu_flag(*names: str) -> bool:
    flags = _cpu_info("flags").split()
    return any(name in flags for name in names)


def _cpu_info(key: str) -> str:
    """A value of /proc/cpuinfo, since torch has no public function for it; empty outside Linux."""
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.partition(":")[2] for line in file if line.startswith(key)), "")
    except OSError:
        return ""


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Mixed precision for forward passes and losses; does nothing in fp32."""
    return torch.autocast(device.type, HALVES.get(precision, torch.bfloat16), enabled=precision in HALVES)


def memory_format(device: torch.device, precision: Precision) -> torch.memory_format:
    """channels_last where it measured faster (16-bit matrix units), contiguous otherwise: docs/performance.md."""
    fast = precision in HALVES and device.type in ("cpu", "cuda")
    return torch.channels_last if fast else torch.contiguous_format
