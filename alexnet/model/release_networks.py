"""The 2012 release's networks beside `alexnet-2012`, the paper's text, and two later relatives.

Maps and units are one tower's. A line with two layers reads from left to right.
"""

from typing import Final

from alexnet.model.description import (
    Across,
    Conv,
    Description,
    Dropout,
    Flatten,
    Full,
    PlainBatchNorm,
    Pool,
    Relu,
    Within,
)

_RELU, _POOL, _ACROSS, _WITHIN = Relu(), Pool(), Across(), Within()
_CONV1 = Conv("conv1", 48, 11, stride=4, sees="all")
_CONV2 = Conv("conv2", 128, 5, padding=2, bias=1)
_CONV3 = Conv("conv3", 192, 3, padding=1, std=0.03, sees="all")
_CONV4 = Conv("conv4", 192, 3, padding=1, std=0.03, bias=1)
_CONV5 = Conv("conv5", 128, 3, padding=1, std=0.03, bias=1)

_BLOCK1 = (_CONV1, _ACROSS, _POOL, _RELU)
_BLOCK2 = (_CONV2, _RELU, _ACROSS, _WITHIN, _POOL)
_BLOCKS34 = (_CONV3, _RELU, _CONV4, _RELU)
_BLOCK5 = (_CONV5, _POOL, _RELU)
_HEAD = (
    *(Flatten(), Full("fc6", 2048, bias=1), _RELU, Dropout(6)),
    *(Full("fc7", 2048, bias=1), _RELU, Dropout(7)),
    Full("fc8"),
)

TWO_TOWERS: Final = Description((*_BLOCK1, *_BLOCK2, *_BLOCKS34, *_BLOCK5, *_HEAD), towers=2)
"""Net 145, for comparison: the same as `AlexNet2012`, bit for bit. Source: `layers-145.cfg`."""

ONE_COLUMN: Final = Description(
    (
        *_BLOCK1,
        *_BLOCK2,
        *_BLOCKS34,
        *(Conv("conv5", 256, 3, padding=1, std=0.03, bias=1), _POOL, _RELU),
        *(Flatten(), Full("fc6", 4096, bias=1), _RELU, Dropout(6)),
        *(Full("fc7", 4096, bias=1), _RELU, Dropout(7)),
        Full("fc8"),
    )
)
"""One tower alone; conv5 and what follows as wide as two. Source: `layers-145-half.cfg`."""

PLAIN_POOLING: Final = Description(
    (
        *(_CONV1, _ACROSS, Pool(size=2), _RELU),
        *(Conv("conv2", 128, 5, padding=1, bias=1), _RELU, _ACROSS, _WITHIN, Pool(size=2)),
        *_BLOCKS34,
        *(Conv("conv5", 128, 3, std=0.03, bias=1), Pool(size=2), _RELU),
        *_HEAD,
    ),
    towers=2,
)
"""Pools 2 x 2 that do not overlap; less padding keeps the later sizes. Source: `layers-147.cfg`."""

NO_NORM: Final = Description(
    (
        *(_CONV1, _POOL, _RELU),
        *(_CONV2, _RELU, _POOL),
        *_BLOCKS34,
        *_BLOCK5,
        *_HEAD,
    ),
    towers=2,
)
"""None of the three norms. Source: `layers-148.cfg`."""

CONV5_NORM: Final = Description(
    (*_BLOCK1, *_BLOCK2, *_BLOCKS34, *(_CONV5, _ACROSS, _POOL, _RELU), *_HEAD), towers=2
)
"""A norm across maps after conv5 too. Source: `layers-149.cfg`."""

NO_COMMUNICATION: Final = Description(
    (
        *_BLOCK1,
        *(Conv("conv2", 160, 5, padding=2, bias=1), _RELU, _ACROSS, _WITHIN, _POOL),
        *(Conv("conv3", 192, 3, padding=1, std=0.03), _RELU, _CONV4, _RELU),
        *_BLOCK5,
        *(Flatten(), Full("fc6", 4096, bias=1, sees="own"), _RELU, Dropout(6)),
        *(Full("fc7", 2048, bias=1, sees="own"), _RELU, Dropout(7)),
        Full("fc8"),
    ),
    towers=2,
)
"""Towers that meet in fc8 only; conv2 and fc6 wider instead. Source: `layers-150.cfg`."""

NORM_BEFORE_RELU: Final = Description(
    (*_BLOCK1, *(_CONV2, _ACROSS, _WITHIN, _POOL, _RELU), *_BLOCKS34, *_BLOCK5, *_HEAD), towers=2
)
"""Block 2 normalises signed responses, as block 1 does. Source: `layers-166.cfg`."""

NO_BLOCK2_NORM: Final = Description(
    (*_BLOCK1, *(_CONV2, _RELU, _POOL), *_BLOCKS34, *_BLOCK5, *_HEAD), towers=2
)
"""Both norms of block 2 left out. Source: `layers-167.cfg`."""

SIX_CONVS: Final = Description(
    (
        *_BLOCK1,
        *_BLOCK2,
        *_BLOCKS34,
        *_BLOCK5,
        *(Conv("conv6", 128, 3, padding=1, std=0.03, bias=1, sees="all"), _RELU),
        *_HEAD,
    ),
    towers=2,
)
"""A sixth convolution, on the last pool and both towers. Source: `layers-146-*.cfg`."""

_PAPER_NORM = Across(scale=5e-4)

PAPER: Final = Description(
    (
        *(_CONV1, _RELU, _PAPER_NORM, _POOL),
        *(_CONV2, _RELU, _PAPER_NORM, _POOL),
        *(Conv("conv3", 192, 3, padding=1, sees="all"), _RELU),
        *(Conv("conv4", 192, 3, padding=1, bias=1), _RELU),
        *(Conv("conv5", 128, 3, padding=1, bias=1), _RELU, _POOL),
        *_HEAD,
    ),
    towers=2,
)
"""The paper's text where the release differs: the ReLU before each norm, the norm's alpha of 1e-4
not divided by the window, one norm in block 2, and 0.01 in every layer.

The text does not say how 224 pixels give 55 (here as in the release), nor whether a norm's window
crosses from tower to tower (here not). Source: Krizhevsky, Sutskever, Hinton 2012, sections 3.3 to
3.5 and 5.
"""

ONE_TOWER: Final = Description(
    (
        *(Conv("conv1", 64, 11, stride=4), _ACROSS, _POOL, _RELU),
        *(Conv("conv2", 192, 5, padding=2, bias=1), _RELU, _ACROSS, _POOL),
        *(Conv("conv3", 384, 3, padding=1, std=0.03), _RELU),
        *(Conv("conv4", 256, 3, padding=1, std=0.03, bias=1), _RELU),
        *(Conv("conv5", 256, 3, padding=1, std=0.03, bias=1), _POOL, _RELU),
        *(Flatten(), Full("fc6", 4096, bias=1), _RELU, Dropout(6)),
        *(Full("fc7", 4096, bias=1), _RELU, Dropout(7)),
        # A relic of logistic outputs; softmax does not see it.
        Full("fc8", bias=-7),
    )
)
"""The one-tower network of "One weird trick". Source: cuda-convnet2,
`layers-imagenet-1gpu.cfg`; arXiv 1404.5997."""

_BATCH_NORM = PlainBatchNorm()

BATCH_NORM_LAST: Final = Description(
    (
        *(Conv("conv1", 48, 11, stride=4, bias=0.01, sees="all", overhang=False),),
        *(_RELU, _POOL, _BATCH_NORM),
        *(Conv("conv2", 128, 5, padding=2, bias=0.01), _RELU, _POOL, _BATCH_NORM),
        *(Conv("conv3", 192, 3, padding=1, bias=0.01, sees="all"), _RELU, _BATCH_NORM),
        *(Conv("conv4", 192, 3, padding=1, bias=0.01), _RELU, _BATCH_NORM),
        *(Conv("conv5", 128, 3, padding=1, bias=0.01), _RELU, _POOL),
        *(Flatten(), Full("fc6", 2048, std=0.005, bias=0.1), _RELU, Dropout(6, inverted=True)),
        *(Full("fc7", 2048, std=0.005, bias=0.1), _RELU, Dropout(7, inverted=True)),
        Full("fc8", bias=0.01),
    ),
    towers=2,
    image_size=227,
)
"""Batch norm without scale and shift at the end of blocks 1 to 4: what the LARS solvers of NVIDIA's
Caffe name. Takes pixels less their mean, divided by 256. Source: its
`models/alexnet_bn/train_val2.prototxt`."""
