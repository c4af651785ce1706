"""Published networks written in PyTorch from their specification, under the published names.

For tests that compare an imported policy with what PyTorch computes. Sizes are arguments; weights
are PyTorch's own random ones, norms randomised by `randomize`.
"""

from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="compares with PyTorch")
nn: Any = torch.nn

STAGE_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def group_norm(features):
    return nn.GroupNorm(features // 16, features)


def randomize(module):
    """Scales, biases and statistics of every norm become random, as after a training."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            norm.weight.data.uniform_(0.5, 1.0)
            norm.bias.data.uniform_(-0.2, 0.2)
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 1.5)
    return module.eval()


class Block(nn.Module):
    """Basic or bottleneck block of a ResNet under torchvision's names."""

    def __init__(self, before, features, stride, wide, norm):
        super().__init__()
        after = 4 * features if wide else features
        # (in, out, kernel, stride) of the convolutions.
        shapes = [(before, features, 3, stride), (features, features, 3, 1)]
        if wide:
            shapes = [(before, features, 1, 1), (features, features, 3, stride)]
            shapes += [(features, after, 1, 1)]
        for number, (a, b, kernel, step) in enumerate(shapes, start=1):
            conv = nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False)
            setattr(self, f"conv{number}", conv)
            setattr(self, f"bn{number}", norm(b))
        self.count = len(shapes)
        if stride != 1 or before != after:
            projection = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, norm(after))

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = torch.relu(y) if number < self.count else y
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Trunk(nn.Module):
    """ResNet without its pooling; a classifier `fc` that is not called unless classes is 0."""

    def __init__(self, depth=18, width=64, norm=nn.BatchNorm2d, classes=10):
        super().__init__()
        wide = depth == 50
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = norm(width)
        before = width
        for stage, blocks in enumerate(STAGE_BLOCKS[depth]):
            features, layer = width * 2**stage, []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layer.append(Block(before, features, stride, wide, norm))
                before = 4 * features if wide else features
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
        if classes:
            self.fc = nn.Linear(before, classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class AveragedTrunk(Trunk):
    """The trunk with its map averaged: [N, C]."""

    def __init__(self, width):
        super().__init__(18, width, group_norm, classes=0)

    def forward(self, x):
        return super().forward(x).mean((2, 3))


class NumberedTrunk(nn.Module):
    """The same trunk as a list, robomimic's `nets`."""

    def __init__(self, width):
        super().__init__()
        t = Trunk(18, width, group_norm, classes=0)
        stem = (t.conv1, t.bn1, nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.nets = nn.Sequential(*stem, t.layer1, t.layer2, t.layer3, t.layer4)

    def forward(self, x):
        return self.nets(x)


class Keypoints(nn.Module):
    """Spatial softmax behind a 1x1 convolution: [N, C, h, w] -> [N, K, 2]."""

    def __init__(self, channels, keypoints, height, width):
        super().__init__()
        self.nets = nn.Conv2d(channels, keypoints, 1)
        across, down = torch.linspace(-1, 1, width), torch.linspace(-1, 1, height)
        self.register_buffer("pos_x", across.repeat(height)[None])
        self.register_buffer("pos_y", down.repeat_interleave(width)[None])
        self.register_buffer("temperature", torch.ones(1))

    def forward(self, x):
        scores = self.nets(x).flatten(2)  # [N, K, h * w]
        weights = torch.softmax(scores / self.temperature, -1)
        return torch.stack([(weights * self.pos_x).sum(-1), (weights * self.pos_y).sum(-1)], -1)


class ConvBlock(nn.Module):
    def __init__(self, a, b, kernel, groups):
        super().__init__()
        conv = nn.Conv1d(a, b, kernel, padding=kernel // 2)
        self.block = nn.Sequential(conv, nn.GroupNorm(groups, b), nn.Mish())

    def forward(self, x):
        return self.block(x)


class ResidualBlock(nn.Module):
    def __init__(self, a, b, condition, kernel, groups):
        super().__init__()
        blocks = [ConvBlock(a, b, kernel, groups), ConvBlock(b, b, kernel, groups)]
        self.blocks = nn.ModuleList(blocks)
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * b), nn.Identity())
        self.residual_conv = nn.Conv1d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x, condition):
        scale, bias = self.cond_encoder(condition)[..., None].chunk(2, dim=1)
        return self.blocks[1](scale * self.blocks[0](x) + bias) + self.residual_conv(x)


class Resample(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x)


class Unet(nn.Module):
    """The conditional U-Net over [B, T, A]."""

    def __init__(self, actions, condition, widths, step_size, kernel, groups):
        super().__init__()
        self.step_size = step_size
        self.diffusion_step_encoder = nn.Sequential(
            nn.Identity(),
            nn.Linear(step_size, 4 * step_size),
            nn.Mish(),
            nn.Linear(4 * step_size, step_size),
        )

        def block(a, b):
            return ResidualBlock(a, b, condition + step_size, kernel, groups)

        down, up, inputs = [], [], (actions, *widths[:-1])
        for i, (a, b) in enumerate(zip(inputs, widths, strict=True)):
            last = i == len(widths) - 1
            smaller = nn.Identity() if last else Resample(nn.Conv1d(b, b, 3, 2, 1))
            down.append(nn.ModuleList([block(a, b), block(b, b), smaller]))
        for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True):
            larger = Resample(nn.ConvTranspose1d(b, b, 4, 2, 1))
            up.append(nn.ModuleList([block(2 * a, b), block(b, b), larger]))
        self.down_modules, self.up_modules = nn.ModuleList(down), nn.ModuleList(up)
        self.mid_modules = nn.ModuleList([block(widths[-1], widths[-1]) for _ in range(2)])
        last = ConvBlock(widths[0], widths[0], kernel, groups)
        self.final_conv = nn.Sequential(last, nn.Conv1d(widths[0], actions, 1))

    def forward(self, noisy, steps, condition):
        embedded = self.diffusion_step_encoder(sinusoid(steps, self.step_size))
        condition = torch.cat([embedded, condition], -1)
        x, skips = noisy.transpose(1, 2), []
        for first, second, smaller in self.down_modules:
            x = second(first(x, condition), condition)
            skips.append(x)
            x = smaller(x)
        for block in self.mid_modules:
            x = block(x, condition)
        for first, second, larger in self.up_modules:
            x = torch.cat([x, skips.pop()], 1)
            x = larger(second(first(x, condition), condition))
        return self.final_conv(x).transpose(1, 2)


class Transformer(nn.Module):
    """The causal transformer over [B, T, A], conditions [B, W, C]."""

    def __init__(self, actions, horizon, window, condition, width, layers, heads):
        super().__init__()
        self.width = width
        self.input_emb, self.cond_obs_emb = nn.Linear(actions, width), nn.Linear(condition, width)
        self.pos_emb = nn.Parameter(torch.randn(1, horizon, width))
        self.cond_pos_emb = nn.Parameter(torch.randn(1, 1 + window, width))
        self.encoder = nn.Sequential(
            nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width)
        )
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, layers)
        self.ln_f, self.head = nn.LayerNorm(width), nn.Linear(width, actions)
        rows, columns = torch.arange(horizon)[:, None], torch.arange(1 + window)[None]
        for name, allowed in (
            ("mask", rows >= torch.arange(horizon)[None]),
            ("memory_mask", rows >= columns - 1),
        ):
            table = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))
            self.register_buffer(name, table)

    def forward(self, noisy, steps, condition):
        level = sinusoid(steps, self.width)[:, None]
        seen = torch.cat([level, self.cond_obs_emb(condition)], 1) + self.cond_pos_emb
        rows, memory = self.input_emb(noisy) + self.pos_emb, self.encoder(seen)
        rows = self.decoder(rows, memory, tgt_mask=self.mask, memory_mask=self.memory_mask)
        return self.head(self.ln_f(rows))


def sinusoid(steps, size):
    half = size // 2
    rates = torch.exp(torch.arange(half) * -(torch.log(torch.tensor(1e4)) / (half - 1)))
    angles = steps[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], -1)
