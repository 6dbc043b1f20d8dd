"""Rules and models in the language, one for every kind of lowering."""

from __future__ import annotations

RULES = """
rule ema(x[d], a[d]) {
    state h[d] = 0
    h'    = a * h + (1 - a) * x
    return h'
}

rule slots(q[n], k[n], s[m]) {
    state top[m] = -1e30
    state total[m] = 0
    state K[m, n] = 0
    top'   = max(top, s)
    let    kept = exp(top - top') * total
    let    new = exp(s - top')
    total' = kept + new
    K'     = kept / total' * K + new / total' * k
    return sum[n](K' * q)
}

rule delayed(q[n], k[n]) {
    state  last[n] = 0
    state  h = 0
    last'  = k
    let    present = last + 1 * (k - last)
    h'     = 0.9 * h + sum[n](q * present)
    return h'
}

rule retnet(q[n], k[n], v[m], g) {
    memory    S: n -> m
    objective -sum[m](S(k) * v)
    retention g * S
    learner   gd(rate = 1)
    return    S'(q)
}

rule gla(q[n], k[n], v[m], g[n]) {
    memory    S: n -> m
    objective -sum[m](S(k) * v)
    retention g * S
    learner   gd(rate = 1)
    return    S'(q)
}

rule gated_delta(q[n], k[n], v[m], g, beta) {
    memory    S: n -> m
    objective 0.5 * sumsq(S(k) - v)
    retention g * S
    learner   gd(rate = beta, at = retained)
    return    S'(q)
}

rule kda(q[n], k[n], v[m], g[n], beta) {
    memory    S: n -> m
    objective 0.5 * sumsq(S(k) - v)
    retention g * S
    learner   gd(rate = beta, at = retained)
    return    S'(q)
}

rule phased_delta(q[n], k[n], angle[n], v[m], g, beta) {
    state  S[m, n] complex = 0
    let    key = polar(k, angle)
    let    R = g * S
    S'     = R - beta * (sum[n](R * conj(key)) - v) * key
    return real(sum[n](S' * q)) + imag(sum[n](S' * key))
}

rule corrected_twice(q[n], k[n], l[n], v[m], w[m], g, beta) {
    state  S[m, n] = 0
    let    R = g * S
    let    U = R - beta * (sum[n](R * k) - v) * k
    S'     = U - beta * (sum[n](U * l) - w) * l
    return sum[n](S' * q)
}

rule low_rank(q[n], k[n], l[n], v[m], g[n], beta) {
    state  S[m, n] = 0
    S'     = g * S - beta * sum[n](S * k) * k + v * l
    return sum[n](S' * q) + sum[n](S * l)
}

rule momentum(q[n], k[n], v[m], small, g) {
    memory    M: n -> m
    objective 0.5 * sumsq(M(k) - v)
    retention (1 - small) * M
    learner   momentum(rate = small, decay = g)
    return    M'(q)
}

rule mlstm(q[n], k[n], v[m], i, f) {
    state S[m, n] = 0
    state z[n] = 0
    state top = 0
    let   keep = log_sigmoid(f)
    top'  = max(keep + top, i)
    S'    = exp(keep + top - top') * S + exp(i - top') * v * k
    z'    = exp(keep + top - top') * z + exp(i - top') * k
    return sum[n](S' * q) / max(abs(sum[n](z' * q)), exp(-top'))
}

rule lru(x[d]) {
    param radius[d] = uniform(0.1, 1)
    param angle[d] = uniform(0, 3)
    state h[d] complex = 0
    h'    = polar(exp(-radius), angle) * h + x
    return real(h') + imag(h')
}

rule selective(x[d], small[d], b[e], c[e]) {
    param rate[d, e] = uniform(0.5, 4)
    state h[d, e] = 0
    h'    = exp(-small * rate) * h + small * x * b
    return sum[e](h' * c)
}

rule average(x[d]) {
    state count = 0
    state total[d] = 1
    count' = count + 1
    total' = total + x
    return total' / count' + total
}

rule shift(x[d]) {
    param mix[d] = uniform(0, 1)
    state past[d] = 0
    past' = x
    return mix * x + (1 - mix) * past
}

rule nonlinear(x[d], g[d]) {
    state h[d] = 0.5
    h'    = tanh(x + h * g)
    return h'
}

rule titans(q[n], k[n], v[m], small, g) {
    memory    M: n -> m = mlp(hidden = 2 * n, activation = silu)
    objective 0.5 * sumsq(M(k) - v)
    retention (1 - small) * M
    learner   momentum(rate = small, decay = g, every = 16)
    return    M'(q)
}

rule held(q[n], k[n], v[m], small, g[m]) {
    memory    M: n -> m
    objective 0.5 * sumsq(tanh(M(k)) - v)
    retention g * M
    learner   gd(rate = small, every = 5)
    return    M'(q) - M(k)
}

rule attend(q[n], k[n], v[m], slope) {
    store K[s, n] = k
    store V[s, m] = v
    let   weights = softmax[s](sum[n](q * K') - slope * age[s])
    return sum[s](weights * V')
}

rule attend_near(q[n], k[n], v[m]) {
    store K[s, n] = k, window = 5, sinks = 0
    store V[s, m] = v, window = 5, sinks = 0
    return sum[s](softmax[s](sum[n](q * K')) * V')
}

rule attend_sinks(q[n], k[n], v[m]) {
    store K[s, n] = k, window = 5, sinks = 3
    store V[s, m] = v, window = 5, sinks = 3
    return sum[s](softmax[s](sum[n](q * K')) * V')
}
"""

SIZES = {"n": 8, "m": 6, "d": 5, "e": 4}

HYBRID = """
rule mix(x[d], a[d]) {
    param start[d] = normal(0, 1)
    state h[d] = start
    h'    = a * h + (1 - a) * x
    return h'
}

block mixer(x[d]) {
    let u[d] = causal_conv(linear(x, bias = true), width = 3)
    return linear(mix(u, a = sigmoid(linear(u)))) -> [d]
}

model hybrid(tokens; vocab = 16, d = 8, h = 2, layers = 2) {
    param table[vocab, d] = normal(0, 0.3)
    let x[d] = embed(tokens, table)
    repeat layers {
        x = x + mixer(rms_norm(x))
        x = x + attention(rms_norm(x), h, kv_heads = 1)
        x = x + swiglu(rms_norm(x))
    }
    return sum[d](rms_norm(x) * table)
}
"""

BOTH_WAYS = """
rule ema(x[d], a[d]) {
    state h[d] = 0
    h'    = a * h + (1 - a) * x
    return h'
}

model both(x[d]; d = 8, c = 3) {
    let y[d] = ema(x, a = sigmoid(linear(x)))
    let z[d] = reverse(ema(reverse(x), a = sigmoid(linear(reverse(x)))))
    return linear(mean_pool(y + z)) -> [c]
}
"""
