"""Who labels in θ_C's place, and in how many views: settings, checked; the models themselves are `Teachers`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CREATOR = 'creator'
"""θ_C, as one teacher among others."""
KEYS = ('config', 'checkpoint', 'classes')


@dataclass(frozen=True)
class TeacherSettings:
    """Teachers and views; the mean over all of them labels.

    Attributes:
        teachers: 'creator' for θ_C, or dict(config=…, checkpoint=…), see `Teacher`.
        mirrored: Each scale is seen mirrored as well, and the output mirrored back.
        scales: Factors of the image size.
    """

    teachers: tuple[str | Mapping[str, Any], ...] = (CREATOR,)
    mirrored: bool = False
    scales: tuple[float, ...] = (1.0,)

    @classmethod
    def parse(cls, teacher: Any, mirrored: bool, scales: Sequence[float]) -> 'TeacherSettings | None':
        """Of the settings of a rule; None: θ_C labels in one view, what it is without any settings.

        Raises:
            ValueError: No teacher, something else than teachers, or a scale that is not above 0 and finite.
        """
        listed = [CREATOR] if teacher is None else [teacher] if isinstance(teacher, str | Mapping) else list(teacher)
        for each in listed:
            whole = isinstance(each, Mapping) and {'config', 'checkpoint'} <= set(each) <= set(KEYS)
            if not whole and each != CREATOR:
                raise ValueError(
                    f"teacher holds {each!r:.200}; expected dict(config='….py', checkpoint='….pth'), 'creator' (θ_C), "
                    'or a list of those'
                )
        if not listed:
            raise ValueError(f'teacher={teacher}: expected at least one')
        if not scales or not all(0 < scale < math.inf for scale in scales):
            raise ValueError(f'scales={scales}: expected at least one, and each above 0')
        settings = cls(tuple(listed), bool(mirrored), tuple(float(scale) for scale in scales))
        return None if settings == cls() else settings

    @property
    def asks_creator(self) -> bool:
        """True if θ_C is one of them."""
        return CREATOR in self.teachers
