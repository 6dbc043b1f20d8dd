"""The record of the kernels: all of them compiled for every GPU, benchmarks/results/kernels.json and kernels.md."""
