"""What every network must do, preset by preset; the large ones at a smaller width."""

import io
import re
from dataclasses import replace

import pytest
import torch

from phantomscope.engine.networks import (
    PRESETS,
    build_network,
    count_parameters,
    preset_spec,
)
from phantomscope.engine.residual_unet import WindowSpec
from phantomscope.errors import PhantomscopeError


def slim(preset, dims=2, **options):
    """Return the spec of a preset, with fewer levels and channels where it is large."""
    spec = preset_spec(preset, dims, **options)
    if preset.startswith("iddpm"):
        return replace(
            spec, width=16, multipliers=spec.multipliers[-3:], attention_levels=(1, 2)
        )
    if preset == "resshift":
        windows = WindowSpec(width=24, heads=3, window=4, depth=2)
        return replace(
            spec,
            width=16,
            multipliers=(1, 2),
            blocks=1,
            attention_levels=(1,),
            windows=windows,
        )
    return spec


def awake(spec, seed=0):
    """Build a network whose zeros, which would silence it, are small numbers."""
    network = build_network(spec, seed)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.05, generator=rng)
    return network.eval()


def image(spec, count=2, factor=2, seed=1):
    rng = torch.Generator().manual_seed(seed)
    side = spec.stride
    if spec.norm in ("instance", "group"):  # they need pixels at the coarsest level
        side = 32 if spec.dims == 2 else 16
    size = [factor * side, side, 2 * side][: spec.dims]
    return torch.randn(count, spec.inputs, *size, generator=rng)


T = torch.tensor([3, 700])
# One of each kind: `small` is `eschweiler` at half its width.
KINDS = ("small", "iddpm", "resshift", "noise2noise", "cellpose3d")
ALL = [
    *((preset, 2) for preset in KINDS),
    *((preset, 3) for preset in ("small", "iddpm", "resshift", "cellpose3d")),
]
every_network = pytest.mark.parametrize(("preset", "dims"), ALL)


@pytest.mark.parametrize(
    ("preset", "options", "count"),
    [
        ("iddpm", {}, 8_913_793),
        ("iddpm", {"norm": "channel"}, 8_913_793),
        ("iddpm", {"channels": 3}, 8_916_099),
        ("iddpm_upstream", {}, 20_971_521),
        ("resshift", {"channels": 5, "conditions": 5}, 112_630_505),
        ("resshift", {"channels": 7, "conditions": 7}, 112_639_147),
        # Two Swin layers of the finest level (954,220 each) fewer than 118,593,583.
        ("resshift_latent", {"channels": 3, "conditions": 3}, 116_685_143),
        ("noise2noise", {}, 988_609),
        ("noise2noise", {"channels": 3}, 991_203),
        ("cellpose3d", {"dims": 3}, 1_980_980),
        ("eschweiler", {"noise_channel": True}, 899_409),
        ("eschweiler", {"noise_channel": True, "dims": 3}, 2_318_961),
    ],
)
def test_golden_counts(preset, options, count):
    with torch.device("meta"):
        assert count_parameters(build_network(preset_spec(preset, **options), 0)) == (
            count
        )


def test_golden_count_of_the_swin_network_for_latents():
    """ResShift's own network, for 64 px, has Swin layers in all levels: 118.6 M."""
    spec = preset_spec("resshift", channels=3, conditions=3)
    with torch.device("meta"):
        network = build_network(replace(spec, attention_levels=(0, 1, 2, 3)), 0)
    assert count_parameters(network) == 118_593_583


@pytest.mark.parametrize(
    ("preset", "stride"),
    [("small", 8), ("iddpm", 32), ("resshift", 64), ("noise2noise", 32)],
)
def test_stride(preset, stride):
    assert preset_spec(preset).stride == stride


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("preset", PRESETS)
def test_whole_network_at_its_smallest_size(preset, dims):
    spec = preset_spec(preset, dims, channels=2, conditions=1, norm="channel")
    size = (spec.stride,) * dims
    with torch.device("meta"):  # shapes without arithmetic
        network = build_network(spec, 0)
        y = network(torch.empty(1, 3, *size), torch.empty(1))
    assert y.shape == (1, spec.outputs, *size)


@every_network
def test_output_has_the_size_of_the_input(preset, dims):
    spec = slim(preset, dims)
    network = build_network(spec, 0)
    for factor in (2, 3):
        x = image(spec, factor=factor)
        with torch.inference_mode():
            assert network(x, T).shape == (2, spec.outputs, *x.shape[2:])


@every_network
def test_gradient_reaches_every_parameter(preset, dims):
    # With statistics per channel, offsets before a norm would rightly have none.
    spec = slim(preset, dims, norm="channel")
    network = awake(spec).train()
    y = network(image(spec), T)
    (y * torch.randn_like(y)).sum().backward()
    silent = [
        name
        for name, p in network.named_parameters()
        if p.grad is None or not p.grad.abs().max() > 1e-5
    ]
    assert silent == []


@every_network
def test_weights_depend_on_the_seed_alone(preset, dims):
    spec = slim(preset, dims)
    states = []
    for outer, seed in ((5, 1), (6, 1), (6, 2)):
        torch.manual_seed(outer)
        states.append(build_network(spec, seed).state_dict())
    a, b, c = states
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


@every_network
def test_items_of_a_batch_do_not_see_each_other(preset, dims):
    spec = slim(preset, dims)
    network, x = awake(spec), image(spec)
    other = torch.stack([x[0], image(spec, seed=9)[0]])
    with torch.inference_mode():
        both = network(x, T)
        torch.testing.assert_close(network(other, T)[0], both[0])
        # Another size of batch may take another kernel, which rounds otherwise.
        alone = network(x[:1], T[:1])
        torch.testing.assert_close(alone, both[:1], rtol=1e-3, atol=1e-4)
        assert not torch.allclose(network(other, T)[1], both[1])


@every_network
def test_bf16_stays_close(preset, dims):
    spec = slim(preset, dims)
    network, x = awake(spec), image(spec)
    with torch.inference_mode():
        exact = network(x, T)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(x, T).float()
    assert rounded.isfinite().all()
    # 8 bits of mantissa, some tens of layers.
    error = (rounded - exact).norm() / exact.norm()
    assert 0 < error < 0.1


@pytest.mark.parametrize("preset", KINDS)
def test_channels_last_gives_the_same(preset):
    spec = slim(preset)
    network, x = awake(spec), image(spec)
    with torch.inference_mode():
        expected = network(x, T)
        network = network.to(memory_format=torch.channels_last)
        y = network(x.contiguous(memory_format=torch.channels_last), T)
    torch.testing.assert_close(y, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("preset", KINDS)
def test_state_is_plain_tensors(preset):
    spec = slim(preset)
    network, stream = awake(spec), io.BytesIO()
    torch.save(network.state_dict(), stream)
    stream.seek(0)
    copy = build_network(spec, 1).eval()
    copy.load_state_dict(torch.load(stream, weights_only=True))
    x = image(spec)
    with torch.inference_mode():
        assert torch.equal(copy(x, T), network(x, T))


@pytest.mark.parametrize("preset", KINDS)
def test_condition_is_more_input_channels(preset):
    spec = slim(preset, channels=2, conditions=1, noise_channel=True)
    network, x = awake(spec), image(spec)
    assert spec.inputs == 4
    with torch.inference_mode():
        y = network(x[:, :3], T, x[:, 3:])
        assert torch.equal(y, network(x, T))
        assert not torch.allclose(y, network(x[:, :3], T, 1 + x[:, 3:]))


@pytest.mark.parametrize("preset", KINDS)
def test_time_matters_where_there_is_one(preset):
    spec = slim(preset)
    network, x = awake(spec), image(spec)
    with torch.inference_mode():
        same = torch.allclose(network(x, T), network(x, T.flip(0)))
        assert same == (spec.time_channels == 0)
        if same:
            assert torch.equal(network(x), network(x, T))
        else:
            with pytest.raises(PhantomscopeError, match="needs a time"):
                network(x)


def test_rescaled_times_depend_on_the_share_of_the_chain():
    short, long = (awake(slim("iddpm", timesteps=n)) for n in (1000, 2000))
    x = image(short.spec)
    with torch.inference_mode():
        assert torch.equal(short(x, T), long(x, 2 * T))
    assert slim("resshift", timesteps=15).time_scale == 1


@pytest.mark.parametrize(
    ("preset", "norm"),
    [
        ("small", "channel"),
        ("iddpm", "channel"),
        ("resshift", "channel"),
        ("resshift", "none"),
        ("noise2noise", "none"),
        ("cellpose3d", "none"),
    ],
)
def test_shift_by_the_stride_shifts_the_output(preset, norm):
    """Without norms that see the whole image, and away from its edges."""
    spec = slim(preset, norm=norm)
    if preset == "noise2noise":  # it sees far, which takes a large image
        narrow = {"encoder": [(8, 8), *[(8,)] * 5], "decoder": [(8, 8)] * 5}
        spec = replace(spec, **narrow)
    if preset == "iddpm":  # attention between all pixels sees the edges
        spec = replace(spec, attention_levels=())
    network = awake(spec)
    if preset == "iddpm":
        network.middle[0].attention = torch.nn.Identity()
    side = 352 if preset == "noise2noise" else 192
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, spec.inputs, side, side, generator=rng)
    by = (spec.stride, -spec.stride)
    with torch.inference_mode():
        y, moved = network(x, T[:1]), network(x.roll(by, (2, 3)), T[:1])
        wrong = network(x.roll(1, 2), T[:1]).roll(-1, 2)
    middle = (..., *[slice(side // 2 - 8, side // 2 + 8)] * 2)
    y, moved, wrong = (
        y[middle],
        moved.roll([-b for b in by], (2, 3))[middle],
        wrong[middle],
    )
    spread = y.std((2, 3), keepdim=True)
    assert ((moved - y) / spread).abs().max() < 0.01
    # One pixel is no multiple of the stride.
    assert ((wrong - y) / spread).abs().max() > 0.1


def test_fresh_iddpm_predicts_zero_and_resshift_does_not():
    for preset, zero in (("iddpm", True), ("resshift", False)):
        spec = slim(preset)
        y = build_network(spec, 0)(image(spec), T)
        assert bool((y == 0).all()) == zero


def test_xavier_weights_of_noise2noise():
    weights = build_network(preset_spec("noise2noise"), 0).state_dict()
    first = weights["down_blocks.1.0.weight"]
    # Glorot & Bengio 2010: variance 2 / (fan in + fan out), here 48 x 9 each.
    assert float(first.std()) == pytest.approx((2 / (48 * 9 * 2)) ** 0.5, rel=0.03)
    assert all(not p.any() for name, p in weights.items() if name.endswith("bias"))


def test_order_of_norm_and_activation():
    def layers(preset, path):
        network = build_network(preset_spec(preset), 0)
        return [type(layer).__name__ for layer in network.get_submodule(path)]

    conv, norm, none = "Conv2d", "InstanceNorm2d", "Identity"
    after, before = [conv, "PReLU", norm], [conv, norm, "LeakyReLU"]
    for path in ("down_blocks.0", "up_blocks.2", "head.0"):
        assert layers("eschweiler", path) == after * 2
    assert layers("eschweiler", "downs.0") == after
    assert layers("eschweiler", "ups.0") == [*after, "PixelShuffle"]
    for path in ("down_blocks.1", "up_blocks.2", "head.0"):
        assert layers("cellpose3d", path) == before * 2
    assert layers("cellpose3d", "down_blocks.0") == [conv, none, "LeakyReLU"] * 2
    assert layers("cellpose3d", "downs.0") == [conv, none, "LeakyReLU"]
    assert layers("cellpose3d", "ups.0") == ["ConvTranspose2d", *before[1:], *before]
    assert layers("noise2noise", "down_blocks.1") == [conv, "LeakyReLU", none]


def test_cellpose3d_squashes_and_gives_a_flow_per_axis():
    for dims in (2, 3):
        spec = preset_spec("cellpose3d", dims)
        y = build_network(spec, 0)(image(spec, count=1) * 1e3)
        assert y.shape[1] == 1 + dims
        assert y.abs().max() <= 1


@every_network
def test_sizes_that_do_not_fit_are_refused(preset, dims):
    spec = slim(preset, dims)
    network, x = build_network(spec, 0), image(spec)
    with pytest.raises(PhantomscopeError, match=f"multiples of {spec.stride}"):
        network(x[..., : spec.stride // 2], T)
    with pytest.raises(PhantomscopeError, match=f"{spec.inputs} channels in {dims}D"):
        network(torch.cat([x, x], dim=1), T)
    with pytest.raises(PhantomscopeError, match="do not fit"):
        network(x[..., :0], T)


def test_one_pixel_has_no_instance_statistics():
    for preset in ("small", "cellpose3d"):
        spec = preset_spec(preset, norm="instance")
        with pytest.raises(PhantomscopeError, match="nothing to normalise"):
            build_network(spec, 0)(torch.zeros(1, 1, 8, 8), T[:1])


def test_unknown_presets_are_refused():
    with pytest.raises(PhantomscopeError, match=re.escape("no network `resnet`")):
        preset_spec("resnet")
