"""Whole models on the CPU beside Transformers': the same configuration, weights, threads and setting of products.

Random weights, fp32, batch 1.  A prefill reads 2,048 tokens and keeps what decoding needs; decoding reads single tokens
after 64.  A prefill is measured with PyTorch's own products and, where that changes a product here, with
`set_float32_matmul_precision("medium")`, on both sides.  Before anything is measured the logits of both are compared.
The matrix products of our prefill, alone and with PyTorch's own setting, are what no way to compute the rest could be
faster than.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import seqc
from benchmarks.measure import KEPT, Sample, in_turn, peak_memory, restart_with_kept_memory
from benchmarks.report import Bar, Report, row
from seqc.bundled import folder
from seqc.spec import Handle
from tests.parity import weights as parts
from tests.parity.weights import Weights, dense, under

TOKENS, BEFORE, STEPS = 2048, 64, 16
VOCAB, WIDTH = 4096, 768
# How far the logits may lie apart, 2-norm over 2-norm: both sides round, in different orders.
TOLERANCE = 1e-4
OWN, FAST = "highest", "medium"  # decoding multiplies single rows, which both compute alike
# Kernels that Transformers would call if they were there; they want a GPU.
KERNELS = ("fla", "mamba_ssm", "causal_conv1d")
# What PyTorch calls products of matrices, and what is around them.
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "linear", "matmul")
# Where their answers keep what decoding goes on from.
CACHES = ("cache_params", "past_key_values", "state")
MEMORY = Bar(0.1, most=True)

MAMBA2 = """
model mamba2_lm(tokens; vocab, d, layers) {
    x[d] = embed(tokens, vocab)
    repeat layers {
        x = x + mamba2_mixer(rms_norm(x, 1e-5))
    }
    return lm_head(rms_norm(x, 1e-5), vocab)
}
"""
QWEN3_NEXT = """
model qwen3_next_dense(tokens; vocab, d, layers, h, kv_heads, n, delta_heads, delta_groups, delta_n, hidden) {
    x[d] = embed(tokens, vocab)
    repeat layers as l {
        if l % 4 == 3 {
            x = x + gated_attention(rms_norm(x), h, n, kv_heads = kv_heads)
        } else {
            x = x + gated_delta_net(rms_norm(x), delta_heads, delta_groups, delta_n, delta_n)
        }
        x = x + swiglu(rms_norm(x), hidden)
    }
    return lm_head(rms_norm(x), vocab)
}
"""


@dataclass(frozen=True)
class Case:
    """A model: what Transformers calls it and its settings there, our spec of it, its weights, its bar."""

    name: str
    settings: Mapping[str, Any]
    ours: Callable[[], Handle]
    weights: Callable[[Any], Weights]
    bar: float

    def theirs(self) -> nn.Module:
        known = cast(dict[str, Any], sys.modules)
        known.update(dict.fromkeys(KERNELS))
        import transformers

        common = {"vocab_size": VOCAB, "hidden_size": WIDTH, "tie_word_embeddings": True}
        config = getattr(transformers, f"{self.name}Config")(**common, **self.settings)
        torch.manual_seed(0)
        made: nn.Module = getattr(transformers, f"{self.name}ForCausalLM")(config).eval()
        for weight in made.parameters():
            # Matrices of norms, gates and decays keep their initial values; the table begins too small to matter.
            if weight.shape == (VOCAB, WIDTH):
                nn.init.normal_(weight, std=WIDTH**-0.5)
        base: Any = getattr(made, "model", None)
        if hasattr(base, "normalizer"):  # the root of the width, which they round to bfloat16
            base.normalizer = torch.tensor(WIDTH**0.5)
        return made


def composed(path: str, text: str) -> seqc.Spec:
    """The rules and blocks of a bundled spec with another model around them."""
    whole = (folder("specs") / path).read_text()
    return seqc.loads(whole[: whole.index("\nmodel ")] + text)


def stacked(block: str, mixer: Callable[[Any], Weights]) -> Callable[[Any], Weights]:
    """Layers of a norm and a mixer."""

    def found(theirs: Any) -> Weights:
        weights: Weights = {}
        for i, layer in enumerate(theirs.backbone.layers):
            weights |= {f"layers.{i}.rms_norm.weight": layer.norm.weight}
            weights |= under(f"layers.{i}.{block}", mixer(layer.mixer))
        return weights | ends(theirs, theirs.backbone.embeddings, theirs.backbone.norm_f.weight)

    return found


def qwen3_next(theirs: Any) -> Weights:
    weights: Weights = {}
    for i, layer in enumerate(theirs.model.layers):
        if hasattr(layer, "linear_attn"):
            weights |= under(f"layers.{i}.gated_delta_net", parts.gated_delta_net(layer.linear_attn))
        else:
            weights |= under(f"layers.{i}.gated_attention", parts.gated_attention(layer.self_attn))
        weights |= under(f"layers.{i}.swiglu", parts.gated(layer.mlp))
        weights[f"layers.{i}.rms_norm.weight"] = 1 + layer.input_layernorm.weight
        weights[f"layers.{i}.rms_norm_1.weight"] = 1 + layer.post_attention_layernorm.weight
    return weights | ends(theirs, theirs.model.embed_tokens, 1 + theirs.model.norm.weight)


def recurrent_gemma(theirs: Any) -> Weights:
    weights: Weights = {}
    for i, layer in enumerate(theirs.model.layers):
        mixer = layer.temporal_block
        if i % 3 == 2:
            name = f"layers.{i}.half_turned_attention"
            weights |= under(name, parts.attention(mixer)) | {f"{name}.out.bias": mixer.o_proj.bias}
        else:
            weights |= under(
                f"layers.{i}.recurrent", parts.recurrent(mixer, theirs.config.num_attention_heads)
            )
        for name in ("gate", "up", "down"):
            weights |= dense(f"layers.{i}.gated_network.{name}", getattr(layer.mlp_block, f"{name}_proj"))
        weights[f"layers.{i}.rms_norm.weight"] = 1 + layer.temporal_pre_norm.weight
        weights[f"layers.{i}.rms_norm_1.weight"] = 1 + layer.channel_pre_norm.weight
    own = {"table": theirs.model.embed_tokens.weight, "rms_norm.weight": 1 + theirs.model.final_norm.weight}
    return weights | own


def rwkv(theirs: Any) -> Weights:
    weights: Weights = {}
    blocks = theirs.rwkv.blocks
    norms = {"layer_norm": blocks[0].pre_ln, "layer_norm_1": theirs.rwkv.ln_out}
    for i, layer in enumerate(blocks):
        weights |= under(f"layers.{i}.time_mix", parts.time_mix(layer.attention))
        weights |= under(f"layers.{i}.channel_mix", parts.channel_mix(layer.feed_forward))
        norms |= {f"layers.{i}.layer_norm": layer.ln1, f"layers.{i}.layer_norm_1": layer.ln2}
    for name, norm in norms.items():
        weights |= dense(name, norm)
    return weights | {
        "embed.weight": theirs.rwkv.embeddings.weight,
        "lm_head.scores.weight": theirs.head.weight,
    }


def ends(theirs: Any, table: Any, norm: Tensor) -> Weights:
    """The embedding, the last norm and the head."""
    return {
        "embed.weight": table.weight,
        "rms_norm.weight": norm,
        "lm_head.scores.weight": theirs.lm_head.weight,
    }


COMMON = {"vocab": VOCAB, "d": WIDTH}
CASES = {
    "Mamba": Case(
        "Mamba",
        {"num_hidden_layers": 12, "layer_norm_epsilon": 1e-6},
        lambda: seqc.load(folder("specs") / "gated/mamba.seq").model(**COMMON, layers=12),
        stacked("mamba_mixer", parts.mamba),
        6,
    ),
    "Mamba-2": Case(
        "Mamba2",
        {"num_hidden_layers": 12, "num_heads": 24, "head_dim": 64, "n_groups": 1, "state_size": 128},
        lambda: composed("linear/mamba2.seq", MAMBA2).model(**COMMON, layers=12),
        stacked("mamba2_mixer", parts.mamba2),
        2.5,
    ),
    "Qwen3-Next, dense": Case(
        "Qwen3Next",
        {
            "num_hidden_layers": 12, "intermediate_size": 2048, "mlp_only_layers": list(range(12)),
            "num_attention_heads": 6, "num_key_value_heads": 1, "head_dim": 128, "linear_num_key_heads": 4,
            "linear_num_value_heads": 8, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
        },
        lambda: composed("hybrid/qwen3_next.seq", QWEN3_NEXT).model(
            **COMMON, layers=12, h=6, kv_heads=1, n=128, delta_heads=4, delta_groups=2, delta_n=128, hidden=2048
        ),
        qwen3_next,
        1.3,
    ),
    "RecurrentGemma": Case(
        "RecurrentGemma",
        {
            "num_hidden_layers": 6, "intermediate_size": 8 * WIDTH, "lru_width": WIDTH, "num_attention_heads": 6,
            "num_key_value_heads": 1, "head_dim": 128,
        },
        lambda: seqc.load(folder("specs") / "hybrid/recurrent_gemma.seq").model(
            **COMMON, layers=6, h=6, hidden=4 * WIDTH
        ),
        recurrent_gemma,
        1.5,
    ),
    "RWKV-4": Case(
        "Rwkv",
        {"num_hidden_layers": 12, "rescale_every": 0, "context_length": TOKENS},
        lambda: seqc.load(Path(__file__).with_name("rwkv4.seq")).model(**COMMON, layers=12),
        rwkv,
        1.5,
    ),
}  # fmt: skip


def some_tokens(count: int) -> Tensor:
    return torch.randint(VOCAB, (1, count), generator=torch.Generator().manual_seed(0))


class Theirs:
    """A model of Transformers, called as ours are."""

    def __init__(self, case: Case) -> None:
        self.model: Any = case.theirs()

    def __call__(self, tokens: Tensor) -> tuple[Tensor, Any]:
        return self._run(tokens, **self._begun(tokens))

    def _begun(self, tokens: Tensor) -> dict[str, Any]:
        """A cache made beforehand, for models that answer with none."""
        prepare = getattr(getattr(self.model, "model", None), "_setup_cache", None)
        if prepare is None:
            return {}
        from transformers import DynamicCache

        config = self.model.config
        prepare(config, len(tokens), tokens.device, torch.float32)
        return {"past_key_values": DynamicCache(config=config)}

    def step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        name, kept = state
        return self._run(token[:, None], **{name: kept})

    def _run(self, tokens: Tensor, **state: Any) -> tuple[Tensor, Any]:
        out = self.model(tokens, use_cache=True, **state)
        kept = {name: getattr(out, name, None) for name in CACHES} | state
        return out.logits, next((name, x) for name, x in kept.items() if x is not None)


def both(case: Case) -> tuple[Any, Theirs]:
    """Our module and theirs with the same weights, whose logits agree."""
    theirs = Theirs(case)
    ours = case.ours().cpu()
    ours.load_state_dict({name: x.detach().contiguous() for name, x in case.weights(theirs.model).items()})
    tokens = some_tokens(BEFORE)
    with torch.no_grad():
        mine, want = ours(tokens)[0], theirs(tokens)[0]
    error = float((mine - want).norm() / want.norm())
    if not error <= TOLERANCE:
        raise AssertionError(f"{case.name}: the logits differ by {error:.1e}")
    return ours, theirs


class Products(TorchDispatchMode):
    """Keeps the shapes and strides of both operands of every matrix product."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not type it
        self.seen: list[tuple[Callable[..., Any], list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        calls = {"mm": torch.mm, "addmm": torch.mm, "bmm": torch.bmm}
        if (call := calls.get(func.overloadpacket.__name__)) is not None:
            self.seen.append((call, [self._like(x) for x in args[-2:]]))
        return func(*args, **(kwargs or {}))

    def _like(self, x: Tensor) -> Tensor:
        """Ones, laid out alike; those of earlier products serve again."""
        known = (y for _, operands in self.seen for y in operands)
        alike = (y for y in known if y.shape == x.shape and y.stride() == x.stride())
        found = next(alike, None)
        return torch.empty_strided(x.shape, x.stride()).fill_(1.0) if found is None else found


def products(model: Any, tokens: Tensor) -> Callable[[], None]:
    """The matrix products of a prefill, and nothing else."""
    with torch.no_grad(), Products() as kept:
        model(tokens)

    def run() -> None:
        for call, operands in kept.seen:
            call(*operands)

    return run


def shares(model: Any, tokens: Tensor) -> dict[str, float]:
    """Percentages of the time of a prefill; the loops are what is no operation of PyTorch's."""
    found: dict[str, float] = dict.fromkeys(("products", "attention", "elementwise and copies"), 0.0)
    with (
        torch.no_grad(),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled,
    ):
        start = time.perf_counter()
        model(tokens)
        whole = 1e6 * (time.perf_counter() - start)
    for event in profiled.key_averages():
        kind = "elementwise and copies"
        if event.key.removeprefix("aten::") in PRODUCTS:
            kind = "products"
        elif "attention" in event.key:
            kind = "attention"
        found[kind] += event.self_cpu_time_total
    found["fused loops, Python"] = max(0.0, whole - sum(found.values()))
    return {kind: 100 * spent / whole for kind, spent in found.items()}


@cache
def settings() -> tuple[str, ...]:
    """The settings of products to measure: one, where this processor computes the same bits with both."""
    rows, weight = torch.randn(TOKENS, WIDTH), torch.randn(WIDTH, 4 * WIDTH)
    found: dict[str, Tensor] = {}
    for setting in (OWN, FAST):
        torch.set_float32_matmul_precision(setting)
        found[setting] = rows @ weight
    return (OWN,) if torch.equal(found[OWN], found[FAST]) else (OWN, FAST)


def prefill(model: Any, setting: str, tokens: Tensor) -> None:
    torch.set_float32_matmul_precision(setting)
    with torch.no_grad():
        model(tokens)


def decoder(model: Any) -> Callable[[], None]:
    """Reads `STEPS` tokens more at every call."""
    tokens = some_tokens(BEFORE)
    with torch.no_grad():
        state = model(tokens)[1]

    def run() -> None:
        nonlocal state
        torch.set_float32_matmul_precision(OWN)
        with torch.no_grad():
            for i in range(STEPS):
                _, state = model.step(tokens[:, i], state)

    return run


def measure(report: Report, title: str, case: Case, rounds: int) -> None:
    models: dict[str, Any] = dict(zip(("seqc", "Transformers"), both(case), strict=True))
    millions = sum(weight.numel() for weight in {*models["Transformers"].model.parameters()}) / 1e6
    tokens = some_tokens(TOKENS)
    alone = {"products alone": products(models["seqc"], tokens)}
    prefill(models["Transformers"], OWN, tokens)
    for setting in settings():
        sides = {side: partial(prefill, model, setting, tokens) for side, model in models.items()}
        name = f"{title} ({millions:.0f}M), prefill, {setting}"
        compare(report, name, TOKENS, sides | alone, rounds, Bar(case.bar))
        alone = {}
    steps = {side: decoder(model) for side, model in models.items()}
    compare(report, f"{title} ({millions:.0f}M), decode", STEPS, steps, 2 * rounds)
    for kind, share in shares(models["seqc"], tokens).items():
        report.add(row(f"{title}, where the time of a prefill goes", kind, Sample(share, 0.0), "%"))


def compare(
    report: Report,
    name: str,
    count: int,
    sides: Mapping[str, Callable[[], None]],
    rounds: int,
    bar: Bar | None = None,
) -> None:
    """The tokens a second of every side, which reads `count`, beside those of Transformers.

    All sides have run before.
    """
    clock = time.process_time if report.threads == 1 else time.perf_counter
    times = in_turn(sides, rounds, clock, least=0.0)
    rates = {side: sample.per(1e3 * count) for side, sample in times.items()}
    theirs = rates["Transformers"].median
    for side, rate in rates.items():
        ratio = None if side == "Transformers" else rate.median / theirs
        report.add(row(name, side, rate, "tokens/s", ratio, bar if side == "seqc" else None))


def memory(report: Report, title: str) -> None:
    """What a prefill needs beyond the weights, each side in a process of its own."""
    found: dict[str, Sample] = {}
    given_back = {name: value for name, value in os.environ.items() if name not in KEPT}
    for side in ("seqc", "Transformers"):
        command = [sys.executable, "-m", "benchmarks.models", "--memory-of", side, "--only", title]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=given_back)
        found[side] = Sample(json.loads(done.stdout.splitlines()[-1]), 0.0)
    ratio = found["seqc"].median / found["Transformers"].median
    name = f"{title}, memory of a prefill"
    report.add(row(name, "seqc", found["seqc"], "MB", ratio, MEMORY))
    report.add(row(name, "Transformers", found["Transformers"], "MB"))


def memory_of(side: str, case: Case) -> float:
    """Megabytes, after a short sequence that builds what is built once."""
    models: dict[str, Any] = dict(zip(("seqc", "Transformers"), both(case), strict=True))
    return peak_memory(partial(prefill, models[side], OWN, some_tokens(TOKENS)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--only", choices=[*CASES], help="one of the models")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--memory-of", choices=("seqc", "Transformers"), help="print the megabytes of one side"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.memory_of:
        print(json.dumps(memory_of(given.memory_of, CASES[given.only])))
        return
    restart_with_kept_memory("benchmarks.models")
    assert __doc__ is not None
    report = Report(
        "models",
        "Whole models on the CPU",
        " ".join(__doc__.split()),
        "tokens a second over Transformers'; memory: ours over theirs",
        given.threads,
    )
    chosen = [given.only] if given.only else [*CASES]
    for title in chosen:
        measure(report, title, CASES[title], given.rounds)
    if "Mamba" in chosen:
        memory(report, "Mamba")
    if not given.only:
        report.write()


if __name__ == "__main__":
    main()
