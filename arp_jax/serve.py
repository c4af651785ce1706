"""An exported policy answers robots over the network: ARTIFACT -> ws://HOST:PORT.

Robots connect with `robot_bridge`; `curl http://HOST:PORT/healthz` says "ready" once the policy is
warm, /metrics is for Prometheus. Only this machine can connect unless --host says otherwise, and
then a token is needed: a file with at least 16 characters, the same on both machines.

Examples:
    python -m arp_jax.serve runs/quickstart/artifact
    openssl rand -hex 32 > token && chmod 600 token
    python -m arp_jax.serve ARTIFACT --host=0.0.0.0 --token_file=token
    python -m arp_jax.serve ARTIFACT --host=0.0.0.0 --token_file=token \\
        --tls_cert=cert.pem --tls_key=key.pem
"""

import argparse
import asyncio
import contextlib
import logging
import mmap
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from arp_jax.export.inference_queue import Actor
from arp_jax.export.protocol import MAX_MESSAGE_BYTES, TOKEN_VARIABLE
from arp_jax.export.server import PolicyServer, ServerOptions

DEFAULT_PORT = 8765


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; `--help` is this module's docstring and the flags."""
    parser = argparse.ArgumentParser(
        "python -m arp_jax.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("artifact", type=Path, metavar="ARTIFACT", help="folder of arp_jax.export_policy")
    add("--host", default="127.0.0.1", help="address to listen on; default this machine only")
    add("--port", type=int, default=DEFAULT_PORT, help=f"default {DEFAULT_PORT}; 0: any free one")
    add("--token_file", type=Path, help=f"what clients must show; or the variable {TOKEN_VARIABLE}")
    add("--tls_cert", type=Path, help="PEM certificate, for wss://")
    add("--tls_key", type=Path, help="its PEM key")
    add("--max_clients", type=int, default=8, help="connections at one time; default 8")
    add(
        "--max_message_mb",
        type=float,
        default=MAX_MESSAGE_BYTES / 1024**2,
        help="largest message; default %(default)g",
    )
    add("--nice", type=int, default=0, help="added to this process's niceness")
    add("--socket_fd", type=int, help="number of an inherited listening socket (robot_bridge)")
    add("--shared_fd", type=int, help="number of an inherited file of memory (robot_bridge)")
    add("--end_with_stdin", action="store_true", help="end when the input does (robot_bridge)")
    add("--traceback", action="store_true", help="show the traceback of wrong usage")
    return parser.parse_args(argv)


def options_from(flags: argparse.Namespace) -> ServerOptions:
    """What the flags mean; raises ValueError naming the flag."""
    listening = None if flags.socket_fd is None else socket.socket(fileno=flags.socket_fd)
    shared = None
    if flags.shared_fd is not None:
        shared = memoryview(mmap.mmap(flags.shared_fd, 0, access=mmap.ACCESS_READ))
    return ServerOptions(
        host=flags.host,
        port=flags.port,
        token=read_token(flags.token_file),
        tls_cert=flags.tls_cert,
        tls_key=flags.tls_key,
        max_clients=flags.max_clients,
        max_message_bytes=int(flags.max_message_mb * 1024**2),
        listening=listening,
        shared=shared,
    )


def read_token(path: Path | None) -> str | None:
    """The token of a file or of the environment; None for none."""
    if path is None:
        return os.environ.get(TOKEN_VARIABLE)
    try:
        return path.read_text().strip()
    except (OSError, ValueError) as error:
        raise ValueError(f"--token_file: {path} cannot be read: {error}") from error


def load(artifact: Path) -> Actor:
    """Loads a policy, with programs compiled before taken from the disk."""
    # Here, in the worker thread: importing jax takes seconds, in which /healthz answers.
    from arp_jax import compile_cache
    from arp_jax.export.runtime import load_artifact

    compile_cache.enable()
    return load_artifact(artifact)


async def serve_until_signal(server: PolicyServer, end_with_stdin: bool) -> None:
    """Serves until SIGINT, SIGTERM or, when asked for, the end of the standard input."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if end_with_stdin:
        threading.Thread(target=_wait_for_end, args=(loop, stop), daemon=True).start()
    await server.run(
        stop,
        listening=lambda address: print(f"listening on {address}", flush=True),
        ready=lambda seconds: print(f"ready after {seconds:.1f} s of warm-up", flush=True),
    )


def _wait_for_end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # Not through sys.stdin, whose lock a thread must not hold when the interpreter ends.
    while os.read(0, 4096):
        pass
    with contextlib.suppress(RuntimeError):  # the loop has ended by itself
        loop.call_soon_threadsafe(stop.set)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status (2 for wrong usage, in one line)."""
    flags = parse(argv)
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.INFO)
    # Its messages say what ours say, with tracebacks of strangers' mistakes.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    os.nice(flags.nice)
    try:
        server = PolicyServer(lambda: load(flags.artifact), options_from(flags))
        asyncio.run(serve_until_signal(server, flags.end_with_stdin))
    except ValueError as error:
        if flags.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
