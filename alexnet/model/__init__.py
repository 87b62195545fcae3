"""The networks: images and sample keys in, logits out. No files, clocks or network connections."""

from alexnet.model.alexnet_2012 import AlexNet2012
from alexnet.model.alexnet_bn import AlexNetBn, BatchNormVariant
from alexnet.model.alexnet_torchvision import AlexNetTorchvision
from alexnet.model.dropout import KeyedDropout
from alexnet.model.errors import ModelError
from alexnet.model.global_batch_norm import GlobalBatchNorm
from alexnet.model.init import InitRule
from alexnet.model.layered_network import LayeredNetwork
from alexnet.model.local_response_norm import (
    LocalResponseNorm,
    SameMapNorm,
    local_response_norm,
    same_map_norm,
)
from alexnet.model.own_layers import LocallyConnected, TowerLinear
from alexnet.model.registry import Network, create_model, list_models

__all__ = [
    "AlexNet2012",
    "AlexNetBn",
    "AlexNetTorchvision",
    "BatchNormVariant",
    "GlobalBatchNorm",
    "InitRule",
    "KeyedDropout",
    "LayeredNetwork",
    "LocalResponseNorm",
    "LocallyConnected",
    "ModelError",
    "Network",
    "SameMapNorm",
    "TowerLinear",
    "create_model",
    "list_models",
    "local_response_norm",
    "same_map_norm",
]
