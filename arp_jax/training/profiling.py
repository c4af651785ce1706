"""What a policy costs: parameters, multiply-accumulates and memory, module by module.

Flows in: a policy (static) and a batch size. Flows out: a `Profile`; parameters come from shapes,
MACs from the jaxprs of `act` and of the loss (`flops.py`), memory from XLA's analysis of the
compiled programs. Nothing is initialised or run, so the largest model can be profiled anywhere.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from arp_jax.policies.base import Batch, Params, Policy
from arp_jax.policies.preprocessed import network_of
from arp_jax.training.flops import Operation, XlaCheck, compare, operations
from arp_jax.training.optim import OptimConfig, make_optimizer, path_name
from arp_jax.training.state import UpdateConfig, example_batch, init_state, make_update_fn

OUTSIDE = "outside modules"


@dataclasses.dataclass(frozen=True)
class ModuleRow:
    """One module, or all sets of parameters that one module is used with.

    Attributes:
        name: e.g. "transformer/heads_fine-action".
        parameters: numbers that training changes; frozen: stored numbers that it does not.
        size: bytes of both.
        act_macs, loss_macs: multiply-accumulates in one `act`, in one forward loss.
    """

    name: str
    parameters: int = 0
    frozen: int = 0
    size: int = 0
    act_macs: int = 0
    loss_macs: int = 0


@dataclasses.dataclass(frozen=True)
class Memory:
    """XLA's memory analysis of one compiled program, bytes.

    Attributes:
        arguments: inputs, parameters included; outputs: results.
        aliased: outputs that take over the place of an input (a donated training state).
        temporary: most that is needed besides, at one time.
    """

    arguments: int
    outputs: int
    aliased: int
    temporary: int


@dataclasses.dataclass(frozen=True)
class Profile:
    """Costs of a policy at one batch size; checks and memory are empty when not compiled."""

    batch_size: int
    rows: tuple[ModuleRow, ...]
    checks: dict[str, XlaCheck]
    memory: dict[str, Memory]

    def total(self, column: str) -> int:
        """Sum of a column of the rows."""
        return sum(getattr(row, column) for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        totals = {f.name: self.total(f.name) for f in dataclasses.fields(ModuleRow)[1:]}
        checks = {
            name: dataclasses.asdict(c) | {"ratio": c.ratio, "explained": c.explained}
            for name, c in self.checks.items()
        }
        return dataclasses.asdict(self) | {"total": totals, "checks": checks}


def profile_policy(
    policy: Policy,
    batch_size: int = 1,
    *,
    batch: Batch | None = None,
    compile_programs: bool = True,
) -> Profile:
    """Measures `policy`; see `Profile`.

    Args:
        policy: anything with init, act and loss.
        batch_size: examples at once.
        batch: arrays or shapes; None takes zeros as the policy's spec promises.
        compile_programs: False skips the compiler: XLA's flops are then those of its program
            before optimisation, and there is no memory analysis.
    """
    batch = example_batch(policy.spec, batch_size) if batch is None else batch
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), batch)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(policy.init, key, shapes)

    def loss(params: Params, batch: Batch, rng: jax.Array) -> jax.Array:
        return policy.loss(params, batch, rng, train=False)[0]

    programs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "act": (policy.act, (params, shapes["observation"], key)),
        "loss": (loss, (params, shapes, key)),
    }
    found, checks, memory = {}, {}, {}
    for name, (function, arguments) in programs.items():
        found[name] = operations(function, *arguments)
        lowered = jax.jit(function).lower(*arguments)
        program = lowered.compile() if compile_programs else lowered
        checks[name] = compare(found[name], program)
        if compile_programs and name == "act":
            memory[name] = _memory(program)
    if compile_programs:
        memory["training step"] = _memory(_training_step(policy, shapes))
    rows = module_rows(policy, params, found["act"], found["loss"])
    return Profile(batch_size, rows, checks, memory)


def module_rows(
    policy: Policy, params: Params, act: list[Operation], loss: list[Operation]
) -> tuple[ModuleRow, ...]:
    """Parameters and MACs of every module, in the order of the parameter tree."""
    roots = module_roots(policy, params)
    labels = {key: " + ".join(keys) for keys in roots.values() for key in keys}
    numbers: dict[str, dict[str, int]] = {}

    def add(name: str, column: str, amount: int) -> None:
        row = numbers.setdefault(name, {})
        row[column] = row.get(column, 0) + amount

    leaves = jax.tree_util.tree_leaves_with_path(params)
    frozen = _frozen_folders(path_name(path) for path, _ in leaves)
    for path, leaf in leaves:
        first, *rest = path_name(path).split("/")
        name = _row_name(labels.get(first, first), rest[:-1] or rest)
        size = math.prod(leaf.shape)
        still = path_name(path[:-1]) in frozen or first == "statistics"
        add(name, "frozen" if still else "parameters", size)
        add(name, "size", size * leaf.dtype.itemsize)
    for column, found in (("act_macs", act), ("loss_macs", loss)):
        for op in found:
            if op.kind != "elementwise":
                keys = roots.get(op.path[0]) if op.path else None
                name = _row_name(" + ".join(keys), list(op.path[1:])) if keys else OUTSIDE
                add(name, column, op.count)
    return tuple(ModuleRow(name, **columns) for name, columns in numbers.items())


def module_roots(policy: Policy, params: Mapping[str, Any]) -> dict[str, list[str]]:
    """Scope name of each module of the policy -> keys of its parameters.

    A module `self.encoder` has its parameters at "encoder"; one that is used with several sets
    of parameters has those that belong to no other module.
    """
    modules = {n: m for n, m in vars(network_of(policy)).items() if isinstance(m, nn.Module)}
    free = [key for key in params if key not in modules and key != "statistics"]
    return {
        m.name or type(m).__name__: [name] if name in params else free
        for name, m in modules.items()
    }


def _row_name(label: str, scopes: list[str]) -> str:
    """Modules of the second level; stacks of layers are split into their parts, all layers one."""
    if scopes and scopes[0].startswith("stacks_"):
        return "/".join([label, scopes[0], *(re.sub(r"_\d+$", "", s) for s in scopes[1:2])])
    return "/".join([label, *scopes[:1]])


def _frozen_folders(paths: Any) -> set[str]:
    """Parameter folders that hold running statistics: frozen batch norms never learn."""
    return {p.rsplit("/", 1)[0] for p in paths if p.endswith("/running_mean")}


def _training_step(policy: Policy, batch: Batch) -> Any:
    """The compiled update of a training run with AdamW and a moving average."""
    tx = make_optimizer(OptimConfig(learning_rate=1e-4), total_steps=1000)
    state = jax.eval_shape(lambda: init_state(policy, tx, jax.random.key(0)))
    return make_update_fn(policy, tx, UpdateConfig()).lower(state, batch).compile()


def _memory(compiled: Any) -> Memory:
    found = compiled.memory_analysis()
    return Memory(
        arguments=found.argument_size_in_bytes,
        outputs=found.output_size_in_bytes,
        aliased=found.alias_size_in_bytes,
        temporary=found.temp_size_in_bytes,
    )
