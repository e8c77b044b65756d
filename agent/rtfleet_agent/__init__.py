"""The agent: a lightweight process on the device that runs models and reports raw nanoseconds.

It imports numpy, grpc, protobuf and the one runtime that it is asked for; never the host's package.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("rtfleet")
except PackageNotFoundError:  # an agent that was copied to a device, not installed
    __version__ = "0.1.0"

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL_SERVED = 1
