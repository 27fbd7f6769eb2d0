"""Golden parameter counts, shapes and equivariances of the networks."""

import hashlib

import pytest
import torch

from phantomscope.config.diffusion import Network
from phantomscope.engine.networks import (
    ChannelNorm,
    PixelShuffle,
    count_parameters,
    make_network,
    network_spec,
    time_embedding,
)
from phantomscope.errors import PhantomscopeError

REFERENCE = Network(preset="eschweiler", norm="instance", noise_channel=True)


@pytest.mark.parametrize(("dims", "count"), [(2, 899_409), (3, 2_318_961)])
def test_golden_count_of_the_eschweiler_network(dims, count):
    assert count_parameters(make_network(REFERENCE, 0, dims)) == count


def digest(network):
    content = hashlib.sha256()
    for name, value in network.state_dict().items():
        content.update(f"{name}{tuple(value.shape)}".encode())
        content.update(value.contiguous().numpy().tobytes())
    return content.hexdigest()[:16]


@pytest.mark.parametrize(
    ("preset", "dims", "noise_channel", "expected"),
    [
        ("eschweiler", 2, False, "28cca3eaf59198d7"),
        ("eschweiler", 2, True, "daad10b1bcfceb12"),
        ("eschweiler", 3, True, "51c458778d0426ae"),
        ("small", 2, False, "3f8d1f1a128d4cdb"),
        ("small", 2, True, "a36ded975b88cb36"),
        ("small", 3, False, "df521aac894c3685"),
    ],
)
def test_names_and_first_weights_are_those_of_stored_models(
    preset, dims, noise_channel, expected
):
    config = Network(preset=preset, noise_channel=noise_channel)
    assert digest(make_network(config, 7, dims)) == expected


def test_norm_has_no_weights_and_the_noise_channel_has_72():
    channel = REFERENCE.model_copy(update={"norm": "channel"})
    assert count_parameters(make_network(channel, 0)) == 899_409
    single = REFERENCE.model_copy(update={"noise_channel": False})
    assert count_parameters(make_network(single, 0)) == 899_409 - 72


def test_only_two_and_three_dimensions():
    with pytest.raises(PhantomscopeError, match="2 or 3 dimensions, not 4"):
        make_network(REFERENCE, 0, 4)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("norm", ["channel", "instance", "none"])
def test_output_has_the_size_of_the_input(dims, norm):
    config = Network(preset="small", norm=norm)
    network = make_network(config, 0, dims)
    x = torch.randn(2, 1, *(16, 24, 8)[:dims])
    assert network(x, torch.tensor([3, 700])).shape == x.shape


def test_weights_depend_on_the_seed_alone():
    config = Network(preset="small")
    torch.manual_seed(5)
    a = make_network(config, 1).state_dict()
    torch.manual_seed(6)
    b = make_network(config, 1).state_dict()
    c = make_network(config, 2).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


def test_time_changes_the_output():
    network = make_network(Network(preset="small"), 0)
    x = torch.randn(1, 1, 16, 16)
    early, late = network(x, torch.tensor([10])), network(x, torch.tensor([900]))
    assert not torch.allclose(early, late)


def test_pixel_shuffle_is_torch_in_2d_and_inverts_blocks_in_3d():
    x = torch.randn(2, 8, 3, 5)
    torch.testing.assert_close(
        PixelShuffle(2)(x), torch.nn.functional.pixel_shuffle(x, 2)
    )
    y = PixelShuffle(3)(torch.arange(8.0).reshape(1, 8, 1, 1, 1))
    assert y.shape == (1, 1, 2, 2, 2)
    torch.testing.assert_close(y.flatten(), torch.arange(8.0))


def test_channel_norm_is_the_same_for_any_tile():
    network = make_network(Network(preset="small", norm="channel"), 0).eval()
    x = torch.randn(1, 1, 256, 256)
    t = torch.tensor([300])
    with torch.no_grad():
        whole = network(x, t)
        part = network(x[..., 64:192, 64:192], t)
    middle = (part - whole[..., 64:192, 64:192])[..., 60:68, 60:68]
    assert middle.abs().max() < 1e-5


def test_channel_norm_normalises_each_pixel():
    y = ChannelNorm()(torch.randn(2, 16, 5, 7) * 9 + 4)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 5, 7), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(1, False), torch.ones(2, 5, 7), atol=1e-3, rtol=0)


def test_time_embedding_holds_sines_then_cosines():
    e = time_embedding(torch.tensor([0, 5]), 128)
    assert e.shape == (2, 128)
    torch.testing.assert_close(e[0], torch.cat([torch.zeros(64), torch.ones(64)]))
    assert e[1, 0] == pytest.approx(0.9589243 * -1)  # sin 5
    assert e[1, 127] == pytest.approx(1.0, abs=1e-6)  # cos(5 / 10000)


def test_stride_is_that_of_three_levels():
    assert network_spec(Network()).stride == 8
