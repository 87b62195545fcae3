"""AlexNet: the networks, and how they learn, are judged and released.

The names below load on first use, so that `import alexnet.counter_rng` needs no torch.
"""

from typing import TYPE_CHECKING

__all__ = ["create_model", "list_models"]

if TYPE_CHECKING:
    from alexnet.model import create_model, list_models
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from alexnet import model

        return getattr(model, name)


def __dir__() -> list[str]:
    return __all__
