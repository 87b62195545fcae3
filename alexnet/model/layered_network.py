"""A network built from its description, its initial weights drawn as the description says."""

import torch
from torch import Tensor, nn

from alexnet.model.description import Description, Plan, WeightLayer
from alexnet.model.dropout import KeyedDropout
from alexnet.model.errors import ModelError
from alexnet.model.init import InitRule, check_rule, first_bias, std_factor
from alexnet.model.sizes import check_network_options


class LayeredNetwork(nn.Module):
    """The layers of a description, one after the other.

    Weights are drawn from torch's global generator: seed it first.

    Args:
        description: the table, of `alexnet.model.release_networks` and its neighbours.
        num_classes: logits per image.
        image_size: side of the square images, in pixels; none is what the network was made for.
        width: scales maps and hidden units; each tower's share becomes a whole multiple of 8.
        dropout: share of units dropped in training; none is 0.5, or 0 where the network has no
            dropout.
        init: "release" starts as the description says. "fan-in" multiplies each weight std by
            sqrt(full fan-in / own), as `alexnet.model.init.initialise` explains;
            "fan-in-zero-bias" also starts every bias at 0.

    Raises:
        ModelError: an option out of range, or dropout for a network that has none.
    """

    def __init__(
        self,
        description: Description,
        *,
        num_classes: int = 1000,
        image_size: int | None = None,
        width: float = 1.0,
        dropout: float | None = None,
        init: InitRule = "release",
    ) -> None:
        super().__init__()
        image_size = description.image_size if image_size is None else image_size
        dropout = (0.5 if description.drops_out else 0.0) if dropout is None else dropout
        check_network_options(
            num_classes=num_classes,
            image_size=image_size,
            smallest=description.smallest_image(),
            width=width,
            dropout=dropout,
        )
        if dropout and not description.drops_out:
            raise ModelError(f"dropout is {dropout}", "give 0: this network has no dropout")
        check_rule(init)
        self.num_classes = num_classes
        self.image_size = image_size
        plan = Plan(description.towers, num_classes, width, dropout)
        for name, layer, shape in description.named_inputs(image_size, plan):
            self.add_module(name, layer.build(shape, plan))
        self._start(description, plan, init)

    @torch.no_grad()
    def _start(self, description: Description, plan: Plan, init: InitRule) -> None:
        full_plan = Plan(description.towers, 1000, 1.0, 0.0)
        own = description.named_inputs(self.image_size, plan)
        full = description.named_inputs(description.image_size, full_plan)
        for (name, layer, shape), (_, _, full_shape) in zip(own, full, strict=True):
            if not isinstance(layer, WeightLayer):
                continue
            full_fan_in = layer.fan_in(full_shape, full_plan)
            factor = std_factor(init, full_fan_in, layer.fan_in(shape, plan))
            module = self.get_submodule(name)
            module.get_parameter("weight").normal_(std=layer.std * factor)
            module.get_parameter("bias").fill_(first_bias(init, layer.bias))

    def forward(self, images: Tensor, sample_keys: Tensor | None = None) -> Tensor:
        """Return the logits, (batch, num_classes).

        Args:
            images: (batch, 3, image_size, image_size) float32, RGB, on the scale that the
                network's source trains with: 0..255 with the mean subtracted but for alexnet-bn's.
            sample_keys: int64 (batch,); fixes the dropout masks, see `KeyedDropout`.

        Raises:
            ModelError: images of another shape.
        """
        if images.shape[1:] != (3, self.image_size, self.image_size):
            raise ModelError(
                f"images have shape {tuple(images.shape)}",
                f"give (batch, 3, {self.image_size}, {self.image_size})",
            )
        x = images
        for layer in self.children():
            x = layer(x, sample_keys) if isinstance(layer, KeyedDropout) else layer(x)
        return x
