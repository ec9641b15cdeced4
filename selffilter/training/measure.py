"""What a device could do at best, and how much memory it has needed."""

from __future__ import annotations

import resource
import sys

import torch

_TERA = 1e12
_PEAK_TFLOPS = {
    # Name as CUDA gives it: (bf16 on dense matrices with sums in fp32, fp32 outside tensor cores),
    # both from NVIDIA's data sheets. The first name that begins with the key counts.
    "NVIDIA H200 NVL": (835.5, 60.0),
    "NVIDIA H200": (989.4, 66.9),
    "NVIDIA H100 PCIe": (756.0, 51.2),
    "NVIDIA H100 NVL": (835.5, 60.0),
    "NVIDIA H100 80GB HBM3": (989.4, 66.9),
    "NVIDIA A100": (311.9, 19.5),
    "NVIDIA L40S": (362.1, 91.6),
    "NVIDIA L4": (121.0, 30.3),
    "NVIDIA GeForce RTX 4090": (165.2, 82.6),
}


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Return the FLOP/s that a device could do at best, dense; None if that is not known.

    Args:
        device: Where it computes.
        precision: As ``hardware.precision``. fp32 is that outside tensor cores: None if torch has
            been allowed to use TF32.
    """
    if device.type != "cuda":
        return None
    return peak_by_name(torch.cuda.get_device_name(device), precision)


def peak_by_name(name: str, precision: str) -> float | None:
    """As `peak_flops`, of a device by the name that CUDA gives it."""
    half = precision.startswith(("bf16", "16"))
    if not half and torch.get_float32_matmul_precision() != "highest":
        return None
    for known, (bf16, fp32) in _PEAK_TFLOPS.items():
        # "NVIDIA L4" is not the beginning of "NVIDIA L40".
        if name == known or name.startswith((known + " ", known + "-")):
            return _TERA * (bf16 if half else fp32)
    return None


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory used, in 10⁶ bytes.

    On an accelerator what torch had allocated on it since `forget_peak_memory`; on a CPU what this
    process had resident since it began.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def forget_peak_memory(device: torch.device) -> None:
    """Let an accelerator's peak begin at what is allocated now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
