"""The PyTorch reference of ARP from a user's own clone: loaded, configured, given our weights.

In: the path of a clone of github.com/mlzxy/arp, our `ArpConfig`, parameters. Out: the reference's
module in eval mode with the same weights. Nothing of the clone is copied; PyTorch is needed only
here (`pip install torch==2.13.0`). Shared by the benchmarks of generation and training.
"""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arp_jax.interop.arp import initial_statistics, to_torch_state
from arp_jax.models.arp_config import ArpConfig, LayerConfig
from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.tokens import TokenType


def load_reference(clone: Path) -> types.ModuleType:
    """The clone's `arp.py` as a module.

    Raises:
        SystemExit: no such file, or PyTorch is missing (the message says what to do).
    """
    source = clone / "arp.py"
    if not source.is_file():
        raise SystemExit(f"--reference {clone}: no arp.py there; give a clone of github mlzxy/arp")
    try:
        import torch  # noqa: F401
    except ImportError:
        raise SystemExit("--reference needs PyTorch: pip install torch==2.13.0") from None
    if importlib.util.find_spec("timm") is None:
        _stand_in_for_timm()
    spec = importlib.util.spec_from_file_location("reference_arp", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _stand_in_for_timm() -> None:
    """The one class that the reference takes from timm: two linear layers around an activation."""
    import torch

    class Mlp(torch.nn.Module):
        def __init__(
            self,
            in_features: int,
            hidden_features: int | None = None,
            out_features: int | None = None,
            act_layer: Any = torch.nn.GELU,
            drop: float = 0.0,
        ) -> None:
            super().__init__()
            hidden = hidden_features or in_features
            self.fc1 = torch.nn.Linear(in_features, hidden)
            self.act = act_layer()
            self.fc2 = torch.nn.Linear(hidden, out_features or in_features)
            self.drop = torch.nn.Dropout(drop)

        def forward(self, x: Any) -> Any:
            return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))

    names = ("timm", "timm.models", "timm.models.vision_transformer")
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[names[-1]].Mlp = Mlp  # type: ignore[attr-defined]


def random_weights(config: ArpConfig, seed: int = 0) -> dict[str, Any]:
    """Our parameters, every leaf random: at initialisation AdaLN layers would be the identity."""
    shapes = jax.eval_shape(ChunkTransformer(config).init_params, jax.random.key(0))
    rng = np.random.default_rng(seed)

    def fill(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = str(path[-1].key)
        z = rng.standard_normal(leaf.shape, np.float32)
        if name == "scale":
            return 1 + np.float32(0.1) * z
        if name == "kernel":
            fan_in = np.prod(leaf.shape[-2:-1]) if leaf.ndim < 4 else np.prod(leaf.shape[:3])
            return z / np.sqrt(fan_in).astype(np.float32)
        return np.float32(0.5 if name == "feature_map" else 0.05) * z

    return jax.tree.map_with_path(fill, shapes)


def reference_model(module: types.ModuleType, config: ArpConfig, params: Any) -> Any:
    """The reference's policy with our weights, in eval mode; refuses any tensor left over."""
    import torch

    arguments = {
        "n_embd": config.embed_dim,
        "embd_pdrop": config.embed_dropout,
        "max_seq_len": config.max_seq_len,
        "max_chunk_size": config.max_chunk_size,
        "layer_norm_every_block": config.layer_norm_every_block,
        "tokens": [_token(module, i, token) for i, token in enumerate(config.tokens)],
        "layers": [_layer(module, layer) for layer in config.layers],
    }
    model = module.AutoRegressivePolicy(module.ModelConfig(**arguments)).eval()
    state = to_torch_state(params, initial_statistics(config), config)
    model.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in state.items()}, strict=True)
    return model


def _token(module: types.ModuleType, index: int, token: TokenType) -> Any:
    found = module.TokenType.make(
        name=token.name,
        is_control=token.is_control,
        dim=token.dim,
        is_continuous=token.is_continuous,
        dict_sizes=list(token.dict_sizes),
        bounds=None if token.bounds is None else list(token.bounds),
        embedding=token.embedding,
        embedding_kwargs=dict(token.embedding_options),
        predictor=token.predictor,
        predictor_kwargs=dict(token.predictor_options),
    )
    found["id"] = index
    return found


def _layer(module: types.ModuleType, layer: LayerConfig) -> Any:
    return module.LayerType.make(
        n_head=layer.heads,
        mlp_ratio=layer.mlp_ratio,
        mlp_dropout=layer.mlp_dropout,
        attn_kwargs={
            "attn_pdrop": layer.attention_dropout,
            "resid_pdrop": layer.residual_dropout,
        },
        cond_attn_kwargs={
            "attn_pdrop": layer.cross_attention_dropout,
            "resid_pdrop": layer.cross_residual_dropout,
        },
        condition_on=layer.condition_on,
        AdaLN=layer.adaln,
        norm_before_AdaLN=layer.norm_before_adaln,
        name=layer.name,
    )
