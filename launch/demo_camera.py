"""Films the digital twin drawing the figure of `demo_policy.py`: what a camera of the demo sees.

In: nothing. Out: a video of one round, which a camera of the bridge plays in a loop. The emulated
arm has no body that could be filmed; its pictures are in the right style, not in step with it.

Example:
    python -m launch.demo_camera --out runs/figure.avi
"""

import argparse
import sys
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.specs import CameraSpec
from launch.demo_policy import PERIOD_S, FigurePolicy, figure_at
from robot_bridge.twin.twin_renderer import TwinRenderer
from robot_bridge.twin.twin_robot import TwinRobot

HEIGHT, WIDTH = 240, 320
FPS = 10
NO_OPENGL = 3


def film(path: Path) -> None:
    """Writes the video; RuntimeError without OpenGL."""
    params = FigurePolicy().init(jax.random.key(0), {})
    time_ns = [1]
    twin = TwinRobot(real_time=False, now_ns=lambda: time_ns[0])
    camera = CameraSpec("top", HEIGHT, WIDTH, "bgr")
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
    twin.connect()
    round_frames = round(PERIOD_S * FPS)
    with TwinRenderer(twin.model, [camera], {"top": "front"}) as renderer:
        # The first second brings the arm onto the figure.
        for number in range(-FPS, round_frames):
            phase = jnp.asarray(2 * np.pi * number / round_frames)
            target = np.asarray(params["center"] + figure_at(params, phase), np.float64)
            twin.write(target[:6], float(np.clip(target[6], 0, 1)))
            time_ns[0] += 1_000_000_000 // FPS
            twin.advance(time_ns[0])
            if number >= 0:
                video.write(renderer.render(twin.positions(), camera))
    video.release()
    twin.close()


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.avi")
    flags = parser.parse_args()
    try:
        film(flags.out)
    except RuntimeError as error:
        flags.out.unlink(missing_ok=True)
        print(f"no film: {error}")
        return NO_OPENGL
    print(f"{flags.out}: {PERIOD_S:g} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
