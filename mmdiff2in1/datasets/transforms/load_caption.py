"""LoadCaption: the caption of a sample's image, as a step of any mmseg pipeline."""

from functools import lru_cache

from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mmdiff2in1.captions.lookup import captions_of, read_captions


@TRANSFORMS.register_module()
class LoadCaption(BaseTransform):
    """Adds `caption` to the results; `PackSegInputs` keeps it if `meta_keys` names it.

    A synthetic sample brings the caption along that it was created under, which stays.

    Args:
        captions: JSON lines as `mmdiff2in1 caption` writes them; None: no image has a caption.
        fallback: Stands in for missing and empty captions ('' = none). None: they are an error.

    Raises:
        FileNotFoundError, ValueError: No such file, or lines that are no captions; at construction.
    """

    def __init__(self, captions: str | None = None, fallback: str | None = None) -> None:
        self.captions, self.fallback = captions, fallback
        self._texts = _read_once(captions) if captions else {}

    def transform(self, results: dict) -> dict:
        """Adds the caption of `img_path`.

        Raises:
            ValueError: The image has none, and there is no fallback.
        """
        if 'caption' not in results:
            results['caption'] = captions_of([results['img_path']], self._texts, self.fallback)[0]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(captions={self.captions!r}, fallback={self.fallback!r})'


_read_once = lru_cache(read_captions)  # train, val and test sets of a run share one file
