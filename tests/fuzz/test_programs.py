"""No program makes a traceback, takes over two seconds, or writes where it should not: 2,000 here, 50,000 in all."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seqc
from tests.fuzz.pipeline import SECONDS, Programs, seconds
from tests.syntax.mutants import TOKEN, mutants
from tests.syntax.test_generated import programs as generated

BROKEN = st.sampled_from(["", "(", ")", "{", "}", "=", "let", "->", "3", "'", "x"])


def _broken(text: str, place: int, instead: str) -> str:
    words = TOKEN.findall(text)
    if words:
        words[place % len(words)] = instead
    return "".join(words)


def _perhaps_broken(text: str, place: int, instead: str) -> str:
    return _broken(text, place, instead) if place else text


either = st.builds(_perhaps_broken, generated, st.integers(0, 200), BROKEN)


def run(programs: Programs, seed: int, count: int) -> None:
    for text in mutants(seed, count):
        programs.run(text)
    assert programs.seen == count
    assert programs.right > count / 50, (
        "hardly anything is right: the mutants no longer test the later stages"
    )


@pytest.mark.parametrize("seed", range(4))
def test_mutated_programs(programs: Programs, seed: int) -> None:
    run(programs, seed, count=475)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 124))
def test_many_mutated_programs(programs: Programs, seed: int) -> None:
    run(programs, seed, count=2_000)


together = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=100, deadline=None, suppress_health_check=together)
@given(text=either)
def test_generated_programs(programs: Programs, text: str) -> None:
    programs.run(text)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None, suppress_health_check=together)
@given(text=either)
def test_many_generated_programs(programs: Programs, text: str) -> None:
    programs.run(text)


X = "model m(x[f]; f = 4) {{ y = x\n repeat 4096 as l {{ {} }} return x }}"
STATES = "".join(f"state h{i}[f] = 0\n h{i}' = 0.5 * h{i} + x\n" for i in range(1_000))
CHAIN = "".join(
    f"state h{i}[f] = 0\n h{i}' = h{i} + {f'h{i - 1}`' if i else 'x'}\n".replace("`", "'") for i in range(120)
)
DEEP = "mlp(hidden = 4 * n, depth = 16, activation = gelu_tanh, norm = layer, residual = true, bias = true)"
MEMORY = "memory M: n -> m = {}\n objective 0.5 * sumsq(M(k) - v)\n learner momentum(rate = a, decay = a, every = 16)"
CALLS = "".join(
    f"block b{i}(x[d]; l) {{ return b{i + 1}(x, l = 2 * l) + b{i + 1}(x, l = 2 * l + 1) }}\n"
    for i in range(20)
)

# Made to be slow: each is a diagnostic, and one of it.
SLOW = {
    "a long sum, often": (X.format("x = x" + " + x * l" * 60), "E0404"),
    "branches that are not taken": (
        X.format("repeat 1 as b { x = x + l\n if b > 5 { " + f"y = y{' + y' * 50}\n" * 150 + " } }"),
        "E0404",
    ),
    "empty statements": (X.format("x = x + l\n" + "if 0 { }\n" * 3_000), "E0404"),
    "calls that double": (CALLS + "block b20(x[d]; l) { return l * x }", "E0404"),
    "many states": (f"rule r(x[f]; f = 4) {{ {STATES} return h0' }}", "E0805"),
    "a chain of states": (f"rule r(x[f]; f = 4) {{ {CHAIN} return h119' }}", "E0805"),
    "a deep memory": (f"rule r(q[n], k[n], v[m], a) {{ {MEMORY.format(DEEP)}\n return M'(q) }}", "E0805"),
    "many rules": ("".join(f"rule r{i}(x[f]) {{ return x }}\n" for i in range(3_000)), "E0805"),
}


@pytest.mark.parametrize("name", SLOW)
def test_slow_programs_are_refused_quickly(programs: Programs, name: str) -> None:
    text, code = SLOW[name]

    def refuse() -> None:
        with pytest.raises(seqc.SpecError) as caught:
            seqc.loads(text).explain()
        assert [c for c in caught.value.codes if not c.startswith("W")] == [code]

    assert seconds(refuse) < SECONDS
