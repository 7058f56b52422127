"""Several tasks for one network: each image gets one of them at random, another one in every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from faceae.corruption import masks
from faceae.tasks.base import Damaged, Fill, Task

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Several(Task):
    """Draws a task for each image, and then what that task draws.

    Attributes:
        tasks: the tasks.
        names: their names.
    """

    tasks: tuple[Task, ...]
    names: tuple[str, ...]
    baselines: ClassVar[dict[str, Fill]] = {"damaged": lambda given, mask: given}

    @property
    def image_size(self) -> int:  # type: ignore[override]
        """See `Task`."""
        return self.tasks[0].image_size

    @property
    def row_bytes(self) -> int:
        """The number of the task, and what it draws; what is left of the row is 0."""
        return 1 + max(task.row_bytes for task in self.tasks)

    def draw(self, image_ids: Sequence[str], seed: int, epoch: int) -> NDArray[np.uint8]:
        """See `Task.draw`."""
        keys = [f"{image_id}/task" for image_id in image_ids]
        numbers = (masks.uniform(keys, seed=seed, epoch=epoch, count=1)[:, 0] * len(self.tasks)).astype(np.uint8)
        rows = np.zeros((len(image_ids), self.row_bytes), np.uint8)
        rows[:, 0] = numbers
        for number, task in enumerate(self.tasks):
            mine = np.flatnonzero(numbers == number)
            drawn = task.draw([image_ids[row] for row in mine.tolist()], seed, epoch)
            rows[mine, 1 : 1 + task.row_bytes] = drawn
        return rows

    def split(self, rows: NDArray[np.uint8]) -> Iterator[tuple[str, Task, NDArray[np.uint8]]]:
        """Yields for each row of `draw` the task's name, the task, and what it has drawn."""
        for row in rows:
            task = self.tasks[row[0]]
            yield self.names[row[0]], task, row[1 : 1 + task.row_bytes]

    def damage(self, original: Tensor, drawn: Tensor) -> Damaged:
        """See `Task.damage`."""
        given, mask = original.clone(), original.new_zeros(len(original), 1, *original.shape[2:])
        for number, task in enumerate(self.tasks):
            mine = (drawn[:, 0] == number).nonzero()[:, 0]
            if len(mine):
                given[mine], mask[mine] = task.damage(original[mine], drawn[mine, 1 : 1 + task.row_bytes])
        return Damaged(given, mask)
