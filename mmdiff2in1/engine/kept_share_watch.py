"""Says so when created images teach next to nothing for long, which no loss shows."""

from mmengine.logging import MessageHub, MMLogger

WINDOW = 100
"""Iterations with created images over which the share is averaged."""
LITTLE = 0.02
KEY = 'kept_share/'


class KeptShareWatch:
    """Warns once per task when the mean of `kept_share/<task>` over the last 100 iterations is below 0.02."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def look(self, hub: MessageHub, logger: MMLogger, outputs: dict | None) -> None:
        """To be called after an iteration with its log variables; reads the means that the hub holds already."""
        for name in outputs or ():
            if not name.startswith(KEY) or name in self._told:
                continue
            history = hub.log_scalars.get(f'train/{name}')
            if history is None or len(history.data[0]) < WINDOW:
                continue
            share = float(history.mean(WINDOW))
            if not share >= LITTLE:
                self._told.add(name)
                logger.warning(
                    f'{name} is {share:.4f} on average over {WINDOW} iterations: of the created images next to no '
                    'pixel teaches anything. Lower min_confidence of the label rule, or let the warm-up before last '
                    'longer so that θ_C is surer; where labels are given, look whether they hold any'
                )
