"""`mujoco.mjx`, without the two lines that its import prints where Warp is not installed.

In: nothing. Out: the module `mjx`; everything of this package that needs it takes it from here.
"""

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()):
    from mujoco import mjx

__all__ = ["mjx"]
