"""Numbers of the ViperX 300 arm with ALOHA's gripper: a table, no code.

Masses, inertias, offsets, limits, friction losses and servo gains are the published ones
(Interbotix vx300s as ALOHA's simulation uses it); box shapes are our own, of the sizes of the real
parts. `arm.py` makes bodies of them.
"""

import dataclasses

Vector = tuple[float, ...]

ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
FINGERS = ("left_finger", "right_finger")
FINGER_RANGE = (0.021, 0.057)  # m, of the left finger; the right one is its mirror image

# Where the arms stand: x of the base (m) and rotation about z (rad).
BASES = {"left": (-0.469, 0.0), "right": (0.469, 3.1416)}
BASE_Y = 0.5

# The point between the pads that published waypoints move, in gripper_link's frame. Both hands
# agree on the world's axes when they are level, so that the right one's is turned by half a circle.
GRASP_POINT = (0.134706, 0.0, -0.00205)
GRASP_QUAT = {"left": (1.0, 0.0, 0.0, 0.0), "right": (0.0, 0.0, 0.0, 1.0)}

# The pad at the inner face of a finger: half size and place in the left finger's frame, m.
PAD_HALF = (0.0225, 0.0052, 0.0115)
PAD_POS = (0.0625, -0.0172, 0.0)

# In gripper_link's frame, m; vertical field of view in degrees.
WRIST_CAMERA_POS, WRIST_CAMERA_TARGET, WRIST_CAMERA_FOVY = (-0.1, 0, 0.16), (0.15, 0, 0.01), 20.0


@dataclasses.dataclass(frozen=True)
class Part:
    """One rigid link: its joint, servo, inertia and shapes. Lengths in m, angles in rad.

    Attributes:
        body, parent: names without the side.
        pos: in the parent's frame.
        com, turn, mass, inertia: centre of mass, orientation of the principal axes, kg, kg m^2.
        joint: name of its joint, or "" when it is fixed to its parent.
        axis: of the joint, in the body's frame.
        slide: whether the joint slides along its axis (else it turns).
        limits, friction, gain, force: range, friction loss (N m or N), servo gain kp, largest
            force (None: unlimited).
        friction_time: time constant of the friction constraint, s. Servos have no damping: this
            constraint is what slows them. 0.02 is MuJoCo's; other values make up for our physics
            step, twice the published one, so that the step responses agree.
        boxes: (lowest corner, highest corner) in mm, in the body's frame; for pictures.
        meshes: (file without "vx300s_" and ".stl", pos, quat) of the published pictures.
    """

    body: str
    parent: str
    pos: Vector
    com: Vector
    turn: Vector
    mass: float
    inertia: Vector
    joint: str = ""
    axis: Vector = (0, 0, 1)
    slide: bool = False
    limits: Vector = ()
    friction: float = 30.0
    gain: float = 0.0
    friction_time: float = 0.02
    force: float | None = None
    boxes: tuple[tuple[Vector, Vector], ...] = ()
    meshes: tuple[tuple[str, Vector, Vector], ...] = ()


_QUARTER_Z = (0.707107, 0, 0, 0.707107)
_FINGER_TURN = (0.000563, 0.707388, 0.000563, 0.706825)
_FULL_TURN = (-3.14158, 3.14158)

PARTS = (
    Part(
        "shoulder_link",
        "base",
        (0, 0, 0.079),
        (0.000259233, -3.3552e-06, 0.0116129),
        (-0.476119, 0.476083, 0.52279, 0.522826),
        0.798614,
        (0.00120156, 0.00113744, 0.0009388),
        joint="waist",
        limits=_FULL_TURN,
        friction=50,
        friction_time=0.0145,
        gain=800,
        force=150,
        boxes=(((-61, -61, -3), (62, 62, 3)), ((-36, -60, 3), (37, 59, 61))),
        meshes=(("2_shoulder", (0, 0, -0.003), _QUARTER_Z),),
    ),
    Part(
        "upper_arm_link",
        "shoulder_link",
        (0, 0, 0.04805),
        (0.0206949, 4e-10, 0.226459),
        (0, 0.0728458, 0, 0.997343),
        0.792592,
        (0.00911338, 0.008925, 0.000759317),
        joint="shoulder",
        axis=(0, 1, 0),
        limits=(-1.85005, 1.25664),
        friction=60,
        friction_time=0.0215,
        gain=1600,
        force=300,
        boxes=(
            ((-16, -51, -4), (16, 51, 60)),
            ((-11, -25, 60), (11, 25, 260)),
            ((-16, -52, 260), (73, 52, 321)),
        ),
        meshes=(("3_upper_arm", (0, 0, 0), _QUARTER_Z),),
    ),
    Part(
        "upper_forearm_link",
        "upper_arm_link",
        (0.05955, 0, 0.3),
        (0.105723, 0, 0),
        (-0.000621631, 0.704724, 0.0105292, 0.709403),
        0.322228,
        (0.00144107, 0.00134228, 0.000152047),
        joint="elbow",
        axis=(0, 1, 0),
        limits=(-1.76278, 1.6057),
        friction=60,
        gain=800,
        force=100,
        boxes=(((-4, -51, -16), (64, 51, 16)), ((64, -23, -19), (200, 23, 19))),
        meshes=(("4_upper_forearm", (0, 0, 0), (1, 0, 0, 0)),),
    ),
    Part(
        "lower_forearm_link",
        "upper_forearm_link",
        (0.2, 0, 0),
        (0.0513477, 0.00680462, 0),
        (-0.702604, -0.0796724, -0.702604, 0.0796724),
        0.414823,
        (0.0005911, 0.000546493, 0.000155707),
        joint="forearm_roll",
        axis=(1, 0, 0),
        limits=_FULL_TURN,
        gain=10,
        force=100,
        boxes=(((-5, -30, -23), (114, 45, 23)),),
        meshes=(("5_lower_forearm", (0, 0, 0), (0, 1, 0, 0)),),
    ),
    Part(
        "wrist_link",
        "lower_forearm_link",
        (0.1, 0, 0),
        (0.046743, -7.6652e-06, 0.010565),
        (-0.00100191, 0.544586, 0.0026583, 0.8387),
        0.115395,
        (5.45707e-05, 4.63101e-05, 4.32692e-05),
        joint="wrist_angle",
        axis=(0, 1, 0),
        limits=(-1.8675, 2.23402),
        gain=50,
        boxes=(((-5, -28, -20), (70, 27, 35)),),
        meshes=(("6_wrist", (0, 0, 0), _QUARTER_Z),),
    ),
    Part(
        "gripper_link",
        "wrist_link",
        (0.069744, 0, 0),
        (0.0395662, -2.56311e-07, 0.00400649),
        (0.62033, 0.619916, -0.339682, 0.339869),
        0.251652,
        (0.000689546, 0.000650316, 0.000468142),
        joint="wrist_rotate",
        axis=(1, 0, 0),
        limits=_FULL_TURN,
        gain=20,
        boxes=(((0, -20, -20), (43, 20, 35)), ((17, -75, -24), (60, 75, 24))),
        meshes=(
            ("7_gripper", (-0.02, 0, 0), _QUARTER_Z),
            ("9_gripper_bar", (-0.020175, 0, 0), _QUARTER_Z),
        ),
    ),
    Part(
        "gripper_prop_link",
        "gripper_link",
        (0.0485, 0, 0),
        (0.002378, 2.85e-08, 0),
        (0, 0, 0.897698, 0.440611),
        0.008009,
        (4.2979e-06, 2.8868e-06, 1.5314e-06),
        meshes=(("8_gripper_prop", (-0.0685, 0, 0), _QUARTER_Z),),
    ),
    Part(
        "left_finger_link",
        "gripper_link",
        (0.0687, 0, 0),
        (0.017344, -0.0060692, 0),
        (0.449364, 0.449364, -0.54596, -0.54596),
        0.034796,
        (2.48003e-05, 1.417e-05, 1.20797e-05),
        joint="left_finger",
        axis=(0, 1, 0),
        slide=True,
        limits=FINGER_RANGE,
        gain=200,
        boxes=(((-5, -22, -31), (31, 2, 30)), ((31, -14, -12), (49, -4, 9))),
        meshes=(("10_custom_finger_left", (0.005, -0.052, 0), _FINGER_TURN),),
    ),
    Part(
        "right_finger_link",
        "gripper_link",
        (0.0687, 0, 0),
        (0.017344, 0.0060692, 0),
        (0.44937, -0.44937, 0.545955, -0.545955),
        0.034796,
        (2.48002e-05, 1.417e-05, 1.20798e-05),
        joint="right_finger",
        axis=(0, 1, 0),
        slide=True,
        limits=(-FINGER_RANGE[1], -FINGER_RANGE[0]),
        gain=200,
        boxes=(((-5, -2, -30), (31, 22, 31)), ((31, 4, -12), (49, 14, 9))),
        meshes=(("10_custom_finger_right", (0.005, 0.052, 0), _FINGER_TURN),),
    ),
)
BASE_BOXES = (((-197, -55, 0), (-75, 55, 54)), ((-75, -102, 0), (102, 102, 79)))
BASE_MESH = ("1_base", (0, 0, 0), _QUARTER_Z)
