"""What XLA must be told about rigid bodies on a CPU; nothing on other platforms.

The kinematics of a chain is a long product of small matrices. XLA's new CPU fusions compute shared
terms of it again and again, exponentially in the chain's length: one step of the myCobot in MJX ran
at 22 environment steps a second with them and at 2,660 without (64 environments, 2 cores, jax
0.10.2), and compiled in 30 s instead of 16.
"""

import jax

CPU_OPTIONS = {"xla_cpu_use_fusion_emitters": False}


def options() -> dict[str, bool] | None:
    """For `jax.jit(..., compiler_options=...)` of programs that hold MJX or kinematics."""
    return CPU_OPTIONS if jax.default_backend() == "cpu" else None
