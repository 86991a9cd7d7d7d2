"""Devices, and the share of their roofline that work on them reaches: measured, each with source.

Ideal seconds of a token are FLOPs / peak + bytes / bandwidth; a share of 0.5 means that it takes
twice as long.
"""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """One device: memory, peak FLOP/s by dtype, bandwidth, and host costs in seconds."""

    memory: float | None
    bfloat16: float
    float32: float
    bandwidth: float
    start_sampling: float
    start_scoring: float
    start_training: float
    request: float
    source: str


DEVICES = {
    "H100": Device(
        79.6 * GIB, 790e12, 60e12, 3.0e12, 120, 60, 120, 5e-4, "as H200; bandwidth by data sheet"
    ),
    "H200": Device(
        140 * GIB,
        790e12,
        60e12,
        4.3e12,
        120,
        60,
        120,
        5e-4,
        "bfloat16 and bandwidth measured on an H200; float32 by data sheet, less a tenth",
    ),
    "cpu": Device(
        None,
        4e11,
        2e11,
        2e10,
        15,
        5,
        0,
        1.5e-3,
        "two cores with AVX-512 and AMX: matrix products; start and request: experiment smoke",
    ),
}


@dataclass(frozen=True)
class Rate:
    """Share of the roofline reached by one kind of work on models of about `parameters`."""

    kind: str
    cpu: bool
    parameters: float
    share: float
    low: float
    high: float
    source: str


RATES = (
    Rate("training", False, 8e9, 0.45, 0.3, 0.58, "10.5k tokens/s at 8B on an H200 is 0.58"),
    Rate("scoring", False, 8e9, 0.5, 0.3, 0.7, "goal of bench.lm_gpu; not measured"),
    Rate("sampling", False, 8e9, 0.6, 0.35, 0.8, "13.3k tokens/s at 8B on an H100: 0.6"),
    Rate("training", True, 1e6, 0.24, 0.12, 0.35, "8.6 steps/s of 16 rows at 0.8M, one thread"),
    Rate("training", True, 1.35e8, 0.75, 0.5, 0.95, "213-395 tokens/s at 135M, bfloat16"),
    Rate("scoring", True, 1e6, 0.25, 0.15, 0.4, "experiment smoke and tiny"),
    Rate("scoring", True, 1.35e8, 0.47, 0.35, 0.6, "690 tokens/s at 135M, bfloat16"),
    Rate("sampling", True, 1e6, 0.25, 0.15, 0.4, "14k tokens/s at 0.8M"),
    Rate("sampling", True, 5e6, 0.4, 0.3, 0.5, "7.4k tokens/s at 4.7M"),
    Rate("sampling", True, 1.35e8, 0.5, 0.35, 0.65, "470 tokens/s at 135M, bfloat16"),
)


def rate_of(kind: str, device: str, parameters: int) -> Rate:
    """The measured rate whose model is nearest in size, by ratio."""
    known = [r for r in RATES if r.kind == kind and r.cpu == (device == "cpu")]
    return min(known, key=lambda r: max(r.parameters / parameters, parameters / r.parameters))
