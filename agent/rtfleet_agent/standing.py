"""A standing agent as a service of the system: the text of a systemd unit, or of a launchd property list.

What keeps a service apart from the rest of the system must not change what is measured: no limits of processor or
memory, no niceness, and nothing that filters system calls, which makes each of them slower.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence


def systemd_unit(command: Sequence[str], user: str, variables: Mapping[str, str]) -> str:
    """A unit for /etc/systemd/system.

    Args:
        command: Absolute program and arguments of `rtfleet-agent serve`.
        user: Whom it runs as.
        variables: Of its environment.
    """
    environment = "".join(f"Environment={_word(f'{name}={value}')}\n" for name, value in variables.items())
    # In a command, and only there, $ stands for a variable.
    started = " ".join(_word(word).replace("$", "$$") for word in command)
    return f"""\
# rtfleet-agent service ... | sudo tee /etc/systemd/system/rtfleet-agent.service
# sudo systemctl daemon-reload; sudo systemctl enable rtfleet-agent; sudo systemctl start rtfleet-agent
[Unit]
Description=rtfleet agent: measures speech models on this device
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
User={user}
{environment}ExecStart={started}
Restart=on-failure
RestartSec=10
# A wrong command line (2) does not get better by itself; another agent on the device (4) ends some day.
RestartPreventExitStatus=2
# The agent ends its workers itself, and tells their hosts.
KillMode=mixed
TimeoutStopSec=30
NoNewPrivileges=yes
ProtectSystem=full
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""


def launchd_plist(command: Sequence[str], user: str, variables: Mapping[str, str]) -> str:
    """A property list for /Library/LaunchDaemons. Arguments as in `systemd_unit`."""
    document = {
        "Label": "org.rtfleet.agent",
        "ProgramArguments": list(command),
        "UserName": user,
        "EnvironmentVariables": dict(variables),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        # launchd throttles what is no app, unless it is told that it is one.
        "ProcessType": "Interactive",
        "StandardErrorPath": "/tmp/rtfleet-agent.log",
    }
    declaration, _, rest = plistlib.dumps(document, sort_keys=False).decode().partition("\n")
    return f"""\
{declaration}
<!-- rtfleet-agent service ... | sudo tee /Library/LaunchDaemons/org.rtfleet.agent.plist
     sudo launchctl bootstrap system /Library/LaunchDaemons/org.rtfleet.agent.plist -->
{rest}"""


def _word(text: str) -> str:
    """A word of a unit file: % stands for itself, and what has spaces is quoted."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if any(character.isspace() for character in text) else text
