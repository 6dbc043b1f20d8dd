"""Quantisation of compiled graphs: matrices of weights in fewer bits, states, norms and convolutions as they were."""

from __future__ import annotations

FORMATS = {
    "int8": "matrices of signed bytes, a scale an output; inputs in bytes too, rounded token by token",
    "8bit": "matrices of 8-bit codes, a scale for each block of inputs",
    "4bit": "matrices of 4-bit codes, a scale for each block of inputs",
    "float16": "matrices stored in float16, multiplied in float32",
    "bfloat16": "matrices stored in bfloat16, multiplied in float32",
}
