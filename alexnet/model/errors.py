"""What a network refuses.

    ValueError
    └── ModelError    an unknown network or option, or a value or shape that cannot work

Every one is a `ModelError`; there is no need yet to tell them apart by class.
"""


class ModelError(ValueError):
    """A network, layer or input that cannot work: says what is wrong, and what to do next.

    A plain ValueError rather than one of `infra`'s, which the networks may not import; `problem`
    and `remedy` are there for whoever translates it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"
