"""A policy server as a child of this process, on loopback, for nobody else.

In: an artifact's folder. Out: address and token of a server that lives no longer than we do. The
socket is opened here and inherited, so that its port is known before the child has started, and
cannot be taken; the token is random and travels in the child's environment. Where the system can,
pictures go through memory that both see, and only their place through the socket.
"""

import contextlib
import mmap
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from arp_jax.export.protocol import MAX_MESSAGE_BYTES, TOKEN_VARIABLE

_STOP_S = 5.0


class PolicyProcess:
    """Starts `python -m arp_jax.serve` and returns at once.

    Args:
        artifact: its folder.
        niceness: added to the child's.

    Attributes:
        url: where it will answer.
        token: what it wants to see.
        shared: memory that it sees too; None where the system has no anonymous files.
    """

    def __init__(self, artifact: Path, niceness: int) -> None:
        self.token = secrets.token_urlsafe(32)
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115, closed in `close`
        self.shared: memoryview | None = None
        command = [sys.executable, "-m", "arp_jax.serve", str(artifact)]
        command += [f"--nice={niceness}", "--end_with_stdin"]
        with contextlib.ExitStack() as ours:
            listening = ours.enter_context(socket.create_server(("127.0.0.1", 0)))
            self.url = f"ws://127.0.0.1:{listening.getsockname()[1]}"
            inherited = [listening.fileno()]
            command.append(f"--socket_fd={listening.fileno()}")
            if hasattr(os, "memfd_create"):
                memory = os.memfd_create("arp_jax_observation")
                ours.callback(os.close, memory)
                # Pages that nobody writes to take no memory.
                os.ftruncate(memory, MAX_MESSAGE_BYTES)
                self.shared = memoryview(mmap.mmap(memory, MAX_MESSAGE_BYTES))
                inherited.append(memory)
                command.append(f"--shared_fd={memory}")
            self._child = subprocess.Popen(
                command,
                pass_fds=inherited,
                # The child reads its end until we are gone, however we end.
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                env=os.environ | {TOKEN_VARIABLE: self.token},
                # Ctrl-C is for us: we hold the arm first, and end the child then.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def ended(self) -> str:
        """Why the child has ended, "" while it runs."""
        status = self._child.poll()
        if status is None:
            return ""
        self._complaints.seek(max(0, self._complaints.seek(0, os.SEEK_END) - 4096))
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return f"the policy's process ended ({status}): {lines[-1] if lines else 'without a word'}"

    def close(self) -> None:
        """Ends the child; twice does no harm."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        try:
            self._child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._complaints.close()
