"""What rtfleet itself costs: `rtfleet --help`, and the seconds of an unchanged run that were not spent measuring.

    python benchmarks/startup.py [--model wake-word] [--variant onnx-fp32]

Aim: `--help` within 0.3 s. The run is made twice; the first fills the cache, the second is the unchanged one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RTFLEET = [sys.executable, "-m", "rtfleet.cli.main"]
EXIT_CODES_OF_A_WHOLE_RUN = (0, 1, 3)


def seconds_of(command: list[str]) -> float:
    """Wall time of one command."""
    began_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def measuring_s(report: dict[str, Any]) -> float:
    """Seconds in which frames were due or ran: warm-up, the scenario's frames and the closing burst."""
    total_s = 0.0
    for case in report["cases"]:
        hop_s = (case["hop_samples"] or 0) / case["sample_rate_hz"]
        for launch in case["launches"]:
            phases = {"WARMUP": hop_s, "PACED": hop_s, "BURST": 0.0}
            total_s += sum(block["frames"] * phases[block["phase"]] for block in launch["blocks"])
            total_s += sum(launch["burst_latency_ns"]) / 1e9
            if not hop_s:
                total_s += (sum(launch["latency_ns"]) + sum(launch["warmup_latency_ns"])) / 1e9
    return total_s


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="wake-word")
    parser.add_argument("--variant", default="onnx-fp32")
    asked = parser.parse_args()

    bare_s = statistics.median(seconds_of([sys.executable, "-c", "pass"]) for _ in range(9))
    help_s = statistics.median(seconds_of([*RTFLEET, "--help"]) for _ in range(9))
    print("| what | median s | over a bare Python |\n| --- | --- | --- |")
    print(f"| `python -c pass` | {bare_s:.3f} | 1.0 |")
    print(f"| `rtfleet --help` | {help_s:.3f} | {help_s / bare_s:.1f} |")

    with tempfile.TemporaryDirectory(prefix="rtfleet-startup-") as folder:
        file = Path(folder) / "run.json"
        command = [*RTFLEET, "run", asked.model, "--variant", asked.variant, "--out", folder, "--json", str(file)]
        for name in ("first run (exports)", "unchanged run"):
            began_s = time.perf_counter()
            code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
            wall_s = time.perf_counter() - began_s
            if code not in EXIT_CODES_OF_A_WHOLE_RUN:
                sys.exit(f"`{' '.join(command)}` ended with {code}")
            frames_s = measuring_s(json.loads(file.read_text()))
            print(
                f"\n{name} of {asked.model}/{asked.variant}: {wall_s:.1f} s, {frames_s:.1f} s of them measuring, ",
                end="",
            )
            print(f"{wall_s - frames_s:.1f} s not")
    print(f"\nOn {os.cpu_count()} cores, Python {sys.version.split()[0]}.")


if __name__ == "__main__":
    main()
