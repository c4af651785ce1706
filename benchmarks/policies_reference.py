"""The published PyTorch code of ACT, Diffusion Policy and VINN, from a user's own clones.

In: the path of a clone and a case of `policies_ours.py`. Out: calls that do the same work with the
same weights, carried over by our importers. Nothing of a clone is copied. Packages that the
published code imports and that are not installed are replaced only where it cannot run otherwise;
`stand_ins` says which, and the benchmark prints it.
"""

import ast
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from policies_ours import (
    CASES,
    LEARNING_RATE,
    NEIGHBORS,
    PROBE_STEP,
    REFERENCE,
    STATE_WEIGHT,
    UNET,
    UNET_SMALL,
    WEIGHT_DECAY,
    Case,
    library,
    probe_noise,
)

from arp_jax.interop.act import act_to_torch
from arp_jax.interop.torch_state import to_torch
from arp_jax.interop.torch_unet1d import unet_rules

CLONES = {
    "act": ("policy.py", "github.com/tonyzhaozh/act"),
    "diffusion": ("diffusion_policy/policy", "github.com/real-stanford/diffusion_policy"),
    "vinn": ("vinn_eval.py", "github.com/MarkFzp/act-plus-plus"),
}


def check_clone(name: str, clone: Path) -> None:
    """Raises SystemExit when the folder is no clone, or a package that must be there is not."""
    file, where = CLONES[name]
    if not (clone / file).exists():
        raise SystemExit(f"--{name} {clone}: no {file} there; give a clone of {where}")
    needed = ("torch", "einops", "diffusers") if name == "diffusion" else ("torch",)
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise SystemExit(f"--{name} needs {package}: pip install {package}")


def stand_ins(name: str) -> list[str]:
    """Packages that are replaced: not installed, and imported by the published code."""
    wanted = {"act": ("torchvision", "IPython"), "diffusion": ("zarr",), "vinn": ()}[name]
    return [package for package in wanted if importlib.util.find_spec(package) is None]


def act_model(clone: Path, case: Case) -> Any:
    """ACT's policy with our weights; refuses any tensor left over."""
    import torch

    missing = stand_ins("act")
    if "torchvision" in missing:
        from torchvision_stand_in import install

        install()
    if "IPython" in missing:
        sys.modules["IPython"] = types.ModuleType("IPython")
        sys.modules["IPython"].embed = None  # type: ignore[attr-defined]
    sys.path[:0] = [str(clone), str(clone / "detr")]
    # The published builder reads the command line of its own program and moves to a GPU.
    sys.argv = ["imitate_episodes.py", "--ckpt_dir=.", "--policy_class=ACT", "--task_name=x"]
    sys.argv += ["--seed=0", "--num_epochs=1"]
    if not torch.cuda.is_available():
        setattr(torch.nn.Module, "cuda", _stay)  # noqa: B010  (mypy)
    policy: Any = case.policy
    config = policy.config
    options = {
        "lr": LEARNING_RATE,
        "lr_backbone": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "backbone": f"resnet{config.depth}",
        "camera_names": list(config.cameras),
        "enc_layers": config.encoder_layers,
        "dec_layers": config.decoder_layers,
        "dim_feedforward": config.hidden,
        "hidden_dim": config.embed_dim,
        "nheads": config.heads,
        "num_queries": policy.spec.horizon,
        "kl_weight": config.kl_weight,
    }
    model = importlib.import_module("policy").ACTPolicy(options)
    state = {k: torch.tensor(v) for k, v in act_to_torch(case.params, policy).items()}
    # The buffer of positions is an attribute of the published module, not in its state.
    own = set(model.state_dict())
    model.load_state_dict({k: v for k, v in state.items() if k in own}, strict=True)
    return model


def _stay(module: Any) -> Any:
    return module


def act_inputs(case: Case) -> tuple[Any, Any]:
    """Joints [B, S] and images [B, V, 3, h, w] in 0..1, as ACT's program hands them over."""
    import torch

    config: Any = case.policy.config  # type: ignore[attr-defined]
    seen = case.batch["observation"]
    pictures = np.stack([seen[name][:, -1] for name in config.cameras], axis=1)
    images = torch.tensor(pictures).permute(0, 1, 4, 2, 3).contiguous() / 255.0
    return torch.tensor(seen[case.policy.state_feature][:, -1]), images  # type: ignore[attr-defined]


def act_inference(clone: Path, size: str, batch: int) -> Callable[[], np.ndarray]:
    """The published query."""
    import torch

    case = CASES["act"](size, batch)
    model = act_model(clone, case).eval()
    inputs = act_inputs(case)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return model(*inputs).numpy()

    return run


def act_training(clone: Path, size: str, batch: int) -> Callable[[], np.ndarray]:
    """The published training step; the first call returns mean and log variance of the style."""
    import torch

    case = CASES["act"](size, batch)
    model = act_model(clone, case).eval()
    joints, images = act_inputs(case)
    actions = torch.tensor(case.batch["action"])
    is_pad = torch.tensor(case.batch["action_is_pad"])
    optimizer = model.configure_optimizers()

    def run() -> np.ndarray:
        if not model.training:
            with torch.no_grad():
                _, _, style = model.model(joints, images, None, actions, is_pad)
            model.train()
            return torch.cat(style, dim=-1).numpy()
        optimizer.zero_grad()
        loss = model(joints, images, actions, is_pad)["loss"]
        loss.backward()
        optimizer.step()
        return loss.detach().numpy()

    return run


def diffusion_model(clone: Path, case: Case, size: str) -> Any:
    """Diffusion Policy's policy on vectors with our weights, normalising nothing."""
    import torch

    if "zarr" in stand_ins("diffusion"):
        # Only asked whether a tensor is one of its arrays.
        zarr = types.ModuleType("zarr")
        zarr.Array = type("Array", (), {})  # type: ignore[attr-defined]
        sys.modules["zarr"] = zarr
    sys.path.insert(0, str(clone))
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    path = "diffusion_policy.policy.diffusion_unet_lowdim_policy"
    published = importlib.import_module(path)
    policy: Any = case.policy
    spec, options = policy.spec, UNET if size == REFERENCE else UNET_SMALL
    observed = sum(f.size for f in spec.observation.features)
    net = published.ConditionalUnet1D(
        spec.action.size,
        global_cond_dim=observed * spec.window,
        diffusion_step_embed_dim=options["step_size"],
        down_dims=list(options["widths"]),  # type: ignore[call-overload]
        kernel_size=options["kernel"],
        n_groups=policy.config.groups,
        cond_predict_scale=policy.config.film_scale,
    )
    state = to_torch(case.params["net"], unet_rules(policy.net))
    net.load_state_dict({k: torch.tensor(np.array(v)) for k, v in state.items()}, strict=True)
    scheduler = DDPMScheduler(
        num_train_timesteps=policy.config.diffusion_steps,
        beta_schedule="squaredcos_cap_v2",
        variance_type="fixed_small",
        clip_sample=True,
        prediction_type="epsilon",
    )
    model = published.DiffusionUnetLowdimPolicy(
        model=net,
        noise_scheduler=scheduler,
        horizon=spec.horizon,
        obs_dim=observed,
        action_dim=spec.action.size,
        n_action_steps=8,
        n_obs_steps=spec.window,
        obs_as_global_cond=True,
    )
    normalizer = importlib.import_module("diffusion_policy.model.common.normalizer")
    for name in ("obs", "action"):
        identity = normalizer.SingleFieldLinearNormalizer.create_identity()
        model.normalizer[name] = identity
    return model


def diffusion_inputs(case: Case) -> dict[str, Any]:
    """Observations [B, W, D] and actions [B, H, A] under the published names."""
    import torch

    seen, names = case.batch["observation"], case.policy.spec.observation.features
    vectors = np.concatenate([seen[f.name] for f in names], axis=-1)
    return {"obs": torch.tensor(vectors), "action": torch.tensor(case.batch["action"])}


def diffusion_probe(model: Any, case: Case, observed: Any) -> np.ndarray:
    """The published U-Net on the noisy chunks of `policies_ours.probe_noise`."""
    import torch

    with torch.inference_mode():
        condition = observed.reshape(len(observed), -1)
        noisy = torch.tensor(probe_noise(case))
        return model.model(noisy, PROBE_STEP, global_cond=condition).numpy()


def diffusion_inference(clone: Path, size: str, batch: int) -> Callable[[], np.ndarray]:
    """The published query, 100 steps of DDPM; the first call returns the U-Net's output."""
    import torch

    case = CASES["diffusion"](size, batch)
    model = diffusion_model(clone, case, size).eval()
    observed = {"obs": diffusion_inputs(case)["obs"]}
    state = {"first": True}

    def run() -> np.ndarray:
        if state.pop("first", False):
            return diffusion_probe(model, case, observed["obs"])
        with torch.inference_mode():
            return model.predict_action(observed)["action_pred"].numpy()

    return run


def diffusion_training(clone: Path, size: str, batch: int) -> Callable[[], np.ndarray]:
    """The published training step; the first call returns the U-Net's output."""
    import torch

    case = CASES["diffusion"](size, batch)
    model, data = diffusion_model(clone, case, size).train(), diffusion_inputs(case)
    optimizer = torch.optim.AdamW(
        model.model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    state = {"first": True}

    def run() -> np.ndarray:
        if state.pop("first", False):
            return diffusion_probe(model, case, data["obs"])
        optimizer.zero_grad()
        loss = model.compute_loss(data)
        loss.backward()
        optimizer.step()
        return loss.detach().numpy()

    return run


def vinn_query(clone: Path, size: str) -> Callable[[], np.ndarray]:
    """The published search: one function of a program that needs a simulator to be imported."""
    import torch

    tree = ast.parse((clone / CLONES["vinn"][0]).read_text())
    name = "calculate_nearest_neighbors"
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    if not found:
        raise SystemExit(f"--vinn {clone}: {CLONES['vinn'][0]} has no {name}()")
    names: dict[str, Any] = {"torch": torch, "F": torch.nn.functional}
    exec(compile(ast.Module([*found], []), "vinn_eval.py", "exec"), names)
    data = library(size)
    query = [torch.tensor(part) for part in data.query]
    rows = [torch.tensor(data.features), torch.tensor(data.joints)]
    chunks = torch.tensor(data.chunks)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return names[name](query, rows, chunks, NEIGHBORS, STATE_WEIGHT).numpy()

    return run
