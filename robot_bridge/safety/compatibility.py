"""May this policy move this robot? Its spec against the arm's vectors and the cameras.

In: the policy's spec (from an artifact or a server), and what the robot offers. Out: nothing, or a
refusal that names every differing field. Names, units, frames, rate and picture sizes must agree;
limits may be narrower than the robot's, since `safety_filter.py` clamps to the robot's anyway.
"""

import dataclasses
from collections.abc import Iterable

from arp_jax.specs import (
    ActionSpec,
    CameraSpec,
    FeatureSpec,
    ObservationSpec,
    PolicySpec,
    SpecMismatch,
)

Spec = ActionSpec | FeatureSpec | CameraSpec
# Limits went through JSON and float32 on their way.
_TOLERANCE = 1e-5


def check_compatible(
    policy: PolicySpec, action: ActionSpec, observation: ObservationSpec, where: str
) -> None:
    """Refuses a policy that means something else than the robot does.

    Args:
        policy: what it sees and commands.
        action: what the robot takes, at the rate of the control loop.
        observation: what the robot offers; more than the policy sees is no harm.
        where: how to call the policy, e.g. "artifact runs/a/artifact".

    Raises:
        SpecMismatch: every differing field, with both values.
    """
    problems = [
        *_action_problems(policy.action, action),
        *_observation_problems(policy.observation, observation),
    ]
    if problems:
        raise SpecMismatch(f"{where} does not fit this robot: " + "; ".join(problems))


def _action_problems(policy: ActionSpec, robot: ActionSpec) -> Iterable[str]:
    yield from _differences("action", policy, robot)
    if policy.dims != robot.dims:
        return
    rows = zip(policy.dims, policy.low, policy.high, robot.low, robot.high, strict=True)
    for name, low, high, least, most in rows:
        if low < least - _TOLERANCE or high > most + _TOLERANCE:
            yield (
                f"action limits of {name}: the policy's {low:.4g} to {high:.4g} go beyond "
                f"the robot's {least:.4g} to {most:.4g}"
            )


def _observation_problems(policy: ObservationSpec, robot: ObservationSpec) -> Iterable[str]:
    for kind, wanted, offered in (
        ("feature", policy.features, robot.features),
        ("camera", policy.cameras, robot.cameras),
    ):
        by_name: dict[str, FeatureSpec | CameraSpec] = {spec.name: spec for spec in offered}
        for spec in wanted:
            if spec.name in by_name:
                yield from _differences(f"{kind} {spec.name!r}", spec, by_name[spec.name])
            else:
                yield f"{kind} {spec.name!r}: the robot has only {sorted(by_name)}"


def _differences(part: str, policy: Spec, robot: Spec) -> Iterable[str]:
    """A line for every field that differs, limits aside: those of the data are no meaning."""
    for field in dataclasses.fields(policy):
        expected, found = getattr(policy, field.name), getattr(robot, field.name)
        if field.name not in ("low", "high") and expected != found:
            yield f"{part} {field.name}: the policy's is {expected!r}, the robot's {found!r}"
