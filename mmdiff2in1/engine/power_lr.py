"""PowerLR: the learning rate along a power of time, as VPD trains its depth model."""

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmseg.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class PowerLR(LRSchedulerMixin, _ParamScheduler):
    """lr · (a + (b − a) t^p) from `begin` to `end`, t = 1 / n … n / n over its n steps; b from there on.

    Both its rise and its fall are steep at first (mmengine's PolyLR falls as (1 − t)^p, steep at last).

    Args:
        optimizer: Optimizer or its wrapper.
        power: p, above 0.
        start_ratio: a, of the optimizer's own rate.
        end_ratio: b.
        **span: `begin`, `end`, `by_epoch` and the like, see mmengine's schedulers; `end` is needed.

    Raises:
        ValueError: No end, a power that is not above 0, or a ratio below 0.
    """

    def __init__(self, optimizer, power: float = 1.0, start_ratio: float = 0.0, end_ratio: float = 1.0, **span) -> None:
        steps = span.get('end', 0) - span.get('begin', 0)
        if not (power > 0 and start_ratio >= 0 and end_ratio >= 0 and 0 < steps < 1e9):
            raise ValueError(
                f'PowerLR({power=}, {start_ratio=}, {end_ratio=}, {span}): expected a power above 0, ratios of at '
                'least 0, and an `end` behind `begin`'
            )
        self.power, self.ratios, self.steps = power, (start_ratio, end_ratio), steps
        super().__init__(optimizer, **span)

    def _get_value(self) -> list[float]:
        start, end = self.ratios
        factor = start + (end - start) * ((self.last_step + 1) / self.steps) ** self.power
        return [value * factor for value in self.base_values]
