"""The GPU that `benchmarks.gpu` runs on: what it is, and how fast it copies and multiplies."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from benchmarks.measure import Sample

PACKAGES = ("torch", "triton", "fla-core", "mamba-ssm")


def rates(
    device: str, bench: Callable[[Callable[[], Any]], Sample], numbers: int = 2**28, side: int = 8192
) -> dict[str, float]:
    """Bytes a second of a copy, and multiplications and additions a second of a matrix product in bf16."""
    x, y = (torch.zeros(numbers, device=device) for _ in range(2))
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    copy, product = bench(lambda: y.copy_(x)), bench(lambda: a @ a)
    return {"copy": 2 * x.nbytes / (copy.median * 1e-3), "product": 2 * side**3 / (product.median * 1e-3)}


def versions(device: str) -> str:
    """The GPU, its driver and what runs on it, in words."""
    name = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    parts = [f"On {name}", f"driver {driver()}", f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"no {package}")
    made = torch.version.hip or torch.version.cuda
    return ", ".join(
        [*parts, f"PyTorch for {'ROCm' if torch.version.hip else 'CUDA'} {made}" if made else "no CUDA"]
    )


def driver() -> str:
    """The version of NVIDIA's driver."""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (done.stdout.strip().splitlines() or ["unknown"])[0]
