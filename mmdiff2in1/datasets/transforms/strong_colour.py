"""StrongColour: strong random changes of light and colour that leave every label true."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mmdiff2in1.core.colours import changed_colours

Change = tuple[float, float, float]


@TRANSFORMS.register_module()
class StrongColour(BaseTransform):
    """Changes an image, uint8 (H, W, 3), BGR as mmcv loads it, and gives uint8 again.

    Each change is (probability, low, high): with that probability its strength is drawn between the two; None leaves it
    out. In this order:

    - `gamma`: exponent of the image in 0 … 1.
    - `channel`: a factor for each channel.
    - `brightness`: a factor for all.
    - `contrast`: a factor of the difference from the mean luma of the image.
    - `hue`: degrees around the colour circle.
    - `saturation`: a factor.
    - `grey`: probability alone; the luma in all channels.
    - `blur`: standard deviation of a Gaussian, in pixels.
    - `noise`: standard deviation of Gaussian noise in grey levels 0 … 255, for each pixel and channel.

    Real and created samples are treated alike. Images in RGB order: `rgb=True`.

    Raises:
        ValueError: A probability outside [0, 1], or a range that is out of order or has strengths that do not exist.
    """

    def __init__(
        self,
        gamma: Change | None = (0.5, 0.6, 1.6),
        channel: Change | None = (0.5, 0.75, 1.25),
        brightness: Change | None = (0.8, 0.6, 1.4),
        contrast: Change | None = (0.8, 0.5, 1.5),
        hue: Change | None = (0.5, -60.0, 60.0),
        saturation: Change | None = (0.8, 0.3, 1.7),
        grey: float = 0.1,
        blur: Change | None = (0.2, 0.2, 1.0),
        noise: Change | None = (0.2, 2.0, 12.0),
        rgb: bool = False,
    ) -> None:
        changes = dict(
            gamma=gamma, channel=channel, brightness=brightness, contrast=contrast, hue=hue, saturation=saturation,
            grey=(grey, 0.0, 0.0), blur=blur, noise=noise,
        )  # fmt: skip
        self.changes: dict[str, Change] = {}
        for name, change in changes.items():
            probability, low, high = (0.0, 1.0, 1.0) if change is None else map(float, change)
            if not 0 <= probability <= 1:
                raise ValueError(f'{name}={change}: expected a probability, 0 … 1, found {probability}')
            if not low <= high or (low < 0 and name != 'hue') or (low == 0 and name == 'gamma'):
                raise ValueError(f'{name}={change}: expected (probability, low, high), low <= high, none below 0')
            self.changes[name] = probability, low, high
        self.rgb = rgb

    def transform(self, results: dict) -> dict:
        """Changes `img`; always draws as many numbers, so that what is skipped shifts no later draw.

        Raises:
            ValueError: An image of another kind, such as one that has been normalised.
        """
        image = results['img']
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f'StrongColour: found an image of {image.dtype} {image.shape}, expected uint8 (H, W, 3); put it before '
                'transforms that give floating-point images'
            )
        chances, strengths = np.random.random((2, len(self.changes)))
        balance, seed = np.random.random(3), np.random.randint(2**31)
        chosen = {}
        for (name, (probability, low, high)), chance, strength in zip(
            self.changes.items(), chances, strengths, strict=True
        ):
            if chance < probability:
                chosen[name] = low + (high - low) * (balance if name == 'channel' else strength)
        if chosen:
            bgr = np.ascontiguousarray(image[..., ::-1] if self.rgb else image)
            changed = changed_colours(bgr, chosen, seed)
            results['img'] = np.ascontiguousarray(changed[..., ::-1]) if self.rgb else changed
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.changes}, rgb={self.rgb})'
