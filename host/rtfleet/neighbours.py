"""Who else used the processor while blocks were measured, in words that a person can act on. Pure.

The agent looks at processes between blocks, about once a second; a block has the shares of the time around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rtfleet.records import Block, BusyProcess, Launch

# The neighbours' share of all cores from which a slow launch is no longer the model's alone; also one process's share
# of the very core that a block ran on.
BUSY_SHARE = 0.25
# A neighbour that was busy in fewer of a launch's blocks is not worth a word.
LEAST_BLOCKS_SHARE = 0.1
# Shares are of a second in ticks of 10 ms: up to here a process with one thread may seem to use more than its core.
_ONE_CORE = 1.05


@dataclass(frozen=True)
class Neighbour:
    """What disturbed some blocks of a launch.

    Attributes:
        blocks: Indices into `launch.blocks`.
        text: "`stress` used 80 % of core 1 in 3 of 5 blocks".
        hint: What to do about it.
        core_share: Cores that others used in the busiest of these blocks.
    """

    blocks: tuple[int, ...]
    text: str
    hint: str
    core_share: float


def looked_at(launch: Launch) -> dict[int, Block]:
    """The scenario's own blocks during which the agent looked at others, by their index."""
    phase = "PACED" if launch.lateness_ns.size else "BURST"
    blocks = enumerate(launch.blocks)
    return {at: block for at, block in blocks if block.phase == phase and block.others_core_share is not None}


def busy(launch: Launch, cores: int, cpus: Sequence[int] = ()) -> Neighbour | None:
    """The neighbour of a launch on a device of so many cores; None where the blocks were quiet, or nobody looked.

    Args:
        cpus: The cores that the case is pinned to.
    """
    seen = looked_at(launch)
    disturbed = {at: block for at, block in seen.items() if _is_disturbed(block, cores)}
    if not disturbed or len(disturbed) < LEAST_BLOCKS_SHARE * len(seen):
        return None
    most = max(_core_share(block) for block in disturbed.values())
    name = _culprit(disturbed.values())
    if name is None:
        shares = [block.others_core_share or 0.0 for block in disturbed.values()]
        text = f"processes too short-lived to be named used {np.median(shares):.1f} cores"
        text = f"{text} in {_of_blocks(len(disturbed), len(seen))}"
        return Neighbour(tuple(disturbed), text, "stop what starts them", most)
    named = [_of(block, name) for block in seen.values() if _of(block, name)]
    text = f"`{name}` used {_share(named)} in {_of_blocks(len(named), len(seen))}"
    return Neighbour(tuple(disturbed), text, _hint(named, cpus), most)


def _hint(named: Sequence[Sequence[BusyProcess]], cpus: Sequence[int]) -> str:
    if not cpus:
        return "stop it or pin with --cpus"
    on_own_core = any(process.core in cpus for processes in named for process in processes)
    return "stop it or pin to other cores" if on_own_core else "stop it"


def _is_disturbed(block: Block, cores: int) -> bool:
    if _core_share(block) >= BUSY_SHARE * max(cores, 1):
        return True
    return any(
        process.core_share >= BUSY_SHARE and process.core is not None and process.core == block.cpu
        for process in block.busy
    )


def _core_share(block: Block) -> float:
    """Cores that others used: by the system's count, or by the processes named."""
    return max(block.others_core_share or 0.0, sum(process.core_share for process in block.busy))


def _culprit(blocks: Iterable[Block]) -> str | None:
    """The name that used most over these blocks; processes of one name count together, as a compiler's many do."""
    used: dict[str, float] = {}
    for block in blocks:
        for process in block.busy:
            used[process.name] = used.get(process.name, 0.0) + process.core_share
    return max(used, key=lambda name: used[name], default=None)


def _of(block: Block, name: str) -> tuple[BusyProcess, ...]:
    return tuple(process for process in block.busy if process.name == name)


def _share(named: Sequence[Sequence[BusyProcess]]) -> str:
    """Its median share over the blocks that it was seen in, and where."""
    share = float(np.median([sum(process.core_share for process in processes) for processes in named]))
    cores = {process.core for processes in named for process in processes}
    if share > _ONE_CORE:
        return f"{share:.1f} cores"
    where = f"core {next(iter(cores))}" if len(cores) == 1 and None not in cores else "a core"
    return f"{min(share, 1.0):.0%} of {where}".replace("%", " %")


def _of_blocks(some: int, of: int) -> str:
    return f"{some} of {of} block{'' if of == 1 else 's'}"
