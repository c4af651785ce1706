"""A myCobot 320 that exists on the wire only, for tests, demos and dry runs of the whole bridge.

`Emulator` is the arm with its faults and a journal; `PtyPort` and `TcpPort` make it a serial device
and the vendor's TCP server; `audit` proves from the journal that nothing unsafe was commanded.
`python -m robot_bridge.emulator` runs it alone.
"""

from robot_bridge.emulator.audit import AuditLimits, Violation, audit
from robot_bridge.emulator.core import ArmState, Emulator, EmulatorConfig
from robot_bridge.emulator.faults import ALWAYS, Faults, Rule
from robot_bridge.emulator.journal import Entry
from robot_bridge.emulator.pty_port import PtyPort
from robot_bridge.emulator.tcp_port import TcpPort

__all__ = [
    "ALWAYS",
    "ArmState",
    "AuditLimits",
    "Emulator",
    "EmulatorConfig",
    "Entry",
    "Faults",
    "PtyPort",
    "Rule",
    "TcpPort",
    "Violation",
    "audit",
]
