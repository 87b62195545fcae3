"""`alexnet prepare --repair`: as prepare, but what is committed is verified first, and mended."""

from pipelines.context import Context
from pipelines.steps.prepare import Dataset, PrepareStep
from preprocessing.care.verify import verify_dataset
from preprocessing.dataset.manifest import read_manifest
from preprocessing.prepare import repair_dataset


class RepairStep(PrepareStep):
    """Archives or a folder → a dataset of which every byte was checked."""

    def __init__(self, context: Context, *, deep: bool) -> None:
        super().__init__(context)
        self._deep = deep
        self.repaired: list[str] = []
        """Paths of the objects that were made anew."""

    def find(self) -> Dataset | None:
        """Find nothing: whether a dataset holds is only known when it was verified."""
        return None

    def make(self) -> Dataset:
        """Verify and mend what is committed, or render and commit."""
        store, prepare = self.folder(), self.context.recipe.prepare
        manifest = read_manifest(store)
        if manifest is None:
            return super().make()
        self.context.start_cluster()
        with self.context.progress("verify") as progress:
            found = verify_dataset(
                store,
                manifest,
                deep=self._deep,
                parallelism=prepare.parallelism,
                progress=progress,
            )
        for item in found.problems:
            self.context.say(f"{item.path} {item.problem}")
        with self.context.progress("repair") as progress:
            self.repaired = repair_dataset(
                self._index, prepare, store, found, progress, lease=self.lease
            )
        return self._prepared()
