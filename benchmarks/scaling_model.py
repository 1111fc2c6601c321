#!/usr/bin/env python3
"""The cost model of docs/scaling.md: prints its tables.

A step of R ranks, one thread each:  T(R) = c B / R + s n + log2(R) (2 a + (b + g) n)

c: seconds per sample on one core, n: bytes of the gradient, s: optimizer and clip, a and b: latency and
seconds per byte of the network, g: packing and adding. c, n, s were measured, a and b are from the
literature for networks.
"""
from math import log2

COMPUTE = {32: 0.065e-3, 64: 0.13e-3, 128: 0.28e-3, 256: 1.3e-3, 512: 6.5e-3}  # by hidden size
BYTES = {32: 23232, 64: 78784, 128: 288192, 256: 1100224, 512: 4297152}
SERIAL, ADD = 0.3e-9, 0.1e-9
NETWORKS = {"Ethernet": (30e-6, 1 / 1.1e9), "InfiniBand": (1.5e-6, 1 / 12e9)}


def step(hidden, batch, ranks, network):
    latency, per_byte = NETWORKS[network]
    level = 2 * latency + (per_byte + ADD) * BYTES[hidden]
    return COMPUTE[hidden] * batch / ranks + SERIAL * BYTES[hidden] + log2(ranks) * level


def speed_up(hidden, batch, ranks, network):
    return step(hidden, batch, 1, network) / step(hidden, batch, ranks, network)


def last_that_pays(hidden, batch, network):
    """The most ranks of which each doubling saved at least a quarter of the time."""
    ranks = 1
    while 2 * ranks <= batch:
        if step(hidden, batch, 2 * ranks, network) > 0.75 * step(hidden, batch, ranks, network):
            break
        ranks *= 2
    return ranks


print("| batch | network | 4 | 16 | 64 | 256 | 1,024 |\n|---|---|---|---|---|---|---|")
for batch in 64, 1024, 16384:
    for network in NETWORKS:
        cells = [
            f"{speed_up(128, batch, ranks, network):.3g}" if ranks <= batch else "-"
            for ranks in (4, 16, 64, 256, 1024)
        ]
        print(f"| {batch:,} | {network} | {' | '.join(cells)} |")
print("\n| hidden | bytes | ms per sample | " +
      " | ".join(f"{n}, batch {b:,}" for n in NETWORKS for b in (16, 64, 256, 1024)) + " |")
print("|" + "---|" * 11)
for hidden in COMPUTE:
    cells = [str(last_that_pays(hidden, b, n)) for n in NETWORKS for b in (16, 64, 256, 1024)]
    print(f"| {hidden} | {BYTES[hidden]:,} | {1e3 * COMPUTE[hidden]:.3g} | {' | '.join(cells)} |")
