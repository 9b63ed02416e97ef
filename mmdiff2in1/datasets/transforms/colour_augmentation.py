"""ColourAugmentation: random gamma, brightness and colour balance, as monocular geometry is trained with."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ColourAugmentation(BaseTransform):
    """With probability `prob`: image^γ times a brightness, times one factor per channel; clipped to 0 … 255.

    The ranges of Bae et al. and of the depth estimators before them (AdaBins, BTS) for indoor scenes. The image is
    float32 afterwards, not rounded.

    Args:
        prob: Probability, 0 … 1.
        gamma: Lowest and highest exponent of the image in 0 … 1.
        brightness: Lowest and highest factor.
        channel: Lowest and highest factor of each channel.

    Raises:
        ValueError: `prob` or a range out of order.
    """

    def __init__(
        self,
        prob: float = 0.5,
        gamma: tuple[float, float] = (0.9, 1.1),
        brightness: tuple[float, float] = (0.75, 1.25),
        channel: tuple[float, float] = (0.9, 1.1),
    ) -> None:
        ranges = dict(gamma=gamma, brightness=brightness, channel=channel)
        for name, (low, high) in ranges.items():
            if not 0 < low <= high:
                raise ValueError(f'{name}={(low, high)}: expected a low and a high end, above 0 and in order')
        if not 0 <= prob <= 1:
            raise ValueError(f'prob={prob}: expected 0 … 1')
        self.prob, self.ranges = prob, ranges

    def transform(self, results: dict) -> dict:
        """Changes `img`; always draws six numbers, so that a skipped image shifts no later draw."""
        skip, gamma, brightness, *channel = np.random.random(6)
        if skip < self.prob:
            image = (results['img'].astype(np.float32) / 255) ** self._between('gamma', gamma)
            balance = [self._between('channel', share) for share in channel]
            factors = np.float32(self._between('brightness', brightness) * np.array(balance))
            results['img'] = np.clip(image * factors, 0, 1) * np.float32(255)
        return results

    def _between(self, name: str, share: float) -> np.float32:
        low, high = self.ranges[name]
        return np.float32(low + (high - low) * share)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob}, {self.ranges})'
