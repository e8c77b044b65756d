"""`make emulated-phone`: a phone for those who have none at hand, on this user's own adb server, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time

from fakes.phone import cannot_emulate, emulated_phone


def main() -> int:
    """Runs it. Exit codes: 0 ended by a signal, 2 there can't be one here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", choices=("x86_64", "arm64"), default="x86_64")
    arch = parser.parse_args().arch
    if why := cannot_emulate(arch):
        print(f"error: {why}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would ignore Ctrl-C
    with contextlib.suppress(KeyboardInterrupt), emulated_phone(os.environ, arch=arch) as phone:
        print(f"an emulated Pixel 8 ({arch}) is connected as {phone.serial}. In another terminal:")
        print("\n    adb devices\n    rtfleet devices\n    rtfleet run wake-word --device auto\n")
        if arch == "arm64":
            print("It runs through qemu: it shows that everything works, and its times mean nothing.\n")
        print("Ctrl-C unplugs it.", flush=True)
        while True:
            time.sleep(3600)
    return 0


if __name__ == "__main__":
    sys.exit(main())
