"""Changing the colours of an image."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # ITU-R BT.601, BGR


def changed_colours(image: np.ndarray, strengths: Mapping[str, Any], seed: int = 0) -> np.ndarray:
    """An image, uint8 BGR (H, W, 3), under the changes that have a strength, by name and in this order.

    `gamma`, an exponent; `channel`, three factors; `brightness`, a factor; `contrast`, a factor of the difference from
    the mean luma; `hue`, degrees; `saturation`, a factor; `grey`; `blur`, pixels; `noise`, grey levels 0 … 255, drawn
    with `seed`.
    """
    value = image.astype(np.float32) / 255
    if 'gamma' in strengths:
        value = value ** np.float32(strengths['gamma'])
    value = value * np.float32(strengths.get('channel', 1)) * np.float32(strengths.get('brightness', 1))
    if 'contrast' in strengths:
        mean = (value @ LUMA).mean()
        value = mean + (value - mean) * np.float32(strengths['contrast'])
    value = value.clip(0, 1).astype(np.float32)
    if 'hue' in strengths or 'saturation' in strengths:
        hsv = cv2.cvtColor(value, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0] + strengths.get('hue', 0)) % 360
        hsv[..., 1] = (hsv[..., 1] * strengths.get('saturation', 1)).clip(0, 1)
        value = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if 'grey' in strengths:
        value = np.repeat((value @ LUMA)[..., None], 3, axis=-1)
    if strengths.get('blur', 0) > 0:
        value = cv2.GaussianBlur(value, (0, 0), strengths['blur'], borderType=cv2.BORDER_REFLECT_101)
    if 'noise' in strengths:
        drawn = np.random.default_rng(seed).standard_normal(value.shape, dtype=np.float32)
        value = value + np.float32(strengths['noise'] / 255) * drawn
    return np.round(value * 255).clip(0, 255).astype(np.uint8)
