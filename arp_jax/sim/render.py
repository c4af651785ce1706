"""Pictures by MuJoCo's own renderer, off screen: for CPUs, films and every kind of geom.

In: joint positions [nq] and an episode's `Start`. Out: uint8 RGB and float32 depth. The OpenGL
platform is found here (EGL, else OSMesa), without a screen. Shadows and reflections are off unless
asked for: pictures cost a third, and those of `raycast.py` and `warp_render.py` agree; sites are
not drawn. One renderer per thread; it is not for traced code.
"""

import atexit
import copy
import functools
import importlib
import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import mujoco
import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:  # the robot's twin draws with this module, too, where there is no jax
    from arp_jax.sim.task import Start

_BACKENDS = ("egl", "osmesa")
_HELP = (
    "no OpenGL for rendering without a screen; install EGL (apt install libegl1 libgl1-mesa-dri) "
    "or OSMesa (apt install libosmesa6)"
)
_PROBE = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).close()"


class OffscreenRenderer:
    """Draws one model at one picture size; a context manager.

    Attributes:
        height, width: of the pictures, pixels.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        height: int,
        width: int,
        shadows: bool = False,
        reflections: bool = False,
    ) -> None:
        """Raises RuntimeError, naming what to install, when there is no usable OpenGL."""
        _choose_backend()
        self.height, self.width = height, width
        # A copy of its own: an episode's fields are written into it, and its buffer may grow.
        self._model, self._base = copy.copy(model), model
        self._changed: tuple[str, ...] = ()
        screen = self._model.vis.global_
        screen.offheight = max(screen.offheight, height)
        screen.offwidth = max(screen.offwidth, width)
        self._data = mujoco.MjData(self._model)
        try:
            self._renderer = mujoco.Renderer(self._model, height, width)
        except Exception as error:
            raise _no_opengl(error) from error
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = reflections
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0
        _close_at_exit(self)

    def render(
        self,
        qpos: ArrayLike,
        camera: str,
        start: "Start | None" = None,
        depth: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Draws the scene.

        Args:
            qpos: [nq].
            camera: name of a camera of the model.
            start: the episode's beginning; its mocap poses and model fields are used, its qpos not.
            depth: whether to return depth, too.

        Returns:
            uint8 [height, width, 3]; with `depth` the pair of it and float32 [height, width],
            metres along the camera's axis, the model's far plane where nothing is.

        Raises:
            ValueError: qpos of another size, an unknown camera or an unknown model field.
        """
        self._place(np.asarray(qpos, np.float64), start)
        if camera not in self.cameras:
            raise ValueError(f"the model has no camera {camera!r}; there are {list(self.cameras)}")
        self._renderer.update_scene(self._data, camera, self._options)
        rgb = self._renderer.render()
        if not depth:
            return rgb
        self._renderer.enable_depth_rendering()
        try:
            return rgb, self._renderer.render()
        finally:
            self._renderer.disable_depth_rendering()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the model's cameras."""
        return tuple(self._base.camera(i).name for i in range(self._base.ncam))

    def _place(self, qpos: np.ndarray, start: "Start | None") -> None:
        """Writes the episode's constants and the positions, and computes all world poses."""
        if qpos.shape != (self._base.nq,):
            raise ValueError(f"qpos has shape {qpos.shape}; the model needs ({self._base.nq},)")
        fields = dict(start.fields) if start is not None else {}
        for name in self._changed:
            getattr(self._model, name)[:] = getattr(self._base, name)
        for name, value in fields.items():
            if not hasattr(self._model, name):
                raise ValueError(f"start.fields: the model has no field {name!r}")
            getattr(self._model, name)[:] = np.asarray(value)
        self._changed = tuple(fields)
        self._data.qpos[:] = qpos
        if start is not None and start.mocap_pos is not None:
            self._data.mocap_pos[:] = np.asarray(start.mocap_pos)
        if start is not None and start.mocap_quat is not None:
            self._data.mocap_quat[:] = np.asarray(start.mocap_quat)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def close(self) -> None:
        """Frees the OpenGL context; the renderer cannot be used after it."""
        self._renderer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def film_episode(
    model: mujoco.MjModel,
    qpos: ArrayLike,
    cameras: Sequence[str],
    height: int,
    width: int,
    start: "Start | None" = None,
    progress: bool = True,
) -> np.ndarray:
    """Frames of an episode, its cameras side by side.

    Args:
        qpos: [T, nq].
        cameras: names, left to right.
        height, width: of each camera's picture; `evaluation.video.write_video` takes the frames as
            they are when height and len(cameras) * width are divisible by 16.
        start: the episode's mocap poses and model fields.
        progress: whether to show a bar on stderr.

    Returns:
        uint8 [T, height, len(cameras) * width, 3].
    """
    from tqdm import tqdm

    qpos = np.asarray(qpos)
    if not cameras:
        raise ValueError("film_episode needs at least one camera")
    frames = np.empty((len(qpos), height, len(cameras) * width, 3), np.uint8)
    with OffscreenRenderer(model, height, width) as renderer:
        for frame, positions in zip(
            frames, tqdm(qpos, desc="filming", unit="frame", disable=not progress), strict=True
        ):
            for k, camera in enumerate(cameras):
                frame[:, k * width : (k + 1) * width] = renderer.render(positions, camera, start)
    return frames


@functools.cache
def _choose_backend() -> None:
    """Sets MUJOCO_GL to a platform that works, unless the user has chosen one.

    MuJoCo reads the variable when it is imported, long before it is known that pictures are wanted;
    so its module is loaded once more. Raises RuntimeError when no platform works.
    """
    if sys.platform != "linux":
        return
    if not os.environ.get("MUJOCO_GL"):
        backend = next((name for name in _BACKENDS if _works(name)), None)
        if backend is None:
            raise RuntimeError(_HELP)
        os.environ["MUJOCO_GL"] = backend
    try:
        importlib.reload(sys.modules[mujoco.Renderer.__module__].gl_context)
    except Exception as error:  # whatever the chosen platform's libraries raise
        raise _no_opengl(error) from error


def _no_opengl(error: Exception) -> RuntimeError:
    """One line that says what failed and what to install."""
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return RuntimeError(f"{_HELP}; MUJOCO_GL={os.environ.get('MUJOCO_GL')}: {reason[0]}")


def _works(backend: str) -> bool:
    """Whether a picture can be drawn with this platform; tried in a process of its own.

    A failed attempt leaves PyOpenGL bound to the platform that failed.
    """
    environment = {**os.environ, "MUJOCO_GL": backend}
    command = [sys.executable, "-c", _PROBE]
    return (
        subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    )


_open_renderers: weakref.WeakSet[OffscreenRenderer] = weakref.WeakSet()


def _close_at_exit(renderer: OffscreenRenderer) -> None:
    """Closes forgotten renderers before OpenGL is shut down, which would print exceptions.

    Exit handlers run last in, first out: this one is registered after MuJoCo's own.
    """
    if not _open_renderers:
        atexit.unregister(_close_open)
        atexit.register(_close_open)
    _open_renderers.add(renderer)


def _close_open() -> None:
    for renderer in list(_open_renderers):
        renderer.close()
