"""Runs of an ablation as tests of several folders make them up."""

from alexnet.receipt.measured import Errors, Run


def a_run(element: str, seed: int, wrong: int, wrong_ten: int = 0, *, count: int = 500) -> Run:
    """One of so many images, with so many errors of the centre view and over ten crops."""
    return Run(
        element=element,
        seed=seed,
        settings=(f"train.seed={seed}",),
        recipe_digest="ab" * 32,
        weights_sha256="1" * 64,
        steps=1106,
        count=count,
        center=Errors(wrong1=wrong, wrong5=9, loss=1.0),
        ten_crop=Errors(wrong1=wrong_ten, wrong5=8, loss=1.0),
    )
