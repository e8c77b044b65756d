"""Its folder comes onto the path: what tests of host and agent share lies beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fakes.phone import EmulatedPhone


@pytest.fixture(name="adb_environment", scope="module")
def _adb_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """In which adb finds a server of the module's own."""
    from fakes.phone import adb_server

    with adb_server(tmp_path_factory.mktemp("adb")) as environment:
        yield environment


@pytest.fixture(name="phone", scope="module")
def _phone(adb_environment: dict[str, str]) -> Iterator[EmulatedPhone]:
    """One for all tests of a module, which leave it as it was: an agent is copied to it once."""
    from fakes.phone import emulated_phone

    with emulated_phone(adb_environment) as phone:
        yield phone
