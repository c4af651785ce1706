"""Temporal ensembling: the action for now is a weighted mean of all predictions made for now.

Flows in: one chunk [..., H, A] a control step, its row j meant for j steps ahead. Flows out: one
action a step. The i-th oldest prediction for a time has weight exp(-temperature * i), as in ACT, so
that a high temperature trusts old predictions. Running means per future step replace the table of
all chunks: memory does not grow. Works on numpy and jax arrays.
"""

from typing import Any

Ensemble = dict[str, Any]


def start_ensemble(chunk: Any) -> Ensemble:
    """An ensemble that has seen nothing yet.

    Args:
        chunk: float [..., H, A], any chunk of the shape and dtype of those to come.

    Returns:
        mean [..., H, A], weight and count [..., H, 1]: for each of the next H steps the mean of its
        predictions, their total weight and their number.
    """
    xp = chunk.__array_namespace__()
    nothing = xp.zeros_like(chunk[..., :1])
    return {"mean": xp.zeros_like(chunk), "weight": nothing, "count": nothing}


def ensembled_action(
    ensemble: Ensemble, chunk: Any, temperature: float, drop_zeros: bool = False
) -> tuple[Any, Ensemble]:
    """Adds the prediction of this step and takes the action for it.

    Args:
        ensemble: from `start_ensemble` or the step before.
        chunk: float [..., H, A]; row 0 is meant for now.
        temperature: m of the weights exp(-m i), i = 0 for the oldest prediction; 0 is a plain mean,
            ACT uses 0.01.
        drop_zeros: leave out a predicted action with any coordinate exactly 0, as ACT's published
            code does (it finds the filled rows of its table by their values). An action for which
            nothing is left is the newest prediction.

    Returns:
        The action [..., A] and the ensemble for the next step.
    """
    xp = chunk.__array_namespace__()
    kept = xp.ones_like(ensemble["count"])  # [..., H, 1]
    if drop_zeros:
        kept = xp.where(xp.any(chunk == 0, axis=-1, keepdims=True), 0 * kept, kept)
    new = kept * xp.exp(-temperature * ensemble["count"])
    weight = ensemble["weight"] + new
    # Where nothing was kept so far the weight is 0, and the mean must not become 0 / 0.
    share = new / xp.where(weight > 0, weight, xp.ones_like(weight))
    mean = ensemble["mean"] + share * (chunk - ensemble["mean"])
    action = xp.where(weight[..., 0, :] > 0, mean[..., 0, :], chunk[..., 0, :])
    now = {"mean": mean, "weight": weight, "count": ensemble["count"] + kept}
    return action, {name: _next_step(values) for name, values in now.items()}


def _next_step(values: Any) -> Any:
    """[..., H, X]: what was j + 1 steps ahead is j steps ahead; the last step is empty."""
    xp = values.__array_namespace__()
    return xp.concat([values[..., 1:, :], xp.zeros_like(values[..., :1, :])], axis=-2)
