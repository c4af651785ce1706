"""Checkpoints: everything that a run needs to go on, or a reader to use its policy.

Flows in: a train state, the data position and a `RunBundle`. Flows out: RUN/checkpoints/<step>/,
written in the background and renamed when complete, so that a crash leaves the previous one intact.
Parameters, moving average and optimiser are separate items: `load_run` reads one of them only.
Restoring takes any sharding. Not here: exported artifacts (`arp_jax.export`).
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from arp_jax.normalize import (
    Normalizer,
    Stats,
    normalizer_from_json,
    normalizer_to_json,
    stats_from_json,
    stats_to_json,
)
from arp_jax.policies.base import Params, Policy, build_policy
from arp_jax.specs import PolicySpec, check_match
from arp_jax.training.optim import path_name
from arp_jax.training.state import TrainState, example_batch

FOLDER = "checkpoints"
TREES = ("params", "ema", "optimizer")
# Parameters that act, where they are others than those trained (`finish`, `policies.base.Policy`).
FINISHED = "finished"


@dataclasses.dataclass(frozen=True)
class RunBundle:
    """What the numbers of a checkpoint mean: config (plain values), specs, statistics, maps."""

    config: dict[str, Any]
    spec: PolicySpec
    stats: Stats
    normalizer: Normalizer

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "config": self.config,
            "spec": self.spec.to_json(),
            "stats": stats_to_json(self.stats),
            "normalizer": normalizer_to_json(self.normalizer),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RunBundle":
        """Inverse of `to_json`."""
        return cls(
            config=data["config"],
            spec=PolicySpec.from_json(data["spec"]),
            stats=stats_from_json(data["stats"]),
            normalizer=normalizer_from_json(data["normalizer"]),
        )


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A trained policy, ready for `make_physical_act(policy, normalizer)`."""

    policy: Policy
    params: Params
    normalizer: Normalizer
    spec: PolicySpec
    config: dict[str, Any]
    step: int
    stats: Stats


class CheckpointStore:
    """The checkpoints of one run directory."""

    def __init__(
        self, run_dir: Path, keep: int = 3, keep_every: int = 0, read_only: bool = False
    ) -> None:
        """Opens RUN/checkpoints.

        Args:
            run_dir: the run directory.
            keep: number of newest checkpoints kept; 0 keeps all.
            keep_every: checkpoints at multiples of this step are kept for good; 0 means none.
            read_only: never creates or deletes anything.
        """
        handlers: dict[str, Any] = {
            name: ocp.StandardCheckpointHandler() for name in (*TREES, FINISHED)
        }
        handlers |= {name: ocp.JsonCheckpointHandler() for name in ("bundle", "data")}
        self.folder = run_dir.absolute() / FOLDER
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_handlers=handlers,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep or None,
                keep_period=keep_every or None,
                # Orbax's own read_only only adds warnings: nothing is deleted without a save.
                create=not read_only,
                cleanup_tmp_directories=not read_only,
                enable_async_checkpointing=not read_only,
            ),
        )

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, None without one."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Steps of all complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        step: int,
        state: TrainState,
        data_position: dict[str, Any],
        bundle: RunBundle,
        finished: Params | None = None,
    ) -> float:
        """Starts writing a checkpoint; returns the seconds that the caller was held up.

        Args:
            step: its name.
            state: train state.
            data_position: plain JSON values.
            bundle: what the numbers mean.
            finished: what the policy's `finish` gave; None where it has none or it is too early.
        """
        start = time.perf_counter()
        more = {} if finished is None else {FINISHED: ocp.args.StandardSave(finished)}
        optimizer = {"step": state.step, "opt_state": state.opt_state, "rng": state.rng}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                ema=ocp.args.StandardSave(state.ema),
                optimizer=ocp.args.StandardSave(optimizer),
                bundle=ocp.args.JsonSave(bundle.to_json()),
                data=ocp.args.JsonSave(data_position),
                **more,
            ),
        )
        return time.perf_counter() - start

    def read_bundle(self, step: int) -> tuple[RunBundle, dict[str, Any]]:
        """The bundle and the data position of a checkpoint."""
        items = ocp.args.Composite(bundle=ocp.args.JsonRestore(), data=ocp.args.JsonRestore())
        found = self._manager.restore(step, args=items)
        return RunBundle.from_json(found["bundle"]), found["data"]

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """Reads a train state.

        Args:
            step: which checkpoint.
            abstract: tree of jax.ShapeDtypeStruct with the sharding that each array shall have.

        Raises:
            ValueError: when the checkpoint's parameters are not those of this policy.
        """
        self._check_tree(step, "params", abstract.params)
        optimizer = {"step": abstract.step, "opt_state": abstract.opt_state, "rng": abstract.rng}
        self._check_tree(step, "optimizer", optimizer)
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(abstract.params),
                ema=ocp.args.StandardRestore(abstract.ema),
                optimizer=ocp.args.StandardRestore(optimizer),
            ),
        )
        return TrainState(params=found["params"], ema=found["ema"], **found["optimizer"])

    def restore_params(self, step: int, abstract: Params, use_ema: bool) -> Params:
        """Reads only the parameters, or their moving average."""
        item = "ema" if use_ema else "params"
        self._check_tree(step, item, abstract)
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(abstract)})
        return self._manager.restore(step, args=args)[item]

    def restore_finished(self, step: int, sharding: jax.sharding.Sharding) -> Params:
        """Reads the parameters that the policy's `finish` made, in the shapes of the file.

        Raises:
            ValueError: the checkpoint has none.
        """
        where = self.folder / str(step) / FINISHED
        if not where.is_dir():
            raise ValueError(
                f"{where.parent} was saved before the policy was finished, which happens at "
                "config.train.steps; continue the run with --resume"
            )
        tree = ocp.StandardCheckpointHandler().metadata(where).tree
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )
        args = ocp.args.Composite(**{FINISHED: ocp.args.StandardRestore(abstract)})
        return self._manager.restore(step, args=args)[FINISHED]

    def wait(self) -> None:
        """Returns when the checkpoint being written is complete."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then releases the background threads."""
        self._manager.close()

    def _check_tree(self, step: int, item: str, abstract: Any) -> None:
        """Raises ValueError naming the first path in which the checkpoint differs."""
        where = self.folder / str(step) / item
        # Orbax returns containers as plain dicts and lists; paths are compared, not containers.
        found = _shapes(ocp.StandardCheckpointHandler().metadata(where).tree)
        expected = _shapes(abstract)
        for path in sorted(expected.keys() | found.keys()):
            if expected.get(path) != found.get(path):
                raise ValueError(
                    f"{where} is a checkpoint of another policy or optimiser: {path} is "
                    f"{found.get(path, 'absent')} in the file and "
                    f"{expected.get(path, 'absent')} in this config"
                )


def _shapes(tree: Any) -> dict[str, str]:
    """Path -> "float32[3, 4]" for every leaf; list and attribute names are made alike."""
    return {
        path_name(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if hasattr(leaf, "shape")
    }


def newest_bundle(run_dir: Path) -> RunBundle | None:
    """The bundle of a run's newest checkpoint, None without one."""
    if not (run_dir / FOLDER).is_dir():
        return None
    store = CheckpointStore(run_dir, read_only=True)
    try:
        step = store.latest_step()
        return None if step is None else store.read_bundle(step)[0]
    finally:
        store.close()


def load_run(
    run_dir: str | Path,
    step: int | None = None,
    use_ema: bool = True,
    expected_spec: PolicySpec | None = None,
) -> LoadedRun:
    """Reads a trained policy from a run directory.

    Args:
        run_dir: a directory written by `python -m arp_jax.train`.
        step: which checkpoint; None takes the newest.
        use_ema: the moving average of the parameters rather than the parameters. What a policy's
            `finish` makes, it makes of the average only.
        expected_spec: when given, the run's spec must be equal.

    Raises:
        ValueError: no run, no such checkpoint, or parameters of another policy.
        SpecMismatch: the run's spec differs from `expected_spec`.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise ValueError(f"no run at {run_dir}; train one: python -m arp_jax.train --workdir=RUN")
    if not (run_dir / FOLDER).is_dir():
        raise ValueError(f"{run_dir} has no {FOLDER} folder; is it a run directory?")
    store = CheckpointStore(run_dir, read_only=True)
    try:
        steps = store.steps()
        if not steps:
            raise ValueError(f"{run_dir} has no complete checkpoint yet; train it longer")
        step = steps[-1] if step is None else step
        if step not in steps:
            raise ValueError(f"{run_dir} has no checkpoint of step {step}; it has {steps}")
        bundle, _ = store.read_bundle(step)
        if expected_spec is not None:
            check_match(expected_spec, bundle.spec, f"what is asked for and run {run_dir}")
        section, images = bundle.config["policy"], bundle.config.get("images")
        policy = build_policy(section["name"], section, bundle.spec, images)
        params = _read_params(store, step, policy, use_ema)
    finally:
        store.close()
    return LoadedRun(
        policy, params, bundle.normalizer, bundle.spec, bundle.config, step, bundle.stats
    )


def _read_params(store: CheckpointStore, step: int, policy: Policy, use_ema: bool) -> Params:
    """The parameters that act, on this process's first device."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    if hasattr(policy, "finish"):
        if not use_ema:
            raise ValueError(
                "this policy is finished with the moving average of its parameters; leave out "
                "--no_ema"
            )
        return store.restore_finished(step, device)
    shapes = jax.eval_shape(policy.init, jax.random.PRNGKey(0), example_batch(policy.spec))
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), shapes
    )
    return store.restore_params(step, abstract, use_ema)
