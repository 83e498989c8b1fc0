"""The choices of `apply` and `sample`. Nothing here imports torch, so the command line can show them without it."""

from __future__ import annotations

from typing import Literal

ApplyFormat = Literal["same", "png", "jpg", "webp", "tiff", "npy"]
"""File format of translations; "same" keeps the format of each input."""

SampleFormat = Literal["png", "jpg", "webp", "tiff"]
"""File format of samples."""

Side = Literal["auto", "left", "right", "whole"]
"""Part of each input that is translated; "auto" is the half that the model was trained on, if it was trained on one."""

PrecisionChoice = Literal["auto", "bf16", "fp16", "fp32"]
"""Precision of a model's networks; "auto" is the fastest one of the device."""
