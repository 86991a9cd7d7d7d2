"""The plan: device time with its range, memory against the device's, remedies, disk and price."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from stages.experiments.settings import Experiment, Machine
from stages.planning import memory
from stages.planning.rates import DEVICES, GIB, Device, rate_of
from stages.planning.shapes import Shape
from stages.planning.workload import Lengths, Work, works

USABLE = 0.95  # of a device's memory: the rest is the driver's, the allocator's gaps, libraries
TOKEN_BYTES = 8  # on disk: id and text, compressed; a draw is stored once
Parts = dict[str, int]

# Settings that lower a job's memory, the least change of the experiment first.
REMEDIES: dict[str, tuple[tuple[str, Any], ...]] = {
    "training": (
        ("machine.recompute_every", 1),
        ("{section}.activation_checkpointing", True),
        ("gpus.finetune", 16),
        ("{section}.master_dtype", "bfloat16"),
        ("{section}.lora", {"rank": 16}),
        ("{section}.max_tokens", 8192),
        ("plan.device", "H200"),
    ),
    "scoring": (
        ("machine.tokens_per_batch", 8192),
        ("scores.dtype", "bfloat16"),
        ("scores.max_tokens", 16_384),
        ("plan.device", "H200"),
    ),
    "sampling": (
        ("gpus.sampling", 2),
        ("gpus.sampling", 4),
        ("gpus.sampling", 8),
        ("{section}.dtype", "bfloat16"),
        ("plan.device", "H200"),
    ),
}


@dataclass(frozen=True)
class Entry:
    """One artifact of the plan. Seconds are device-seconds: of all devices of all its shards."""

    artifact: str
    kind: str
    gpus: int
    shards: int
    tokens: int
    flops: float
    seconds: float
    low: float
    high: float
    price: float | None
    disk: float
    memory: Parts
    capacity: float | None
    fits: bool
    remedies: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The whole plan; sums are over its entries."""

    experiment: str
    model: str
    parameters: int
    device: str
    jobs: int
    lengths: Lengths
    entries: tuple[Entry, ...]
    wall_seconds: float

    def total(self, field: str) -> float:
        """Sum of a number over all entries."""
        return sum(getattr(e, field) or 0 for e in self.entries)

    def as_json(self) -> dict[str, Any]:
        """Content of plan.json."""
        sums = {f: self.total(f) for f in ("tokens", "flops", "seconds", "low", "high", "disk")}
        price = self.total("price") if any(e.price is not None for e in self.entries) else None
        return asdict(self) | {"total": sums | {"price": price}}


def device_of(experiment: Experiment) -> str:
    """The device that is planned for."""
    gpus = experiment.gpus
    uses = gpus.finetune or gpus.sampling or gpus.scoring
    return experiment.plan.device or ("H100" if uses else "cpu")


def make_plan(
    name: str, experiment: Experiment, machine: Machine, shape: Shape, lengths: Lengths, jobs: int
) -> Plan:
    """Plan an experiment.

    Parameters
    ----------
    jobs : int
        What `snakemake -j` is given: shards that run at the same time.
    """
    entries = tuple(_entries(experiment, machine, shape, lengths))
    return Plan(
        experiment=name,
        model=experiment.model.path or "scratch",
        parameters=shape.parameters,
        device=device_of(experiment),
        jobs=jobs,
        lengths=lengths,
        entries=entries,
        wall_seconds=sum(
            e.seconds / max(1, e.gpus) / min(e.shards, max(1, jobs // max(1, e.gpus)))
            if e.gpus
            else e.seconds
            for e in entries
        ),
    )


def _entries(
    experiment: Experiment, machine: Machine, shape: Shape, lengths: Lengths
) -> Iterator[Entry]:
    name = device_of(experiment)
    device = DEVICES[name]
    for work in works(experiment, lengths):
        flops = flops_of(work, shape, recomputed_of(experiment, machine, work))
        rate = rate_of(work.kind, name, shape.parameters)
        busy = ideal_seconds(work, shape, flops, device, machine, lengths)
        starts = max(1, work.gpus) * work.starts * getattr(device, f"start_{work.kind}")
        starts += max(1, work.gpus) * work.draws * device.request
        seconds, low, high = (starts + busy / s for s in (rate.share, rate.high, rate.low))
        price = experiment.plan.price_per_device_hour
        parts = memory_of(experiment, machine, work, shape, lengths)
        yield Entry(
            artifact=work.artifact,
            kind=work.kind,
            gpus=work.gpus,
            shards=work.shards,
            tokens=work.tokens,
            flops=flops,
            seconds=seconds,
            low=low,
            high=high,
            price=None if price is None else price * seconds / 3600,
            disk=_disk(work, shape),
            memory=parts,
            capacity=device.memory,
            fits=fits(parts, device),
            remedies=()
            if fits(parts, device)
            else tuple(_remedies(experiment, machine, work, shape, lengths)),
        )


def recomputed_of(experiment: Experiment, machine: Machine, work: Work) -> float:
    """Share of layers whose activations are recomputed in the backward pass."""
    if work.kind != "training" or not getattr(experiment, work.section).activation_checkpointing:
        return 0.0
    return 1 / machine.recompute_every


def flops_of(work: Work, shape: Shape, recomputed: float) -> float:
    """FLOPs of an artifact."""
    match work.kind:
        case "training":
            return work.processed * shape.training_flops(work.context, recomputed)
        case "scoring":
            return work.processed * shape.forward_flops(work.context)
    prompts = work.prefilled * shape.forward_flops(work.prefilled / max(1, work.draws) / 2)
    return prompts + work.drawn * shape.forward_flops(work.context)


def ideal_seconds(
    work: Work, shape: Shape, flops: float, device: Device, machine: Machine, n: Lengths
) -> float:
    """Device-seconds at the roofline: FLOPs / peak, and in decoding bytes read / bandwidth."""
    float32 = work.dtype == "float32" or (device.memory is None and work.dtype == "auto")
    seconds = flops / (device.float32 if float32 else device.bfloat16)
    if work.drawn:
        size = 4 if float32 else 2
        cache = work.context * shape.cache_bytes(size)
        at_once = max(1, min(machine.max_requests, work.draws // work.shards or 1))
        if device.memory is not None:
            free = machine.gpu_memory_fraction * device.memory * max(1, work.gpus)
            at_once = max(1, min(at_once, int((free - size * shape.parameters) / cache)))
        read = size * shape.parameters / at_once + cache
        seconds += work.drawn * read / device.bandwidth
    return seconds


def memory_of(
    experiment: Experiment, machine: Machine, work: Work, shape: Shape, n: Lengths
) -> Parts:
    """Peak memory by part, on one device."""
    device = DEVICES[device_of(experiment)]
    chunk = memory.LOGITS if device.memory else 128 << 20
    if work.kind == "training":
        how = getattr(experiment, work.section)
        # a row longer than the budget has a bin of its own
        longest = min(how.max_tokens, n.prompt + experiment.traces.max_tokens)
        return memory.training(
            shape,
            devices=max(1, work.gpus),
            dtype=how.dtype,
            master_dtype=how.master_dtype,
            tokens=max(machine.tokens_per_micro_batch, longest),
            recomputed=recomputed_of(experiment, machine, work),
            rank=how.lora.rank if how.lora else None,
            logits=chunk,
        )
    if work.kind == "scoring":
        longest = n.prompt + min(experiment.scores.max_tokens, experiment.traces.max_tokens)
        tokens = max(machine.tokens_per_batch, longest + n.answer)
        return memory.scoring(shape, dtype=work.dtype, tokens=tokens, logits=chunk)
    longest = n.prompt + getattr(experiment, work.section).max_tokens
    longest += n.trace if work.section == "answers" else 0
    room = machine.gpu_memory_fraction * device.memory if device.memory else 0.0
    room = room or machine.cpu_cache_gib * GIB + memory.ITEMSIZE[work.dtype] * shape.parameters
    return memory.sampling(
        shape, devices=max(1, work.gpus), dtype=work.dtype, longest=longest, memory=room
    )


def fits(parts: Parts, device: Device) -> bool:
    """Whether the parts fit on the device together; a CPU's memory is not known."""
    return device.memory is None or sum(parts.values()) <= USABLE * device.memory


def _remedies(
    experiment: Experiment, machine: Machine, work: Work, shape: Shape, n: Lengths
) -> Iterator[str]:
    """Settings each of which alone makes an artifact fit."""
    for setting, value in REMEDIES[work.kind]:
        section, _, key = setting.format(section=work.section).partition(".")
        place = (
            "engine" if (section, key) in (("traces", "dtype"), ("answers", "dtype")) else section
        )
        if place == "machine":
            changed = (experiment, machine.model_copy(update={key: value}))
        else:
            values = experiment.model_dump()
            values[place][key] = value
            changed = (type(experiment).model_validate(values), machine)
        again = next(w for w in works(changed[0], n) if w.artifact == work.artifact)
        parts = memory_of(*changed, again, shape, n)
        if fits(parts, DEVICES[device_of(changed[0])]):
            shown = "{rank: 16}" if isinstance(value, dict) else value
            yield f"{place}.{key}: {shown} ({sum(parts.values()) / GIB:.0f} GiB)"


def _disk(work: Work, shape: Shape) -> float:
    """Bytes that stay on disk."""
    if work.kind == "training":
        return memory.ITEMSIZE[work.dtype] * shape.parameters
    return TOKEN_BYTES * work.drawn
