"""The noise predictor of Diffusion Policy: a U-Net along the time axis of an action sequence.

In: a noisy chunk [B, T, A], the diffusion step, a conditioning vector. Out: a prediction of the
same shape. Each residual block is modulated by step and condition (FiLM). T must be divisible by
two as often as the net halves it. Schedules and sampling are `noise_schedule.py`'s business.

Chi et al. 2023, "Diffusion Policy", section IV-A; layer order as in the published code, so that its
weights load.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


def mish(x: Array) -> Array:
    """x * tanh(softplus(x)) (Misra 2019)."""
    return x * jnp.tanh(nn.softplus(x))


def step_embedding(steps: Array, size: int) -> Array:
    """Sines and cosines of diffusion steps [B] -> float32 [B, size]; size is even and >= 4."""
    half = size // 2
    frequencies = jnp.exp(jnp.arange(half) * -(math.log(10_000.0) / (half - 1)))  # [half]
    angles = steps.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class ConvBlock(nn.Module):
    """Convolution, group norm, Mish: [B, T, C] -> [B, T, features]."""

    features: int
    kernel: int
    groups: int

    def setup(self) -> None:
        self.conv = nn.Conv(self.features, (self.kernel,), padding=self.kernel // 2)
        self.norm = nn.GroupNorm(self.groups, epsilon=1e-5, use_fast_variance=False)

    def __call__(self, x: Array) -> Array:
        return mish(self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """Two convolution blocks with FiLM between them and a shortcut around them.

    Attributes:
        channels: of the input.
        features: of the output.
        film_scale: whether the condition also scales the channels (the factor itself, not 1 + it).
    """

    channels: int
    features: int
    kernel: int
    groups: int
    film_scale: bool

    def setup(self) -> None:
        self.first = ConvBlock(self.features, self.kernel, self.groups)
        self.film = nn.Dense(self.features * (2 if self.film_scale else 1))
        self.second = ConvBlock(self.features, self.kernel, self.groups)
        if self.channels != self.features:
            self.shortcut = nn.Conv(self.features, (1,))

    def __call__(self, x: Array, condition: Array) -> Array:
        """x [B, T, channels], condition [B, C] -> [B, T, features]."""
        hidden = self.first(x)
        film = self.film(mish(condition))[:, None]  # [B, 1, features or twice that]
        if self.film_scale:
            scale, bias = jnp.split(film, 2, axis=-1)
            hidden = scale * hidden + bias
        else:
            hidden = hidden + film
        hidden = self.second(hidden)
        return hidden + (self.shortcut(x) if self.channels != self.features else x)


class Unet1d(nn.Module):
    """Conditional U-Net over time.

    Attributes:
        action_dim: A.
        widths: channels at each resolution, finest first.
        step_size: width of the embedding of the diffusion step.
        kernel: of the convolutions, odd.
        groups: of the group norms; divides every width.
        film_scale: see `ResidualBlock`.
    """

    action_dim: int
    widths: tuple[int, ...] = (256, 512, 1024)
    step_size: int = 256
    kernel: int = 5
    groups: int = 8
    film_scale: bool = True

    def setup(self) -> None:
        def block(channels: int, features: int) -> ResidualBlock:
            return ResidualBlock(channels, features, self.kernel, self.groups, self.film_scale)

        widths = self.widths
        inputs = (self.action_dim, *widths[:-1])
        self.step_in, self.step_out = nn.Dense(4 * self.step_size), nn.Dense(self.step_size)
        self.down_first = [block(a, b) for a, b in zip(inputs, widths, strict=True)]
        self.down_second = [block(b, b) for b in widths]
        self.downsample = [nn.Conv(b, (3,), strides=2, padding=1) for b in widths[:-1]]
        self.middle = [block(widths[-1], widths[-1]) for _ in range(2)]
        # Coarsest first; the skip connection doubles the channels.
        ups = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up_first = [block(2 * a, b) for a, b in ups]
        self.up_second = [block(b, b) for _, b in ups]
        self.upsample = [nn.ConvTranspose(b, (4,), strides=(2,), padding="SAME") for _, b in ups]
        self.final_block = ConvBlock(widths[0], self.kernel, self.groups)
        self.final = nn.Conv(self.action_dim, (1,))

    @property
    def time_multiple(self) -> int:
        """T must be a multiple of this."""
        return 2 ** (len(self.widths) - 1)

    def __call__(self, noisy: Array, steps: Array, condition: Array) -> Array:
        """Predicts for noisy chunks.

        Args:
            noisy: float32 [B, T, A].
            steps: diffusion steps, int32 [B] or a scalar.
            condition: float32 [B, C].

        Raises:
            ValueError: T cannot be halved often enough.
        """
        if noisy.shape[1] % self.time_multiple:
            raise ValueError(
                f"horizon {noisy.shape[1]} is no multiple of {self.time_multiple}, which a U-Net "
                f"of {len(self.widths)} widths needs"
            )
        steps = jnp.broadcast_to(steps, noisy.shape[:1])
        embedded = step_embedding(steps, self.step_size)
        embedded = self.step_out(mish(self.step_in(embedded)))
        condition = jnp.concatenate([embedded, condition], axis=-1)  # [B, step_size + C]

        x, skips = noisy, []
        for level, (first, second) in enumerate(
            zip(self.down_first, self.down_second, strict=True)
        ):
            x = second(first(x, condition), condition)
            skips.append(x)
            if level < len(self.downsample):
                x = self.downsample[level](x)
        for block in self.middle:
            x = block(x, condition)
        for first, second, upsample in zip(
            self.up_first, self.up_second, self.upsample, strict=True
        ):
            x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = upsample(second(first(x, condition), condition))
        return self.final(self.final_block(x))
