"""What a check found: one line each, ok, warn or fail, with what to do.

In: findings from the `check_*` modules. Out: printed lines and the exit status. No checking here.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal, TextIO

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        level: "ok", "warn" (works, but) or "fail" (will not work).
        subject: what was looked at, e.g. "port".
        text: what was seen.
        advice: what to do; "" where nothing is to be done.
    """

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{_MARKS[self.level]}  {self.subject:<14} {self.text}"
        return f"{line}\n{'':22}-> {self.advice}" if self.advice else line


def report(findings: Iterable[Finding], out: TextIO) -> int:
    """Prints findings as they come, then the sum; returns the exit status: 1 after a "fail"."""
    counts = {"ok": 0, "warn": 0, "fail": 0}
    for finding in findings:
        counts[finding.level] += 1
        print(finding, file=out, flush=True)
    print(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures", file=out)
    return 1 if counts["fail"] else 0
