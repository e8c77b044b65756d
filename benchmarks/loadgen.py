"""MLPerf's load generator as a peer: the same inference under its SingleStream and Server scenarios."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

try:
    import mlperf_loadgen
except ImportError as error:
    raise SystemExit("pip install mlcommons-loadgen (dependency group `benchmarks`)") from error


@dataclass(frozen=True)
class Seen:
    """A run in nanoseconds: p50 as the load generator reports it; p50 and p90 by a timer around the inference alone."""

    reported_ns: float
    inner_ns: float
    inner_p90_ns: float


def single_stream(infer: Callable[[int], None], rows: int, queries: int, folder: Path) -> Seen:
    """`queries` back to back; `infer` is given the row to run."""
    settings = _settings(queries, 0)
    settings.scenario = mlperf_loadgen.TestScenario.SingleStream
    return _run(settings, infer, rows, folder)


def server(infer: Callable[[int], None], rows: int, queries: int, per_second: float, folder: Path) -> Seen:
    """Queries at random (Poisson) instants, `per_second` on average."""
    settings = _settings(queries, int(queries / per_second * 1000))
    settings.scenario = mlperf_loadgen.TestScenario.Server
    settings.server_target_qps = per_second
    settings.server_target_latency_ns = 1_000_000_000
    return _run(settings, infer, rows, folder)


def _settings(queries: int, duration_ms: int) -> mlperf_loadgen.TestSettings:
    settings = mlperf_loadgen.TestSettings()
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    settings.min_query_count = queries
    settings.max_query_count = queries
    settings.min_duration_ms = 0
    settings.max_duration_ms = duration_ms * 4
    return settings


def _run(settings: mlperf_loadgen.TestSettings, infer: Callable[[int], None], rows: int, folder: Path) -> Seen:
    inner: list[int] = []
    clock = time.monotonic_ns

    def issue(samples: list[mlperf_loadgen.QuerySample]) -> None:
        for sample in samples:
            start = clock()
            infer(sample.index)
            inner.append(clock() - start)
            mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(sample.id, 0, 0)])

    logs = mlperf_loadgen.LogSettings()
    logs.enable_trace = False
    logs.log_output.outdir = str(folder)
    logs.log_output.copy_summary_to_stdout = False
    system = mlperf_loadgen.ConstructSUT(issue, lambda: None)
    library = mlperf_loadgen.ConstructQSL(rows, rows, lambda _: None, lambda _: None)
    mlperf_loadgen.StartTestWithLogSettings(system, library, settings, logs, "")
    mlperf_loadgen.DestroyQSL(library)
    mlperf_loadgen.DestroySUT(system)
    summary = (folder / "mlperf_log_summary.txt").read_text()
    reported = re.search(r"50\.00 percentile latency \(ns\)\s*:\s*(\d+)", summary)
    p50_ns, p90_ns = np.percentile(inner, (50, 90))
    return Seen(float(reported[1]) if reported else float("nan"), float(p50_ns), float(p90_ns))
