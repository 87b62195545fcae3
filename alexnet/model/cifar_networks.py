"""The small networks for CIFAR-10 that came with cuda-convnet; all biases start at 0, no dropout.

Pools are 3 x 3 with stride 2 and may overhang. Images are RGB in 0..255 with the mean subtracted.
Source: `example-layers/layers-<name>.cfg` and `layers-conv-local-<name>.cfg` of cuda-convnet.
"""

from typing import Final

from alexnet.model.description import (
    Across,
    Conv,
    Description,
    Flatten,
    Full,
    Local,
    Pool,
    Relu,
    Within,
)

_RELU, _MAX, _AVG = Relu(), Pool("max"), Pool("avg")
_WITHIN = Within(size=3, scale=5e-5)
_ACROSS = Across(size=9, scale=1e-3, constant=1)
_CONV1_OF_32 = Conv("conv1", 32, 5, padding=2, std=1e-4)
_CONV2_OF_32 = Conv("conv2", 32, 5, padding=2)
_CONV3_OF_64 = Conv("conv3", 64, 5, padding=2)
_CONV1_OF_64 = Conv("conv1", 64, 5, padding=2, std=1e-4)
_CONV2_OF_64 = Conv("conv2", 64, 5, padding=2)

CIFAR_18PCT: Final = Description(
    (
        *(_CONV1_OF_32, _MAX, _RELU, _WITHIN),
        *(_CONV2_OF_32, _RELU, _AVG, _WITHIN),
        *(_CONV3_OF_64, _RELU, _AVG),
        *(Flatten(), Full("fc10")),
    ),
    image_size=32,
)
"""18 % error; three convolutions, norms within maps."""

CIFAR_80SEC: Final = Description(
    (
        *(_CONV1_OF_32, _MAX, _RELU),
        *(_CONV2_OF_32, _RELU, _AVG),
        *(_CONV3_OF_64, _RELU, _AVG),
        *(Flatten(), Full("fc64", 64, std=0.1), _RELU, Full("fc10", std=0.1)),
    ),
    image_size=32,
)
"""26 % error in 80 seconds of 2011; 18pct without norms, with a hidden layer."""

CIFAR_13PCT: Final = Description(
    (
        *(_CONV1_OF_64, _RELU, _MAX),
        *(_CONV2_OF_64, _RELU, _MAX),
        *(Local("local3", 32, 3, padding=1, std=0.04), _RELU),
        *(Local("local4", 32, 3, padding=1, std=0.04), _RELU),
        *(Flatten(), Full("fc10")),
    ),
    image_size=32,
)
"""13 % error; two locally connected layers, no norms. Also meant for crops of 24."""

CIFAR_11PCT: Final = Description(
    (
        *(_CONV1_OF_64, _RELU, _MAX, _ACROSS),
        *(_CONV2_OF_64, _RELU, _ACROSS, _MAX),
        *(Local("local3", 64, 3, padding=1, std=0.04), _RELU),
        *(Local("local4", 32, 3, padding=1, std=0.04), _RELU),
        *(Flatten(), Full("fc10")),
    ),
    image_size=24,
)
"""11 % error on crops of 24 and nine views; two locally connected layers, norms across maps."""
