"""Weights from outside: read from safetensors, and held against what a model needs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqc.diagnostics.words import by_nearness
from seqc.errors import UserError
from seqc.ir.paths import parameter_table
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence

WEIGHTS = "weights.safetensors"
BYTES = 12  # a weight while it is made: in double precision, and as it is written


def read_weights(path: Path, whole: Recurrence | Model) -> dict[str, Any]:
    """The tensors of a safetensors file, if they are the parameters of `whole`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise UserError(f"there is no file `{path}`") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read `{path}` as safetensors: {error}") from error
    check_weights(weights, whole, str(path))
    return weights


def check_weights(weights: Mapping[str, Any], whole: Recurrence | Model, origin: str = "the weights") -> None:
    """Every parameter is there, under its name and with its shape, and nothing else is."""
    wanted = parameter_table(whole)
    for name, parameter in wanted.items():
        if name not in weights:
            near = by_nearness(name, weights)[:3]
            raise UserError(
                f"`{origin}` lacks the parameter `{name}`", f"it has {', '.join(near)}" if near else None
            )
        shape = tuple(weights[name].shape)
        if shape != parameter.shape:
            raise UserError(
                f"`{name}` is {list(shape)} in `{origin}`, but `{whole.name}` needs {list(parameter.shape)}"
            )
    extra = [name for name in weights if name not in wanted]
    if extra:
        raise UserError(f"`{origin}` has `{extra[0]}`, which `{whole.name}` does not know")


def check_room(whole: Recurrence | Model) -> None:
    """Weights that this machine cannot hold are refused before anything is written."""
    count = sum(math.prod(parameter.shape) for parameter in parameter_table(whole).values())
    needed, room = count * BYTES, _memory()
    if room is not None and needed > room:
        raise UserError(
            f"`{whole.name}` has {count:,} weights; to make them takes {needed / 2**30:,.0f} GiB of memory, and this "
            f"machine has {room / 2**30:,.0f}",
            "choose smaller sizes, for example with `--set d=256`",
        )


def _memory() -> int | None:
    """The bytes of memory of this machine, where the system says."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def keep_weights(
    weights: Mapping[str, Any] | None, whole: Recurrence | Model, seed: int, folder: Path
) -> None:
    """Write the weights into a folder of files that hold the weights only in a form of their own.

    Without `weights`, those that `seed` stands for.
    """
    target = folder / WEIGHTS
    names = list(parameter_table(whole))
    if target.exists() or not names:
        return
    import numpy as np
    from safetensors.numpy import save_file

    from seqc.oracle import initial_parameters

    given: Mapping[str, Any] = initial_parameters(whole, seed) if weights is None else weights
    plain = {name: _plain(given[name]) for name in names}
    save_file({name: np.asarray(value, np.float32, order="C") for name, value in plain.items()}, target)


def _plain(tensor: Any) -> Any:
    """A numpy array, of a torch tensor too."""
    return tensor.detach().cpu().float().numpy() if hasattr(tensor, "detach") else tensor
