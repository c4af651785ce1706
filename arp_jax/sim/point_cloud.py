"""One colored point cloud of the workspace from several RGB-D cameras. Pure JAX, fixed size.

In: pictures, depths and `Camera`s of one environment, and the workspace box. Out: points in the
workspace's frame, metres, with colors in [0, 1] and a mask; absent points are NaN, which the
policies of key-frame tasks take as "not seen" (observation "point_cloud" and "colours" [P, 3]).
Views of the cloud are drawn by `models.orthographic_views`.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arp_jax.sim.cameras import Camera, back_project, pixel_centers


def fuse_views(
    pictures: Mapping[str, ArrayLike],
    cameras: Mapping[str, Camera],
    bounds: Sequence[float],
    size: int,
    origin: Sequence[float] = (0.0, 0.0, 0.0),
) -> tuple[Array, Array]:
    """The points that the cameras see inside the workspace.

    Args:
        pictures: of every camera {name: uint8 [h, w, 3], name + "_depth": float32 [h, w]}, as
            `raycast.make_ray_caster(..., depth=True)` returns them.
        cameras: name -> camera; sizes may differ.
        bounds: x_min, y_min, z_min, x_max, y_max, z_max of the workspace in its own frame, m.
        size: N. When more points are inside, evenly spaced ones among them are kept; when fewer,
            the rest is absent.
        origin: [3] of the workspace's frame in the world, m; the axes are the world's.

    Returns:
        cloud float32 [N, 6]: x, y, z (NaN where absent), r, g, b (0 where absent).
        present: bool [N].

    Raises:
        ValueError: a picture or depth is missing or does not have its camera's size; bad bounds.
    """
    low, high = jnp.asarray(bounds[:3]), jnp.asarray(bounds[3:])
    if len(bounds) != 6 or any(not a < b for a, b in zip(bounds[:3], bounds[3:], strict=False)):
        raise ValueError(f"bounds: expected three minima below three maxima, found {tuple(bounds)}")
    views = [_view(pictures, name, camera) for name, camera in cameras.items()]
    points, colors = (jnp.concatenate(parts) for parts in zip(*views, strict=True))  # [M, 3]
    points = points - jnp.asarray(origin)
    inside = ((points >= low) & (points <= high)).all(-1)
    index, present = evenly_among(inside, size)
    place = jnp.where(present[:, None], points[index], jnp.nan)
    color = jnp.where(present[:, None], colors[index], 0.0)
    return jnp.concatenate([place, color], -1).astype(jnp.float32), present


def evenly_among(wanted: Array, size: int) -> tuple[Array, Array]:
    """Places of `size` wanted elements, spread evenly over all wanted ones, in order.

    Args:
        wanted: bool [M].

    Returns:
        index int32 [size] into [M]; present bool [size], False beyond the number of wanted ones.
    """
    ranks = jnp.cumsum(wanted)  # 1 at the first wanted element
    count = ranks[-1]
    slots = jnp.arange(size)
    # In two parts: slots * count may exceed 32 bits.
    share = (count % size).astype(jnp.float32) / size
    spread = slots * (count // size) + jnp.floor(slots * share).astype(slots.dtype)
    rank = jnp.where(count > size, spread, slots)
    index = jnp.searchsorted(ranks, rank + 1)
    return jnp.minimum(index, len(wanted) - 1).astype(jnp.int32), rank < count


def _view(pictures: Mapping[str, ArrayLike], name: str, camera: Camera) -> tuple[Array, Array]:
    """World points [h * w, 3] and colors [h * w, 3] in [0, 1] of one camera."""
    shape = (camera.height, camera.width)
    for key, expected in ((name, (*shape, 3)), (f"{name}_depth", shape)):
        if key not in pictures or jnp.shape(pictures[key]) != expected:
            found = jnp.shape(pictures[key]) if key in pictures else "nothing"
            raise ValueError(f"pictures[{key!r}]: expected shape {expected}, found {found}")
    points = back_project(pixel_centers(*shape), pictures[f"{name}_depth"], camera)
    colors = jnp.asarray(pictures[name], jnp.float32) / 255.0
    return points.reshape(-1, 3), colors.reshape(-1, 3)
