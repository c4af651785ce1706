"""Which arm followed a recording, and when: one small JSON file for each arm and tool.

In: the report of a replay (`replay_check.py`). Out: a file that is there as a whole or not at all,
and how old it is. Whoever lets a policy move a real arm asks here first (R5); what an old or absent
record means is `commands/replay_gate.py`'s business.
"""

import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_VERSION = 1


@dataclasses.dataclass(frozen=True)
class ReplayRecord:
    """An arm that followed.

    Attributes:
        address: of the arm, as `Robot.name`; tool: what its flange carried.
        time: of the verdict, with its time zone.
        file: that was replayed; log: of the replay.
        robot: what the arm said about itself (versions...), plain JSON values.
        report: `ReplayReport.to_json()`: lag and errors.
    """

    address: str
    tool: str
    time: datetime
    file: str
    log: str
    robot: Mapping[str, Any]
    report: Mapping[str, Any]

    def age_days(self, now: datetime) -> float:
        """Below 0: from the future, as after a clock that was set back."""
        return (now - self.time).total_seconds() / 86400.0


def record_path(folder: Path, address: str, tool: str) -> Path:
    """The file of one arm and tool."""
    return folder / (re.sub(r"[^A-Za-z0-9.-]+", "_", f"{address}_{tool}") + ".json")


def write_record(folder: Path, record: ReplayRecord) -> Path:
    """Writes or replaces the arm's record and waits for the disk; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = record_path(folder, record.address, record.tool)
    fields = {"version": _VERSION, **dataclasses.asdict(record)}
    fields["time"] = record.time.astimezone(UTC).isoformat(timespec="seconds")
    descriptor, temporary = tempfile.mkstemp(".json", f".{path.stem}-", folder)
    try:
        with open(descriptor, "w") as file:
            json.dump(fields, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def read_record(folder: Path, address: str, tool: str) -> ReplayRecord | None:
    """The arm's record, None without one.

    Raises:
        ValueError: names the file that cannot be read or is no record of this arm.
    """
    path = record_path(folder, address, tool)
    try:
        fields = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    try:
        if (version := fields.pop("version")) != _VERSION:
            raise ValueError(f"version {version}, this program reads {_VERSION}")
        record = ReplayRecord(**fields | {"time": datetime.fromisoformat(fields["time"])})
        if record.time.tzinfo is None:
            raise ValueError("its time has no time zone")
        if record.report["verdict"] != "ok":
            raise ValueError(f"its verdict is {record.report['verdict']!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no replay record: {error}") from error
    if (record.address, record.tool) != (address, tool):
        raise ValueError(f"{path}: is of {record.address} with tool {record.tool}")
    return record


def remove_record(folder: Path, address: str, tool: str) -> bool:
    """The arm no longer counts as one that follows; whether it did. Raises OSError."""
    path = record_path(folder, address, tool)
    known = path.exists()
    path.unlink(missing_ok=True)
    return known
