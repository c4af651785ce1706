"""Pictures of the twin: MuJoCo's renderer off screen, one size and view per camera.

In: a twin's model, its positions [nq] and `CameraSpec`s. Out: uint8 [height, width, 3] in the
declared color order, cropped and masked. OpenGL is bound to a thread: make, use and close it in the
same one. No clock; `synthetic_camera.py` adds it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arp_jax.sim.render import OffscreenRenderer
from arp_jax.specs import CameraSpec
from robot_bridge.cameras.camera_view import apply_view

CAPTURE = (480, 640)  # height and width of the picture that a crop is taken from, unless given


class TwinRenderer:
    """Draws cameras of one model; a context manager.

    Args:
        model: MuJoCo's; copied.
        cameras: to be drawn.
        views: camera -> the model's camera that is drawn for it, where the names differ.
        capture: height and width before a crop.

    Raises:
        ValueError: the model has no such camera; names those it has.
        RuntimeError: no OpenGL; says what to install.
    """

    def __init__(
        self,
        model: Any,
        cameras: Sequence[CameraSpec],
        views: Mapping[str, str] | None = None,
        capture: tuple[int, int] = CAPTURE,
    ) -> None:
        known = [model.camera(i).name for i in range(model.ncam)]
        self._views = {
            camera.name: (views or {}).get(camera.name, camera.name) for camera in cameras
        }
        for name, view in self._views.items():
            if view not in known:
                raise ValueError(f"camera {name!r}: the twin has no view {view!r}, only {known}")
        self._capture = capture
        self._renderers: dict[tuple[int, int], OffscreenRenderer] = {}
        try:
            for camera in cameras:
                size = self._size(camera)
                if size not in self._renderers:
                    self._renderers[size] = OffscreenRenderer(model, *size)
        except BaseException:
            self.close()
            raise

    def render(self, positions: np.ndarray, camera: CameraSpec) -> np.ndarray:
        """The picture of one camera, a new array."""
        picture = self._renderers[self._size(camera)].render(positions, self._views[camera.name])
        assert isinstance(picture, np.ndarray)  # no depth was asked for
        image = apply_view(picture, camera)
        return np.array(image[..., ::-1] if camera.color_order == "bgr" else image, order="C")

    def close(self) -> None:
        """Frees OpenGL; twice does no harm."""
        while self._renderers:
            self._renderers.popitem()[1].close()

    def __enter__(self) -> "TwinRenderer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _size(self, camera: CameraSpec) -> tuple[int, int]:
        return (camera.height, camera.width) if camera.crop is None else self._capture
