"""`python -m rtfleet.export.worker TOOLCHAIN MEMORY_BYTES`: takes jobs as lines on stdin, one after another.

stdout carries replies alone: what converters print goes to stderr, which is the log.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import traceback
import warnings

from rtfleet.errors import ExportError
from rtfleet.export import building, making, tensorflow
from rtfleet.export.building import Models
from rtfleet.export.failures import refusal
from rtfleet.export.jobs import Build, Convert, Job, Look, Looked, Quantize, Reference, Reply, from_line, to_line


def main() -> None:
    """Serve until stdin ends."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)
        _limit_memory(int(sys.argv[2]))
        _quiet()
        models = Models()
        for line in iter(_lines().get, None):
            job = from_line(line)
            assert isinstance(job, Job)
            print(f"--- {type(job).__name__} {getattr(job, 'variant', '')} {getattr(job, 'source', '')}", flush=True)
            replies.write(to_line(answer(models, job)))
            replies.flush()


def answer(models: Models, job: Job) -> Reply:
    """Do a job; what goes wrong with it becomes the answer."""
    step = _STEPS[type(job)].format(variant=getattr(job, "variant", ""))
    try:
        if isinstance(job, Build):
            return building.build(models, job)
        if isinstance(job, Quantize):
            return making.quantize(job)
        if isinstance(job, Look):
            served = tensorflow.opened(job.path)
            return Looked(served.inputs, served.outputs)
        if isinstance(job, Reference):
            return making.reference(job)
        model, _ = models.get(job.source, job.folder)
        building.refuse_changed(job.source, job.origins)
        if building.weights_of(model) != job.weights_sha256:
            raise ExportError(f"{job.source} changed while the run used it", "start the run again", step=step)
        return making.convert(model, job)
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            raise
        return refusal(error, step)


_STEPS = {
    Build: "building the model",
    Convert: "exporting {variant}",
    Quantize: "quantizing to {variant}",
    Look: "reading the model",
    Reference: "running the original",
}


def _limit_memory(limit: int) -> None:
    """Private writable memory; address space would also count what is only mapped. Not every system has it."""
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    except (ValueError, OSError) as error:
        print(f"no memory limit: {error}", file=sys.stderr)


def _lines() -> queue.Queue[str | None]:
    """The lines of stdin. When it ends the host is gone or wants no more: also a running job ends, at once."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _quiet() -> None:
    """What today's converters always say, however well it goes."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
