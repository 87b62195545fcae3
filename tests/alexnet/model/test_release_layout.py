import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from alexnet.model import ModelError, create_model
from alexnet.model.release_layout import ReleaseLayer, from_release, to_release

# Section 2.1 of the specification, and the sizes that follow: inputs and outputs of each matrix.
SHAPES = {
    **{f"conv1{t}": [(363, 48)] for t in "ab"},
    **{f"conv2{t}": [(1200, 128)] for t in "ab"},
    **{f"conv3{t}": [(1152, 192)] * 2 for t in "ab"},
    **{f"conv4{t}": [(1728, 192)] for t in "ab"},
    **{f"conv5{t}": [(1728, 128)] for t in "ab"},
    **{f"fc2048{t}": [(4608, 2048)] * 2 for t in "ab"},
    **{f"fc2048b{t}": [(2048, 2048)] * 2 for t in "ab"},
    "fc1000": [(2048, 1000)] * 2,
}


def network(name: str = "alexnet-2012", **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    made = create_model(name, 10, image_size=64, width=0.1, **options).eval()
    for key, value in made.state_dict().items():
        value.normal_(std=0.1 if key.endswith("bias") else 1 / math.sqrt(value[0].numel()))
    return made


def test_the_matrices_at_full_size_are_the_releases() -> None:
    # Repeated zeros: shapes without their memory.
    with torch.device("meta"):
        full = create_model("alexnet-2012").state_dict()
    layers = to_release({key: torch.zeros(1).expand(value.shape) for key, value in full.items()})
    assert {key: [matrix.shape for matrix in layer.weights] for key, layer in layers.items()} == (
        SHAPES
    )
    for name, layer in layers.items():
        assert layer.biases.shape == (SHAPES[name][0][1],)
    count = sum(m.size for layer in layers.values() for m in (*layer.weights, layer.biases))
    assert count == 60_965_224


def test_there_and_back_changes_nothing() -> None:
    state = network().state_dict()
    back = from_release(to_release(state), network().state_dict())
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_what_comes_out_is_a_copy() -> None:
    state = network().state_dict()
    before = state["fc8.weight"].clone()
    layers = to_release(state)
    layers["fc1000"].weights[0][:] = 0
    layers["fc1000"].biases[:] = 0
    assert torch.equal(state["fc8.weight"], before)
    from_release(layers, state)
    assert torch.equal(state["fc8.weight"], before)


Maps = npt.NDArray[np.float64]


def convolve(layer: ReleaseLayer, inputs: list[Maps], pad: int, stride: int = 1) -> Maps:
    """As the release computes: rows of the input times the matrices, summed over inputs."""
    window = math.isqrt(len(layer.weights[0]) // inputs[0].shape[0])
    total: Any = 0
    for maps, matrix in zip(inputs, layer.weights, strict=True):
        right = pad + 3 if stride > 1 else pad
        x = np.pad(maps, ((0, 0), (pad, right), (pad, right)))
        size = (x.shape[1] - window) // stride + 1
        rows = [
            x[:, r * stride : r * stride + window, c * stride : c * stride + window].reshape(-1)
            for r, c in np.ndindex(size, size)
        ]
        total = total + (np.stack(rows) @ matrix).T.reshape(-1, size, size)
    return total + layer.biases[:, None, None]


def norm_across(a: Maps) -> Maps:
    squares = np.pad(a * a, ((2, 2), (0, 0), (0, 0)))
    return a * (2 + 2e-5 * sum(squares[i : i + len(a)] for i in range(5))) ** -0.75


def norm_within(a: Maps) -> Maps:
    side = a.shape[1]
    squares = np.pad(a * a, ((0, 0), (2, 2), (2, 2)))
    total = sum(squares[:, y : y + side, x : x + side] for y, x in np.ndindex(5, 5))
    return a * (1 + 4e-5 * total) ** -0.75


def pool(a: Maps) -> Maps:
    size = 1 + math.ceil((a.shape[1] - 3) / 2)
    out = np.zeros((len(a), size, size))
    for r, c in np.ndindex(size, size):
        out[:, r, c] = a[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].max((1, 2))
    return out


def connect(layer: ReleaseLayer, inputs: list[Maps]) -> Maps:
    sums = [x.reshape(-1) @ m for x, m in zip(inputs, layer.weights, strict=True)]
    return np.add.reduce(sums) + layer.biases


def relu(a: Maps) -> Maps:
    return np.maximum(a, 0)


def test_the_matrices_compute_in_numpy_what_the_network_does() -> None:
    """Section 2.1's table, layer for layer, with the two towers and their inputs in its order."""
    torchs = network()
    layers = {
        name: ReleaseLayer(tuple(w.astype(float) for w in x.weights), x.biases.astype(float))
        for name, x in to_release(torchs.state_dict()).items()
    }
    image = np.random.default_rng(0).normal(0, 60, (3, 64, 64))
    pooled = {}
    for t in "ab":
        x = relu(pool(norm_across(convolve(layers[f"conv1{t}"], [image], 0, stride=4))))
        x = norm_within(norm_across(relu(convolve(layers[f"conv2{t}"], [x], 2))))
        pooled[t] = pool(x)
    last = {}
    for t in "ab":
        x = relu(convolve(layers[f"conv3{t}"], [pooled["a"], pooled["b"]], 1))
        x = relu(convolve(layers[f"conv4{t}"], [x], 1))
        last[t] = relu(pool(convolve(layers[f"conv5{t}"], [x], 1)))
    both = [last["a"], last["b"]]
    a, b = (0.5 * relu(connect(layers[f"fc2048{t}"], both)) for t in "ab")
    seven = [
        0.5 * relu(connect(layers["fc2048ba"], [a, b])),
        0.5 * relu(connect(layers["fc2048bb"], [b, a])),
    ]
    expected = connect(layers["fc1000"], seven)
    with torch.no_grad():
        logits = torchs.double()(torch.from_numpy(image)[None])[0].numpy()
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(logits, expected, rtol=1e-8, atol=1e-10)


def test_other_networks_with_the_same_layers_convert() -> None:
    for name in ("alexnet-paper", "alexnet-2012-no-norm", "alexnet-2012-plain-pooling"):
        state = network(name).state_dict()
        back = from_release(to_release(state), network(name).state_dict())
        assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alexnet-2012-one-column", "conv2 sees 8 maps of conv1"),
        ("alexnet-one-tower", "conv2 sees 8 maps of conv1"),
        ("alexnet-2012-no-communication", "conv3 sees 16 maps of conv2"),
        ("alexnet-2012-six-convs", r"missing or unknown: conv6\.bias, conv6\.weight"),
    ],
)
def test_networks_with_other_layers_or_towers_are_refused(name: str, message: str) -> None:
    state = network(name).state_dict()
    with pytest.raises(ModelError, match=message):
        to_release(state)
    with pytest.raises(ModelError, match=message):
        from_release(to_release(network().state_dict()), state)


def test_matrices_that_do_not_fit_are_refused_and_biases_may_have_any_shape() -> None:
    state = network().state_dict()
    layers = to_release(state)
    shaped = {n: ReleaseLayer(x.weights, x.biases[:, None]) for n, x in layers.items()}
    back = from_release(shaped, state)
    assert all(torch.equal(back[name], state[name]) for name in state)
    conv3 = layers["conv3a"]
    for wrong, message in [
        (ReleaseLayer(conv3.weights[:1], conv3.biases), "conv3a has 1 matrices; give 2"),
        (ReleaseLayer((conv3.weights[0], conv3.weights[1].T), conv3.biases), "matrix of conv3a"),
        (ReleaseLayer(conv3.weights, conv3.biases[1:]), "biases; give"),
    ]:
        with pytest.raises(ModelError, match=message):
            from_release({**layers, "conv3a": wrong}, state)
    del layers["fc2048bb"]
    with pytest.raises(ModelError, match="there is no layer fc2048bb"):
        from_release(layers, state)
