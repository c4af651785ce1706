"""The command and the local policy, with a real artifact in a real child process."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from arp_jax.export.artifact import random_observation
from arp_jax.export.protocol import TOKEN_VARIABLE, Query
from arp_jax.export.runtime import load_artifact
from robot_bridge.actions.policy import LocalPolicy
from robot_bridge.actions.policy_client import PolicyClient
from robot_bridge.observations import Frame, Observation
from tests.policy_servers import TOKEN, get

# The child imports jax and compiles, on a machine that has other work.
PATIENCE_S = 120.0


def start(*arguments, **options):
    command = [sys.executable, "-m", "arp_jax.serve", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def wrong_usage(capfd, *arguments):
    process = start(*arguments)
    assert process.wait(PATIENCE_S) == 2
    process.stdout.close()
    return capfd.readouterr().err.strip().splitlines()


def test_an_artifact_is_served_as_it_acts(artifact_dir, tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    process = start(artifact_dir, "--port=0", f"--token_file={token_file}")
    with process:
        address = re.fullmatch(r"listening on (\S+)\n", process.stdout.readline())[1]
        assert re.fullmatch(r"ready after .* s of warm-up\n", process.stdout.readline())
        artifact = load_artifact(artifact_dir)
        batch = random_observation(artifact.spec, 1, seed=3)
        with PolicyClient(address, TOKEN, timeout_s=PATIENCE_S) as client:
            assert client.metadata.spec == artifact.spec
            assert client.metadata.content_hash == artifact.manifest["content_hash"]
            observation = {name: value[0] for name, value in batch.items()}
            found = client.ask(Query(1, 2, observation, seed=9)).actions
        np.testing.assert_allclose(found / 256, artifact.act(batch, 9)[0] / 256, atol=1e-5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port=0"], "manifest.json does not exist"),
        (["--host=0.0.0.0"], "--host=0.0.0.0 lets other machines in"),
        (["--token_file=no/such/file"], "--token_file: no/such/file cannot be read"),
        (["--tls_cert=a.pem", "--tls_key=b.pem"], "--tls_cert: there is no file a.pem"),
    ],
)
def test_wrong_usage_is_one_line(capfd, tmp_path, arguments, message):
    (line,) = wrong_usage(capfd, tmp_path, *arguments)
    assert line.startswith("error: ")
    assert message in line


def wait_for_chunk(policy, spec):
    deadline = time.monotonic() + PATIENCE_S
    while not policy.health().chunks:
        now = time.monotonic_ns()
        observation = {n: v[0, -1] for n, v in random_observation(spec, 1, seed=3).items()}
        frame = Frame(now, observation.pop("image"))
        policy.observe(Observation(now, observation, {"image": frame}))
        assert time.monotonic() < deadline, policy.health()
        time.sleep(0.05)


def test_a_local_policy_acts_in_a_nicer_process_that_ends_with_it(artifact_dir):
    policy = LocalPolicy(artifact_dir, timeout_s=PATIENCE_S, niceness=1)
    try:
        child = policy.pid
        spec = policy.wait_ready(PATIENCE_S).spec
        assert os.getpriority(os.PRIO_PROCESS, child) > os.getpriority(os.PRIO_PROCESS, 0)
        wait_for_chunk(policy, spec)
        planned = policy.action(time.monotonic_ns())
        assert planned is None or planned.action.shape == (2,)
        assert TOKEN_VARIABLE not in os.environ
        address = policy.name.partition(" at ")[2]
        assert get(address, "/metrics")[0] == 401, "other users of this machine are let in"
        os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while "process ended (-9)" not in policy.health().last_error:
            assert time.monotonic() < deadline, policy.health()
            time.sleep(0.02)
        assert not policy.health().ready
    finally:
        policy.close()


def test_the_server_ends_when_its_parent_dies(artifact_dir):
    """However it dies: the child sees the end of its input."""
    parent = (
        "import pathlib, sys, time\n"
        "from robot_bridge.actions.policy_process import PolicyProcess\n"
        "child = PolicyProcess(pathlib.Path(sys.argv[1]), 0)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent, str(artifact_dir)], stdout=subprocess.PIPE, text=True
    )
    with process:
        child = int(process.stdout.readline())
        assert runs(child)
        process.kill()
    deadline = time.monotonic() + PATIENCE_S
    while runs(child):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.05)


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
