"""Words of the library that promise a minimiser, against what a numerical search finds; and several writes a token."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seqc.oracle import run_recurrence
from tests.check.programs import checked, codes
from tests.miras.structures import KEY, draw

ROWS, COLUMNS = 3, 4
Cost = Callable[[Tensor], Tensor]


def of_the_language(expression: str, *values: Tensor) -> Tensor:
    """What an expression of `x`, and of `y` if there is a second value, gives for matrices."""
    names = ["x", "y"][: len(values)]
    header = ", ".join(f"{name}[m, n]" for name in names)
    rec = checked(f"rule r({header}) {{ return {expression} }}").elaborate_rule(
        "r", {"m": ROWS, "n": COLUMNS}
    )
    (answer,), _ = run_recurrence(rec, {k: v[None, None] for k, v in zip(names, values, strict=True)}, {})
    return answer[0, 0]


def minimiser(cost: Cost, start: Tensor) -> Tensor:
    """By L-BFGS with a line search, from `start`."""
    w = start.clone().requires_grad_(True)
    search = torch.optim.LBFGS(
        [w], 1, 500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        search.zero_grad()
        loss = cost(w)
        loss.backward()
        return loss

    search.step(closure)
    return w.detach()


def half_square(x: Tensor) -> Tensor:
    return 0.5 * (x * x).sum()


def test_the_simplex_minimises_the_linearised_objective_and_the_divergence() -> None:
    """argmin <g, W> + KL(W | W'), over distributions, is softmax of log W' - g."""
    before, slope = torch.softmax(draw(ROWS, COLUMNS, seed=1), -1), draw(ROWS, COLUMNS, seed=2)

    def cost(free: Tensor) -> Tensor:
        w = torch.softmax(free, -1)
        return (slope * w).sum() + (w * (w.log() - before.log())).sum()

    want = torch.softmax(minimiser(cost, torch.zeros_like(before)), -1)
    torch.testing.assert_close(
        of_the_language("softmax[n](log(x) - y)", before, slope), want, rtol=1e-5, atol=1e-6
    )


def test_the_bounded_memory_minimises_with_the_entropy_of_every_entry() -> None:
    before, slope = torch.sigmoid(draw(ROWS, COLUMNS, seed=1)), draw(ROWS, COLUMNS, seed=2)

    def cost(free: Tensor) -> Tensor:
        w = torch.sigmoid(free)
        divergence = w * (w / before).log() + (1 - w) * ((1 - w) / (1 - before)).log()
        return (slope * w).sum() + divergence.sum()

    want = torch.sigmoid(minimiser(cost, torch.zeros_like(before)))
    found = of_the_language("sigmoid(log(x / (1 - x)) - y)", before, slope)
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6)


def test_the_q_norm_is_the_map_of_its_square_and_the_published_one_is_not() -> None:
    """The memory is argmax <A, W> - half the squared q-norm of W."""
    dual = draw(ROWS, COLUMNS, seed=3)

    def cost(w: Tensor) -> Tensor:
        return 0.5 * (w**4).sum() ** 0.5 - (dual * w).sum()

    want = minimiser(cost, dual)
    torch.testing.assert_close(of_the_language("q_norm[m, n](x, q = 4)", dual), want, rtol=1e-4, atol=1e-5)
    published = of_the_language("moneta_normaliser[m, n](x, q = 4)", dual)
    assert (published - want).norm() > 0.1 * want.norm()


DUAL = """
rule r(q[n], k[n], v[m], beta) {
    memory    W: n -> m = matrix(mirror = q_norm(q = 4))
    objective 0.5 * sumsq(W(k) - v)
    learner   gd(rate = beta)
    return    W'(q)
}
"""


def linearised(slopes: Tensor) -> Cost:
    return lambda w: (slopes * w).sum() + 0.5 * (w**4).sum() ** 0.5


def test_gradient_descent_behind_a_mirror_map_is_dual_averaging() -> None:
    """The memory is argmin of all linearised objectives so far and half the squared q-norm of W."""
    time = 3
    rec = checked(DUAL).elaborate_rule("r", {"n": COLUMNS, "m": ROWS})
    q, k, v = draw(time, COLUMNS, seed=1), draw(time, COLUMNS, seed=2), draw(time, ROWS, seed=3)
    beta = torch.sigmoid(draw(time, seed=4))
    inputs = {"q": q, "k": k, "v": v, "beta": beta}
    (answers,), _ = run_recurrence(rec, {name: x[None] for name, x in inputs.items()}, {})
    slopes = memory = torch.zeros(ROWS, COLUMNS, dtype=torch.float64)
    for t in range(time):
        slopes = slopes + beta[t] * torch.outer(memory @ k[t] - v[t], k[t])
        memory = minimiser(linearised(slopes), -slopes)
        torch.testing.assert_close(answers[0, t], memory @ q[t], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("absolute", "square"), [(0.3, 0.0), (0.0, 0.5), (0.4, 0.2)])
def test_the_elastic_net_is_a_minimiser(absolute: float, square: float) -> None:
    """Entry by entry, on a fine grid: the cost has a corner at 0."""
    x = draw(ROWS, COLUMNS, seed=4)
    grid = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    cost = 0.5 * (grid - x[..., None]) ** 2 + 0.5 * square * grid**2 + absolute * grid.abs()
    want = grid[cost.argmin(-1)]
    found = of_the_language(f"elastic_net(x, {absolute}, {square})", x)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-4)
    if not square:
        torch.testing.assert_close(of_the_language(f"soft_threshold(x, {absolute})", x), found)
    if not absolute:
        torch.testing.assert_close(of_the_language(f"ridge(x, {square})", x), found)


def test_newton_schulz_comes_near_the_nearest_orthogonal_matrix() -> None:
    x = draw(ROWS, COLUMNS, seed=5)
    u, _, vt = torch.linalg.svd(x, full_matrices=False)
    found = of_the_language("newton_schulz[m, n](x)", x)
    sizes = torch.linalg.svdvals(found)
    assert sizes.min() > 0.6
    assert sizes.max() < 1.25
    assert (found - u @ vt).norm() < 0.6 * (u @ vt).norm()


def test_conjugate_gradients_solve() -> None:
    text = """
    rule r(a[n, e], b[n]; e = n) { return conjugate_gradients[n, e](a, b, 0.5 + 0 * b, steps = 4) }
    """
    rec = checked(text).elaborate_rule("r", {"n": COLUMNS})
    root, right = draw(COLUMNS, COLUMNS, seed=6), draw(COLUMNS, seed=7)
    matrix = root @ root.T
    (answer,), _ = run_recurrence(rec, {"a": matrix[None, None], "b": right[None, None]}, {})
    want = torch.linalg.solve(matrix + 0.5 * torch.eye(COLUMNS, dtype=torch.float64), right)
    torch.testing.assert_close(answer[0, 0], want, rtol=1e-7, atol=1e-8)


PRODUCT = """
rule product(q[n], k[j, n], v[j, m], beta[j], alpha) {
    memory    S: n -> m
    objective 0.5 * sumsq[m](S(k) - v)
    retention alpha * S
    learner   gd(rate = beta, each = j, at = retained)
    return    S'(q)
}
"""


def test_each_entry_of_an_axis_is_a_step() -> None:
    """DeltaProduct: the delta rule with several pairs a token, one after the other."""
    time, pairs = 5, 2
    rec = checked(PRODUCT).elaborate_rule("product", {"n": COLUMNS, "m": ROWS, "j": pairs})
    x = {
        "q": draw(time, COLUMNS, seed=1),
        "k": draw(time, pairs, COLUMNS, seed=2),
        "v": draw(time, pairs, ROWS, seed=3),
        "beta": torch.sigmoid(draw(time, pairs, seed=4)),
        "alpha": torch.sigmoid(draw(time, seed=5)),
    }
    (answers,), _ = run_recurrence(rec, {name: value[None] for name, value in x.items()}, {})
    state = torch.zeros(ROWS, COLUMNS, dtype=torch.float64)
    for t in range(time):
        state = x["alpha"][t] * state
        for j in range(pairs):
            error = state @ x["k"][t, j] - x["v"][t, j]
            state = state - x["beta"][t, j] * torch.outer(error, x["k"][t, j])
        torch.testing.assert_close(answers[0, t], state @ x["q"][t])


@pytest.mark.parametrize(
    ("learner", "code"),
    [
        ("gd(rate = beta, each = j)", "E0515"),
        ("gd(rate = beta, each = j, at = retained, every = 4)", "E0522"),
        ("gd(rate = beta, each = j, at = retained, window = 2)", "E0522"),
        ("gd(rate = 1, each = j + 1, at = retained)", "E0522"),
        ("gd(rate = 1, at = retained)", "E0507"),
        ("gd(rate = 1, at = retained, weights = alpha)", "E0522"),
    ],
)
def test_what_each_does_not_go_with(learner: str, code: str) -> None:
    assert codes(PRODUCT.replace("gd(rate = beta, each = j, at = retained)", learner)) == [code]


FADE = """
rule fade(x[d], y; start = -7, meta = 0.001, rate = 0.05) {
    memory    w: d
    state     log_decay[d] = start
    state     g[d] = 0
    let       guess = sum[d](w * x)
    let       e = y - guess
    log_decay' = clip(log_decay + meta * e * x * g, -15, 0)
    let       decay = exp(log_decay')
    g'        = g * max(0, 1 - decay - rate * x^2) - decay * w
    objective 0.5 * sumsq(y - sum[d](w * x))
    retention w: (1 - decay) * w
    learner   w: gd(rate = rate)
    return    guess
}
"""


def test_retention_that_is_learned_by_its_own_gradient() -> None:
    """FADE (2604.27063): the decay of every weight moves along what it has done to the error."""
    time, start, meta, rate = 9, -1.5, 0.1, 0.1
    sizes = {"d": KEY, "start": start, "meta": meta, "rate": rate}
    rec = checked(FADE).elaborate_rule("fade", sizes)
    x, y = draw(time, KEY, seed=1), draw(time, seed=2)
    (found,), after = run_recurrence(rec, {"x": x[None], "y": y[None]}, {})
    log_decay = torch.full((KEY,), start).double()
    trace = w = decay = torch.zeros(KEY).double()
    for t in range(time):
        torch.testing.assert_close(found[0, t], w @ x[t])
        error = y[t] - w @ x[t]
        log_decay = log_decay + meta * error * x[t] * trace
        decay = log_decay.exp()
        trace = trace * (1 - decay - rate * x[t] ** 2).clamp(min=0) - decay * w
        w = (1 - decay) * w + rate * error * x[t]
    torch.testing.assert_close(after["w"][0], w)
    assert decay.std() > 1e-3 * decay.mean()


@pytest.mark.parametrize(
    "memory", ["n -> m = slots()", "m = slots(count = 2)", "n -> m complex = slots(count = 2)"]
)
def test_slots_are_a_counted_real_map(memory: str) -> None:
    text = f"rule r(k[n], v[m]) {{ memory S: {memory}  objective sumsq(S(k) - v)  learner gd(rate = 1)  return v }}"
    assert codes(text)[:1] == ["E0516"]
