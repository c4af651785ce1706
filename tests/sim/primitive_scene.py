"""A little scene with every shape that the ray caster draws, for the tests of pictures."""

import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

XML = """
<mujoco>
  <visual><global offwidth="64" offheight="64"/></visual>
  <asset><material name="matte" specular="0" rgba=".2 .7 .3 1"/></asset>
  <worldbody>
    <light pos="1 1 2" dir="-1 -1 -2" type="directional" diffuse=".5 .5 .4" castshadow="false"/>
    <camera name="front" pos="1.3 0 .8" xyaxes="0 1 0 -.6 0 .8" fovy="50"/>
    <camera name="side" pos=".3 1.3 .6" xyaxes="-1 0 0 0 -.5 1" fovy="60"/>
    <geom name="floor" type="plane" size="0 0 .1" rgba=".4 .4 .45 1"/>
    <geom name="board" type="plane" size=".3 .2 .1" pos="-.6 0 .3" euler="0 60 20"
      material="matte"/>
    <geom name="hidden" type="box" size="2 2 2" group="3"/>
    <body name="block" pos="0 0 .1"><freejoint/>
      <geom name="block" type="box" size=".1 .06 .05" rgba="1 0 0 1"/>
      <site name="tip" pos=".1 .02 .03" size=".03"/>
      <camera name="on_block" pos="0 .3 .3" xyaxes="-1 0 0 0 -1 1"/>
    </body>
    <body pos=".2 .3 .2"><geom name="ball" type="sphere" size=".1" rgba="0 1 0 1"/></body>
    <body pos="-.2 .3 .2" euler="40 20 0">
      <geom name="rod" type="capsule" size=".05 .12" rgba="0 0 1 1"/>
    </body>
    <body pos=".2 -.3 .2" euler="50 0 30">
      <joint name="turn" type="hinge" axis="0 0 1" pos="0 .05 0"/>
      <geom name="can" type="cylinder" size=".07 .1" rgba="1 1 0 1"/>
    </body>
    <body pos="-.2 -.3 .2" euler="0 30 30">
      <geom name="egg" type="ellipsoid" size=".07 .1 .15" rgba="1 0 1 1"/>
    </body>
    <body pos=".3 0 .3">
      <geom name="pane" type="box" size=".01 .15 .03" rgba="0 1 1 .4"/>
    </body>
  </worldbody>
</mujoco>
"""
CAMERAS = ("front", "side", "on_block")


def load() -> tuple[mujoco.MjModel, mujoco.MjData]:
    """The model, and its data with the block turned and the can at an angle."""
    model = mujoco.MjModel.from_xml_string(XML)
    data = mujoco.MjData(model)
    turn = np.array([0.9, 0.2, 0.3, 0.1])
    data.qpos[3:7] = turn / np.linalg.norm(turn)
    data.qpos[7] = 0.4
    mujoco.mj_forward(model, data)
    return model, data


def readings(data: mujoco.MjData) -> dict[str, Array]:
    """The poses that pictures need."""
    return {name: jnp.asarray(getattr(data, name), jnp.float32) for name in ("xpos", "xquat")}
