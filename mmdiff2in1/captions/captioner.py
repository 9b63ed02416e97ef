"""Image → caption, with a captioning model of transformers: BLIP-2, BLIP or GIT."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PretrainedConfig

from mmdiff2in1.core.names import listed
from mmdiff2in1.generators.model_files import variant_in
from mmdiff2in1.generators.reading import loading, read_json, reason_of
from mmdiff2in1.generators.tokenizer_folder import check_tokenizer, check_tokenizer_files

MODELS = ('blip-2', 'blip', 'git')
"""The `model_type` of what captions here. Chat models need a dialogue around the image, which nothing here writes."""

# A line per part of a folder: the names that libraries have given to it.
FILES = (
    ('config.json',),
    ('processor_config.json', 'preprocessor_config.json'),
    ('tokenizer.json', 'vocab.json', 'vocab.txt', 'spiece.model'),
)
FETCH = 'Fetch it once (`hf download OWNER/NAME --local-dir FOLDER`) and give the folder'


class ImageCaptioner:
    """A captioning model with its processor; made by :meth:`from_pretrained`.

    Args:
        model: Its ``generate`` takes ``pixel_values`` and, with a prompt, ``input_ids``.
        processor: Images and prompts to tensors, token ids to text.
        prompt: How the model is made to begin ('a photo of', 'Question: … Answer:'); not a part of the caption.
        max_new_tokens: Tokens per caption, at most.
        num_beams: Width of the beam search; 1 is greedy. Nothing is drawn at random.

    Raises:
        ValueError: `max_new_tokens` or `num_beams` below 1.
    """

    def __init__(self, model, processor, prompt: str | None = None, max_new_tokens: int = 30, num_beams: int = 5):
        if max_new_tokens < 1 or num_beams < 1:
            raise ValueError(f'max_new_tokens={max_new_tokens}, num_beams={num_beams}; expected at least 1 of each')
        self.model, self.processor = model.eval(), processor
        self.prompt = (prompt or '').strip()
        self.options = dict(max_new_tokens=max_new_tokens, num_beams=num_beams, do_sample=False)
        self.kind = model.config.model_type
        if self.kind == 'blip-2':
            # A processor that was saved without the number makes no room for the image beside a prompt: it goes unseen.
            processor.num_query_tokens = model.config.num_query_tokens

    @classmethod
    def from_pretrained(
        cls, path: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = 'cpu', **options
    ) -> 'ImageCaptioner':
        """Loads a model and its processor.

        Args:
            path: A folder as ``save_pretrained`` or ``hf download`` writes it, or the hub id OWNER/NAME of a model that
                transformers has kept; it fetches others, unless HF_HUB_OFFLINE=1 is set.
            dtype: Of the weights; None: :func:`default_dtype`.
            device: Where the model runs.
            **options: ``prompt``, ``max_new_tokens``, ``num_beams``.

        Raises:
            FileNotFoundError: No such folder, a file is missing in it, or the hub id is not at hand.
            ValueError: Another kind of model, damaged files, weights that do not fit their configuration, or a
                tokenizer that does not fit the model.
        """
        source = check_captioner(path)
        with _explaining(source):
            # Pillow prepares the images: the other backend needs torchvision.
            processor = AutoProcessor.from_pretrained(source, backend='pil', trust_remote_code=False)
            model, info = AutoModelForImageTextToText.from_pretrained(
                source,
                dtype=dtype or default_dtype(device),
                variant=variant_in(source) if isinstance(source, Path) else None,
                output_loading_info=True,
                trust_remote_code=False,
            )
        check_tokenizer(processor.tokenizer, model.config, source)
        bad = {kind: sorted(map(str, info[f'{kind}_keys'])) for kind in ('missing', 'mismatched')}
        if any(bad.values()):
            raise ValueError(f'{source}: the weights do not fit the configuration beside them: {listed(bad)}')
        return cls(model.to(device), processor, **options)

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> list[str]:
        """One caption per image, uint8 RGB (H, W, 3) of any size: a single line, '' if the model has nothing to say.

        In float32 a caption does not depend on the rest of the batch, unless two words are equally likely to the last
        bit; in bfloat16 that happens now and then.
        """
        if not len(images):
            return []
        prompts = dict(text=[self.prompt] * len(images)) if self.prompt else {}
        inputs = self.processor(images=list(images), input_data_format='channels_last', return_tensors='pt', **prompts)
        if self.kind == 'git' and self.prompt:
            # The tokenizer closes the prompt; GIT would take that for the end of the caption.
            for name in ('input_ids', 'attention_mask'):
                inputs[name] = inputs[name][:, :-1]
        tokens = self.model.generate(**inputs.to(self.model.device, self.model.dtype), **self.options)
        return [self._caption(text) for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]

    def _caption(self, text: str) -> str:
        """The first line that says something (OPT in BLIP-2 ends a caption with a new line), without the prompt."""
        line = ' '.join(next((line for line in text.splitlines() if line.strip()), '').split())
        if not self.prompt:
            return line
        # As the tokenizer spells it: BLIP's has no capitals.
        tokenizer = self.processor.tokenizer
        spelt = tokenizer.decode(tokenizer(self.prompt).input_ids, skip_special_tokens=True)
        return line.removeprefix(' '.join(spelt.split())).strip()


def default_dtype(device: str | torch.device) -> torch.dtype:
    """bfloat16 on a GPU that computes in it, else float32."""
    on_gpu = torch.device(device).type == 'cuda'
    return torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32


def check_captioner(path: str | Path) -> str | Path:
    """The folder or hub id to load from, checked as far as it can be without its weights.

    Raises:
        FileNotFoundError, ValueError: See :meth:`ImageCaptioner.from_pretrained`.
    """
    folder = Path(path).expanduser()
    source: str | Path = folder
    if folder.is_dir():
        _check_files(folder)
        config = read_json(folder / 'config.json')
    elif re.fullmatch(r'[\w-][\w.-]*/[\w.-]+', str(path)) and not folder.exists() and not folder.parent.exists():
        source = str(path)
        with _explaining(source):
            config, _ = PretrainedConfig.get_config_dict(source)
    else:
        raise FileNotFoundError(
            f'{source}: found {"a file" if folder.is_file() else "nothing"}, expected the folder of a captioning model '
            f'({", ".join(MODELS)}). {FETCH}'
        )
    kind = config.get('model_type')
    if kind not in MODELS:
        raise ValueError(f'{source}: found a model of type {kind!r}, expected one of {", ".join(MODELS)}')
    if kind == 'blip-2' and config.get('image_token_index') is None:
        raise ValueError(
            f'{source}: config.json lacks image_token_index, which transformers needs since it puts the image into the '
            'text. These are early files of BLIP-2; fetch the current ones of the same model'
        )
    return source


def _check_files(folder: Path) -> None:
    if (folder / 'model_index.json').is_file():
        raise ValueError(f'{folder} is a diffusers folder, which creates images; expected a captioning model. {FETCH}')
    missing = [' or '.join(names) for names in FILES if not any((folder / name).is_file() for name in names)]
    if missing:
        found = sorted(each.name for each in folder.iterdir()) or ['nothing']
        more = f' and {len(found) - 10} more' if len(found) > 10 else ''
        raise FileNotFoundError(
            f'{folder} is not a complete folder of a captioning model: missing {"; ".join(missing)}; '
            f'found {", ".join(found[:10])}{more}'
        )
    check_tokenizer_files(folder)
    variant_in(folder)


@contextmanager
def _explaining(source: str | Path) -> Iterator[None]:
    """Adds the next step to the errors of transformers about a folder or hub id that it cannot load."""
    if isinstance(source, Path):
        with loading(source):
            yield
        return
    try:
        yield
    except (OSError, ValueError) as error:
        reason = reason_of(error).splitlines()[0]
        raise FileNotFoundError(
            f'{source} is no folder here, and as a hub id it could not be loaded ({reason}). {FETCH}'
        ) from error
