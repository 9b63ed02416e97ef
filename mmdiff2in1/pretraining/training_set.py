"""The images of a config's training set, with the captions that creation would read."""

from dataclasses import dataclass

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdiff2in1.captions import captions_of, read_captions
from mmdiff2in1.captions.lookup import image_key
from mmdiff2in1.core.dataset_images import list_images, source_name
from mmdiff2in1.synthesis.sources import build_real_dataset


@dataclass(frozen=True)
class TrainingSet:
    """`names` of images, relative to `folder` or whole; by `image_key` of each its caption, None: they have none."""

    folder: str
    names: list[str]
    captions: dict[str, str] | None


def training_set(cfg: Config, captions: str | None = None) -> TrainingSet:
    """Of ``train_dataloader.dataset``, without a wrapper of ours, each image once.

    Args:
        cfg: Any that trains.
        captions: JSONL file; None: ``stages.synthesis.captions``, if the config has it.

    Raises:
        FileNotFoundError, ValueError: Images or captions that are not there, or an image without a caption, unless
            ``stages.synthesis.caption_fallback`` says what stands for it.
    """
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    root, paths = list_images(build_real_dataset(cfg))
    names = [source_name(path, root) for path in paths]
    settings = (cfg.get('stages') or {}).get('synthesis') or {}
    file = captions or settings.get('captions')
    if not file:
        return TrainingSet(root or '.', names, None)
    texts = captions_of(paths, read_captions(file), settings.get('caption_fallback'))
    return TrainingSet(root or '.', names, dict(zip(map(image_key, names), texts, strict=True)))
