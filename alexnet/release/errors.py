"""The release's branch of the error tree.

ServiceError               4
├── ModelNotServable           what MLflow stored does not answer as evaluation did
└── TrackingError
    └── ChampionMoved          the champion is another one than the gate judged against
"""

from infra.errors import ServiceError, TrackingError


class ModelNotServable(ServiceError):
    """A model, loaded in a fresh process, fails or answers other than its evaluation."""


class ChampionMoved(TrackingError):
    """The registry's champion is not the one the verdict is about: judge again."""
