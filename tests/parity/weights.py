"""Weights of Transformers' models by our names.

Their mixers hold several maps in one matrix; each is cut apart here as their own code cuts its results apart.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

# Their weights by our names.
Weights = dict[str, Tensor]


def under(name: str, weights: Weights) -> Weights:
    """The weights of a part, in the whole that calls it `name`."""
    return {f"{name}.{own}": weight for own, weight in weights.items()}


def cut(x: Tensor, lengths: dict[str, int], dim: int = 0) -> Weights:
    return dict(zip(lengths, x.split(list(lengths.values()), dim), strict=True))


def maps(weights: Weights) -> Weights:
    """Linear maps without a bias."""
    return {f"{name}.weight": weight for name, weight in weights.items()}


def dense(name: str, layer: Any, *shape: int) -> Weights:
    """A linear map and its bias, whose outputs are seen as `shape`."""
    pair = {"weight": layer.weight, "bias": layer.bias}
    return {f"{name}.{part}": x.unflatten(0, shape) if shape else x for part, x in pair.items()}


def mamba(mixer: Any) -> Weights:
    width, n, rank = mixer.intermediate_size, mixer.ssm_state_size, mixer.time_step_rank
    found = cut(mixer.in_proj.weight, {"x": width, "z": width})
    found |= cut(mixer.x_proj.weight, {"dt_down": rank, "B": n, "C": n})
    found |= {"conv": mixer.conv1d.weight[:, 0], "dt_up": mixer.dt_proj.weight, "out": mixer.out_proj.weight}
    own = {"conv.bias": mixer.conv1d.bias, "dt_bias": mixer.dt_proj.bias}
    return maps(found) | own | {"scan.A_log": mixer.A_log, "scan.D": mixer.D}


def mamba2(mixer: Any) -> Weights:
    groups, n, p = mixer.n_groups, mixer.ssm_state_size, mixer.head_dim
    heads = mixer.num_heads // groups
    shapes = {"z": (groups, heads, p), "x": (groups, heads, p), "B": (groups, n), "C": (groups, n)}
    inner = {"x": groups * heads * p, "B": groups * n, "C": groups * n}
    found = cut(mixer.in_proj.weight, {"z": inner["x"], **inner, "dt": groups * heads})
    shapes["dt"] = (groups, heads)
    weights = maps({name: weight.unflatten(0, shapes[name]) for name, weight in found.items()})
    for part, values in (("weight", mixer.conv1d.weight[:, 0]), ("bias", mixer.conv1d.bias)):
        taps = cut(values, inner)
        weights |= {f"conv_{name}.{part}": each.unflatten(0, shapes[name]) for name, each in taps.items()}
    for name in ("A_log", "dt_bias", "D"):
        weights[name] = getattr(mixer, name).unflatten(0, (groups, heads))
    weights["weight"] = mixer.norm.weight.unflatten(0, shapes["x"])
    weights["out.weight"] = mixer.out_proj.weight.unflatten(1, shapes["x"])
    return weights


def gated_delta_net(mixer: Any) -> Weights:
    h, n, m = mixer.num_k_heads, mixer.head_k_dim, mixer.head_v_dim
    groups = mixer.num_v_heads // h
    wide = {"v": groups * m, "z": groups * m}
    found = cut(mixer.in_proj_qkvz.weight.unflatten(0, (h, -1)), {"q": n, "k": n, **wide}, 1)
    found |= cut(mixer.in_proj_ba.weight.unflatten(0, (h, -1)), {"beta": groups, "dt": groups}, 1)
    found |= {name: found[name].unflatten(1, (groups, m)) for name in wide}
    taps = cut(mixer.conv1d.weight[:, 0], {"q": h * n, "k": h * n, "v": h * groups * m})
    shapes = {"q": (h, n), "k": (h, n), "v": (h, groups, m)}
    found |= {f"conv_{name}": each.unflatten(0, shapes[name]) for name, each in taps.items()}
    found |= {"norm": mixer.norm.weight, "out": mixer.out_proj.weight.unflatten(1, shapes["v"])}
    return maps(found) | {
        name: getattr(mixer, name).unflatten(0, (h, groups)) for name in ("A_log", "dt_bias")
    }


def attention(layer: Any, out: str = "o_proj") -> Weights:
    """Grouped attention: the heads of a group of queries follow one another."""
    n = layer.head_dim
    heads = layer.k_proj.weight.shape[0] // n
    queries = (heads, layer.q_proj.weight.shape[0] // (heads * n), n)
    found = {name: getattr(layer, f"{name}_proj").weight.unflatten(0, (heads, n)) for name in "kv"}
    found |= {"q": layer.q_proj.weight.unflatten(0, queries)}
    return maps(found | {"out": getattr(layer, out).weight.unflatten(1, queries)})


def gated_attention(layer: Any) -> Weights:
    """Attention whose map of the queries holds the gates too, head by head; norms stored less 1."""
    n = layer.head_dim
    heads = layer.k_proj.weight.shape[0] // n
    both = layer.q_proj.weight.unflatten(0, (heads, -1, 2, n))
    found = {name: getattr(layer, f"{name}_proj").weight.unflatten(0, (heads, n)) for name in "kv"}
    found |= {"q": both[:, :, 0], "gate": both[:, :, 1]}
    found |= {"out": layer.o_proj.weight.unflatten(1, (heads, -1, n))}
    return maps(found | {f"{name}_norm": 1 + getattr(layer, f"{name}_norm").weight for name in "qk"})


def recurrent(mixer: Any, h: int) -> Weights:
    """The recurrent block of RecurrentGemma."""
    weights = dense("x", mixer.linear_x, h, -1) | dense("gate", mixer.linear_y, h, -1)
    weights |= {"conv.weight": mixer.conv_1d.weight[:, 0].unflatten(0, (h, -1))}
    weights |= {"conv.bias": mixer.conv_1d.bias.unflatten(0, (h, -1))}
    weights |= {
        "out.weight": mixer.linear_out.weight.unflatten(1, (h, -1)),
        "out.bias": mixer.linear_out.bias,
    }
    gates = mixer.rg_lru
    weights |= {"decay": gates.recurrent_param.unflatten(0, (h, -1))}
    weights |= {"r.weight": gates.recurrent_gate_weight.mT, "r.bias": gates.recurrent_gate_bias}
    return weights | {"i.weight": gates.input_gate_weight.mT, "i.bias": gates.input_gate_bias}


def gated(layer: Any) -> Weights:
    """A gated network without biases."""
    return maps({part: getattr(layer, f"{part}_proj").weight for part in ("gate", "up", "down")})


def experts(layer: Any, router: Tensor) -> Weights:
    gate, up = layer.gate_up_proj.chunk(2, dim=1)  # [experts, hidden, width] each
    return maps({"router": router, "gate": gate, "up": up, "down": layer.down_proj.transpose(0, 1)})


def time_mix(mixer: Any) -> Weights:
    """The attention of RWKV-4."""
    found = {name: getattr(mixer, name).weight for name in ("key", "value", "receptance")}
    weights = maps(found | {"out": mixer.output.weight})
    weights |= {f"mix_{name}": getattr(mixer, f"time_mix_{name}")[0, 0] for name in found}
    return weights | {"wkv.decay": mixer.time_decay, "wkv.first": mixer.time_first}


def channel_mix(mixer: Any) -> Weights:
    """The network of RWKV-4."""
    weights = maps({name: getattr(mixer, name).weight for name in ("key", "value", "receptance")})
    return weights | {
        f"mix_{name}": getattr(mixer, f"time_mix_{name}")[0, 0] for name in ("key", "receptance")
    }
