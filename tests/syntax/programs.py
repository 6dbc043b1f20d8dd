"""Texts that several tests of the syntax use."""

from __future__ import annotations

FIVE = """\
# 1. Gated DeltaNet, by the four choices.
rule gated_delta(q[n], k[n], v[m], alpha, beta) {
    memory    S: n -> m                       # a matrix; S(x) = sum[n](S * x)
    objective 0.5 * sumsq(S(k) - v)           # attentional bias
    retention alpha * S                       # what is kept of the past
    learner   gd(rate = beta, at = retained)  # one step, at the retained memory
    return    S'(q)                           # the prime: after the update
}

# 2. The same, by its equations.
rule gated_delta_eq(q[n], k[n], v[m], alpha, beta) {
    state  S[m, n] = 0
    let    R = alpha * S
    S'     = R - beta * (sum[n](R * k) - v) * k
    return sum[n](S' * q)
}

# 3. RG-LRU (Griffin): a diagonal gate, a learned decay.
rule rg_lru(x[d], r[d], i[d]) {
    param  decay[d] = inv_softplus(-0.5 * log(uniform(0.81, 0.998)))
    let    log_a = -8 * softplus(decay) * r
    state  h[d] = 0
    h'     = exp(log_a) * h + sqrt_bounded(1 - exp(2 * log_a), 1000) * (i * x)
    return h'
}

# 4. Titans: a deep memory, momentum, gradients taken at the start of every 16 tokens.
rule titans(q[n], k[n], v[m], alpha, eta, theta) {
    memory    M: n -> m = mlp(hidden = 4 * n, activation = silu)
    objective 0.5 * sumsq(M(k) - v)
    retention (1 - alpha) * M
    learner   momentum(rate = theta, decay = eta, every = 16)
    return    M'(q)
}

# 5. A model.
block recurrent(x[d]; w) {
    let u[w] = causal_conv(linear(x), width = 4)
    let y[w] = rg_lru(u, r = sigmoid(linear(u)), i = sigmoid(linear(u)))
    let g[w] = gelu(linear(x))
    return linear(g * y) -> [d]
}

model griffin(tokens; vocab = 256, d = 256, w = 384, h = 4, n = 64, layers = 4) {
    x[d] = embed(tokens, vocab)
    repeat layers {
        x = x + recurrent(rms_norm(x), w)
        x = x + swiglu(rms_norm(x))
        x = x + recurrent(rms_norm(x), w)
        x = x + swiglu(rms_norm(x))
        x = x + local_attention(rms_norm(x), h, n, window = 128, kv_heads = 1)
        x = x + swiglu(rms_norm(x))
    }
    return lm_head(rms_norm(x), vocab)
}
"""

# Everything that the five programs do not use.
OTHER = """\
language 1

use std
use "lib/blocks.seq"

rule choices(q[n], k[n], v[m], reset; n, m = 2 * n) {
    memory    S: n -> m complex
    memory    h: m
    objective sumsq(S(k) - v) + sumsq(h - v)
    retention S: 0.9 * S
    learner   S: momentum(rate = 0.1, decay = 0.9, window = 4, weights = k)
    learner   h: gd(rate = 0.1)
    proximal  S: soft_threshold(1e-3)
    return    S'(q), h' - h
}

rule attention(q[n], k[n], v[m]; w = 128, c = 4) {
    state  count
    state  z[n] complex = 0
    count' = count + 1
    z'     = complex(0, 1) * z
    store  K[s, n] = k, window = w, sinks = c
    store  V[s, m] = v, window = w, sinks = c
    let    p = softmax[s](sum[n](q * K'))
    return sum[s](p * V')
}

block parts(x[d]; e, l = 0) {
    param scale[d] = 1
    let a[e], b[e] = split(linear(x) as both)
    let c = where(a < b and not (b >= 1 or a == b), -a^2, 2^-b)
    if l % 3 == 2 {
        let z = linear[e](c) as z_proj -> [d]
        y = z[d -> e]
    } else if l != 0 {
        y = index[h]
    } else {
        y = ((a + b) * c)[e -> d]
    }
    return y
}

model m(x[f]; layers = 4, tied = true) {
    repeat layers - 1 as l {
        x = parts(x, l = l)
    }
    repeat 4 shared as j {
        x = x
    }
    repeat 2 shared {
        x = parts(x, l = -1, tied = false)
    }
    return x
}
"""
