"""What inference cannot use, of the error tree.

DataError                  3
└── InputRejected              an image to predict cannot be decoded; says which row
"""

from infra.errors import DataError


class InputRejected(DataError):
    """An image that was given to predict cannot be used."""
