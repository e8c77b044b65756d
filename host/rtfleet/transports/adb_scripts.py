"""What is said to a phone's shell, and its answers as records. Plain POSIX with toybox's commands: Android 7 and newer.

/data/local/tmp/rtfleet/
    bundles/NAME/      an agent with its Python, by the hash of its content; whole or not there
    store/             what the agent keeps: models by hash, events that no host has yet
    agent.json         where the running agent listens, its pid and its token; for the shell's user alone
    agent.log          what the agent said since it was started last
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

FOLDER = "/data/local/tmp/rtfleet"
BUNDLES = f"{FOLDER}/bundles"
STATE = f"{FOLDER}/agent.json"
LOG = f"{FOLDER}/agent.log"
# adb's shell tells exit codes since Android 7.
OLDEST_SDK = 24
# A phone's name for what a bundle can be made for.
_ARCHES = {"arm64-v8a": "arm64", "x86_64": "x86_64"}
# One call of the shell waits for the agent so long: a host that is interrupted is not held up for longer.
_WAIT_S = 10

# `runs PID`: whether that is an agent. `/proc/PID/cmdline` and not `kill -0`: pids come back after a restart, and what
# has ended may still be waited for by its parent. `listening`: the note of an agent that runs.
_FUNCTIONS = f"""
runs() {{ [ -n "$1" ] && tr '\\0' ' ' <"/proc/$1/cmdline" | grep -q rtfleet; }} 2>/dev/null
noted() {{ sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p' {STATE}; }} 2>/dev/null
listening() {{ runs "$(noted)" && echo "agent $(cat {STATE})"; }}
"""

LOOK = f"""{_FUNCTIONS}
echo "abis $(getprop ro.product.cpu.abilist)"
echo "sdk $(getprop ro.build.version.sdk)"
echo "free $(df -k /data/local/tmp | tail -n 1)"
echo "bundles $(ls {BUNDLES} 2>/dev/null | tr '\\n' ' ')"
listening
true
"""

LISTENING = f"{_FUNCTIONS}\nlistening\ntrue\n"

# Android's shell has no home, and no /tmp.
_VARIABLES = f"export HOME={FOLDER} TMPDIR={FOLDER} ORT_DISABLE_TELEMETRY=1"

# What a host that was killed had copied so far. One that still copies is not so old: a slow cable takes minutes.
_FORGET_PARTS = f"find {FOLDER} -maxdepth 1 -name '.part-*' -mmin +60 -exec rm -rf {{}} + 2>/dev/null"

FORGET_BUNDLES = f"rm -rf {BUNDLES}; {_FORGET_PARTS}"

MAKE_PART = f"{_FORGET_PARTS}; mkdir -p {BUNDLES} && mktemp -d {FOLDER}/.part-XXXXXX"


@dataclass(frozen=True)
class Agent:
    """An agent that listens on the phone's loopback. The token never enters a log.

    Attributes:
        bundle: Name of what it runs from.
    """

    pid: int
    port: int
    bundle: str
    token: str

    def __repr__(self) -> str:
        return f"Agent(pid={self.pid}, port={self.port}, bundle={self.bundle!r})"


@dataclass(frozen=True)
class Seen:
    """What a phone said before any agent ran.

    Attributes:
        arch: Of the bundle that it can run; "" where there is none.
        free_bytes: For what is copied there; None where it does not tell.
        bundles: Those that are there.
        agent: The one that runs.
    """

    abis: tuple[str, ...]
    arch: str
    sdk: int
    free_bytes: int | None
    bundles: tuple[str, ...]
    agent: Agent | None


@dataclass(frozen=True)
class Started:
    """How a start goes on: the agent that listens; or `code`, with which the process ended, and its words; or neither,
    and it is to be waited for."""

    pid: int
    agent: Agent | None
    code: int | None
    words: str


def seen(told: str) -> Seen:
    """What `LOOK` printed."""
    facts = dict(line.partition(" ")[::2] for line in told.splitlines())
    abis = tuple(filter(None, facts.get("abis", "").split(",")))
    free = re.search(r"(\d+)\s+\d+%", facts.get("free", ""))
    sdk = facts.get("sdk", "").strip()
    return Seen(
        abis=abis,
        arch=next((_ARCHES[abi] for abi in abis if abi in _ARCHES), ""),
        sdk=int(sdk) if sdk.isdecimal() else 0,
        free_bytes=int(free[1]) * 1024 if free else None,
        bundles=tuple(facts.get("bundles", "").split()),
        agent=agent_of(told),
    )


def agent_of(told: str) -> Agent | None:
    """The agent of a line `agent {...}`; None where there is none, or a note that can't be read."""
    found = re.search(r"^agent (\{.*\})\s*$", told, re.MULTILINE)
    try:
        facts = json.loads(found[1] if found else "")
        port = int(facts["address"].rpartition(":")[2])
        name = re.search(rf"{BUNDLES}/([^/]+)/", facts["python"])
        return Agent(int(facts["pid"]), port, name[1] if name else "", str(facts["token"]))
    except (ValueError, KeyError, TypeError):
        return None


def keep(part: str, name: str) -> str:
    """Check what was copied into `part`, and make a bundle of it; of two hosts that do so at once, one is enough."""
    return f"""cd {part}/{name} || exit 1
sha256sum -c ../sums >../checked 2>&1 || {{ grep -v ': OK$' ../checked | head -n 1 >&2; exit 1; }}
chmod 755 . run bin/python3 lib/ld-linux*
mkdir -p {BUNDLES}
[ -d {BUNDLES}/{name} ] || mv {part}/{name} {BUNDLES}/{name} || exit 1
rm -rf {BUNDLES}/{name}/{name}
"""


def sizes(name: str) -> str:
    """Tell the size of each file of a bundle; what Python compiled there is none of them."""
    return f"cd {BUNDLES}/{name} && find . -name .compiled -prune -o -type f -exec stat -c '%s %n' {{}} +"


def forget(name: str) -> str:
    """Remove a bundle."""
    return f"rm -rf {BUNDLES}/{name}"


def program(name: str, quoted: str) -> str:
    """Run a Python program, a shell's word, with a bundle's Python."""
    return f"{_VARIABLES}; exec sh {BUNDLES}/{name}/run -c {quoted}"


def start(name: str, linger_s: float) -> str:
    """Start an agent that outlives the shell, and wait for it a while."""
    serve = f"-m rtfleet_agent serve --port 0 --store {FOLDER}/store --state-file {STATE}"
    return f"""{_FUNCTIONS}
cd {FOLDER} || exit 1
{_VARIABLES}
echo "pid 0"
listening && exit
setsid nohup sh {BUNDLES}/{name}/run {serve} --linger-s {linger_s:g} --keep-awake </dev/null >/dev/null 2>{LOG} &
pid=$!
{_wait("wait $pid; code=$?")}"""


def wait(pid: int) -> str:
    """Go on waiting for an agent that was started."""
    return f"{_FUNCTIONS}\npid={pid}\n{_wait('code=255')}"


def _wait(ended: str) -> str:
    # An agent of another host may have been quicker; this one then ends.
    return f"""tries=0
echo "pid $pid"
found() {{ listening && {{ [ "$(noted)" = $pid ] || kill $pid 2>/dev/null; true; }}; }}
while [ $tries -lt {_WAIT_S * 10} ]; do
    found && exit
    # Twice, because a process that is just becoming another program has no command line for a moment.
    if ! runs $pid && sleep 0.1 && ! runs $pid; then
        {ended}
        found && exit
        echo "ended $code"
        tail -n 20 {LOG}
        exit
    fi
    tries=$((tries + 1))
    sleep 0.1
done
"""


def started(told: str) -> Started:
    """What `start` or `wait` printed."""
    pids = re.findall(r"^pid (\d+)$", told, re.MULTILINE)
    ended = re.search(r"^ended (\d+)\n?(.*)", told, re.MULTILINE | re.DOTALL)
    if not pids:
        return Started(0, None, 255, told)
    return Started(int(pids[-1]), agent_of(told), int(ended[1]) if ended else None, ended[2] if ended else "")


def stop(agent: Agent) -> str:
    """Ask an agent to end if nobody has the lease, and wait until it has, or until it is clear that it stays."""
    return f"""{_FUNCTIONS}
[ "$(noted)" = {agent.pid} ] && runs {agent.pid} || exit 0
kill -USR1 {agent.pid}
tries=0
while runs {agent.pid} && [ $tries -lt 200 ]; do
    [ $tries -gt 15 ] && [ "$(noted)" = {agent.pid} ] && exit 0
    tries=$((tries + 1))
    sleep 0.1
done
"""
