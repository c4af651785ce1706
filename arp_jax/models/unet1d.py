"""The noise predictor of Diffusion Policy: a U-Net along the time axis of an action sequence.

In: a noisy chunk [B, T, A], the diffusion step, a conditioning vector. Out: a prediction of the
same shape. Each residual block is modulated by step and condition (FiLM); as both go through linear
layers, a sampler computes their parts once (`prepare`) and only `denoise`s at each level. T must be
divisible by two as often as the net halves it. Sampling is `noise_schedule.py`'s business.

Chi et al. 2023, "Diffusion Policy", section IV-A; layer order as in the published code, so that its
weights load.
"""

import math
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

Films = list[Array]
_kernel_init = nn.initializers.lecun_normal()
_zeros = nn.initializers.zeros


def mish(x: Array) -> Array:
    """x * tanh(softplus(x)) (Misra 2019)."""
    return x * jnp.tanh(nn.softplus(x))


def step_embedding(steps: Array, size: int) -> Array:
    """Sines and cosines of diffusion steps [B] -> float32 [B, size]; size is even and >= 4."""
    half = size // 2
    frequencies = jnp.exp(jnp.arange(half) * -(math.log(10_000.0) / (half - 1)))  # [half]
    angles = steps.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class TimeConv(nn.Module):
    """Convolution along time as one product of shifted copies: [B, T, C] -> [B, T', features].

    Parameters and results are those of `nn.Conv`, but XLA's CPU backend has no fast kernel for
    convolutions of one axis (benchmarks/README.md).
    """

    features: int
    kernel: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel, x.shape[-1], self.features)
        kernel, bias = (
            self.param("kernel", _kernel_init, shape),
            self.param("bias", _zeros, shape[-1:]),
        )
        pad = self.kernel // 2
        padded = jnp.pad(x, ((0, 0), (pad, pad), (0, 0)))
        steps = (padded.shape[1] - self.kernel) // self.stride + 1  # T'
        last = (steps - 1) * self.stride + 1
        taps = [
            jax.lax.slice_in_dim(padded, i, i + last, self.stride, axis=1)
            for i in range(self.kernel)
        ]
        return _rows_product(jnp.concatenate(taps, axis=-1), kernel) + bias


class TimeUpsample(nn.Module):
    """Transposed convolution (kernel 4, stride 2): [B, T, C] -> [B, 2 T, features].

    Even and odd outputs are one product each; parameters are those of `nn.ConvTranspose`.
    """

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", _kernel_init, (4, x.shape[-1], self.features))
        bias = self.param("bias", _zeros, (self.features,))
        padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
        before, after = padded[:, :-2], padded[:, 2:]
        even = _rows_product(jnp.concatenate([before, x], axis=-1), kernel[::2])
        odd = _rows_product(jnp.concatenate([x, after], axis=-1), kernel[1::2])
        return jnp.stack([even, odd], axis=2).reshape(len(x), -1, self.features) + bias


def _rows_product(rows: Array, kernel: Array) -> Array:
    """[B, T, k C] times a kernel [k, C, features], over rows [B T, k C]."""
    flat = rows.reshape(-1, rows.shape[-1]) @ kernel.reshape(rows.shape[-1], -1)
    return flat.reshape(*rows.shape[:2], -1)


class Film(nn.Module):
    """A linear layer of Mish of [step | condition], as the sum of its two parts."""

    features: int

    @nn.compact
    def __call__(self, step: Array, condition: Array) -> tuple[Array, Array]:
        """step [K, S] and condition [B, C] -> their parts [K, features] and [B, features]."""
        size = step.shape[-1]
        shape = (size + condition.shape[-1], self.features)
        kernel, bias = (
            self.param("kernel", _kernel_init, shape),
            self.param("bias", _zeros, shape[-1:]),
        )
        return mish(step) @ kernel[:size] + bias, mish(condition) @ kernel[size:]


class ConvBlock(nn.Module):
    """Convolution, group norm, Mish: [B, T, C] -> [B, T, features]."""

    features: int
    kernel: int
    groups: int

    def setup(self) -> None:
        self.conv = TimeConv(self.features, self.kernel)
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
        self.film = Film(self.features * (2 if self.film_scale else 1))
        self.second = ConvBlock(self.features, self.kernel, self.groups)
        if self.channels != self.features:
            self.shortcut = TimeConv(self.features)

    def films(self, step: Array, condition: Array) -> tuple[Array, Array]:
        """See `Film`."""
        return self.film(step, condition)

    def __call__(self, x: Array, film: Array) -> Array:
        """x [B, T, channels], film [B, features or twice that] -> [B, T, features]."""
        hidden = self.first(x)
        film = film[:, None]
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
        self.downsample = [TimeConv(b, 3, stride=2) for b in widths[:-1]]
        self.middle = [block(widths[-1], widths[-1]) for _ in range(2)]
        # Coarsest first; the skip connection doubles the channels.
        ups = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up_first = [block(2 * a, b) for a, b in ups]
        self.up_second = [block(b, b) for _, b in ups]
        self.upsample = [TimeUpsample(b) for _, b in ups]
        self.final_block = ConvBlock(widths[0], self.kernel, self.groups)
        self.final = TimeConv(self.action_dim)

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
        levels, seen = self.prepare(jnp.broadcast_to(steps, noisy.shape[:1]), condition)
        return self.denoise(noisy, levels, seen)

    def prepare(self, steps: Array, condition: Array) -> tuple[Films, Films]:
        """What does not depend on the noisy chunk.

        Args:
            steps: diffusion steps, int32 [K].
            condition: float32 [B, C].

        Returns:
            Two lists with an entry a residual block: [K, F] of the steps, [B, F] of the condition.
        """
        embedded = self.step_out(mish(self.step_in(step_embedding(steps, self.step_size))))
        parts = [block.films(embedded, condition) for block in self._blocks()]
        return [step for step, _ in parts], [seen for _, seen in parts]

    def denoise(self, noisy: Array, level: Films, seen: Films) -> Array:
        """Predicts for noisy chunks [B, T, A].

        Args:
            noisy: float32 [B, T, A].
            level, seen: from `prepare`; `level` with one step ([F] an entry), or one a row.

        Raises:
            ValueError: T cannot be halved often enough.
        """
        if noisy.shape[1] % self.time_multiple:
            raise ValueError(
                f"horizon {noisy.shape[1]} is no multiple of {self.time_multiple}, which a U-Net "
                f"of {len(self.widths)} widths needs"
            )
        films = iter([a + b for a, b in zip(level, seen, strict=True)])
        x, skips = noisy, []
        for i, (first, second) in enumerate(zip(self.down_first, self.down_second, strict=True)):
            x = second(first(x, next(films)), next(films))
            skips.append(x)
            if i < len(self.downsample):
                x = self.downsample[i](x)
        for block in self.middle:
            x = block(x, next(films))
        for first, second, upsample in zip(
            self.up_first, self.up_second, self.upsample, strict=True
        ):
            x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = upsample(second(first(x, next(films)), next(films)))
        return self.final(self.final_block(x))

    def _blocks(self) -> Iterator[ResidualBlock]:
        """Residual blocks in the order of use."""
        for pair in zip(self.down_first, self.down_second, strict=True):
            yield from pair
        yield from self.middle
        for pair in zip(self.up_first, self.up_second, strict=True):
            yield from pair
