"""Tokenizers on disk: whole ones of the same model are taken, all others are refused before anything is created."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_pipelines import WORDS
from transformers import CLIPTextConfig, T5Config

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.loading import check_perceiver
from mmdiff2in1.generators.tokenizer import CLIP_VOCABULARY, caption_tokenizer, clip_tokenizer
from mmdiff2in1.generators.tokenizer_folder import (
    CLIP_DIGEST,
    check_tokenizer,
    check_tokenizer_files,
    foreign_vocabulary,
    read_tokenizer,
    vocabulary_digest,
)

END = '<|endoftext|>'


@pytest.fixture(scope='module')
def clip():
    return clip_tokenizer('!', 77)


@pytest.fixture(scope='module')
def vocabulary_files(clip, tmp_path_factory) -> Path:
    """CLIP's tokenizer as it was first distributed."""
    folder = tmp_path_factory.mktemp('files') / 'tokenizer'
    folder.mkdir()
    (folder / 'vocab.json').write_text(json.dumps(clip.get_vocab()))
    merges = json.loads(clip.backend_tokenizer.to_str())['model']['merges']
    (folder / 'merges.txt').write_text('#version: 0.2\n' + ''.join(f'{" ".join(pair)}\n' for pair in merges))
    config = dict(tokenizer_class='CLIPTokenizer', model_max_length=77, unk_token=END, pad_token='!', eos_token=END)
    (folder / 'tokenizer_config.json').write_text(json.dumps(config | dict(bos_token='<|startoftext|>')))
    return folder


def config(**fields) -> CLIPTextConfig:
    """Of an encoder of CLIP's size, as Stable Diffusion has it."""
    return CLIPTextConfig(
        **dict(vocab_size=CLIP_VOCABULARY, bos_token_id=0, eos_token_id=2, max_position_embeddings=77) | fields
    )


@pytest.mark.parametrize(
    ('kind', 'files', 'expected'),
    [
        ('CLIPTokenizer', {'tokenizer.json'}, None),
        ('CLIPTokenizerFast', {'vocab.json', 'merges.txt'}, None),
        ('CLIPTokenizer', {'vocab.json', 'tokenizer.json'}, None),
        ('T5TokenizerFast', {'spiece.model'}, None),
        (None, {'vocab.txt'}, None),
        ('BertTokenizer', {'vocab.txt'}, None),
        ('CLIPTokenizer', set(), 'found tokenizer_config.json, expected tokenizer.json; or vocab.json and merges.txt.'),
        ('CLIPTokenizer', {'vocab.json'}, 'found tokenizer_config.json, vocab.json, expected'),
        ('CLIPTokenizer', {'merges.txt'}, 'found merges.txt, tokenizer_config.json, expected'),
        ('CLIPTokenizer', {'vocab.txt'}, 'found tokenizer_config.json, vocab.txt, expected'),
        ('T5Tokenizer', {'vocab.json', 'merges.txt'}, 'expected tokenizer.json; or spiece.model. Fetch it from'),
    ],
)
def test_files_of_a_vocabulary(tmp_path, kind, files, expected):
    folder = tmp_path / 'tokenizer'
    folder.mkdir()
    (folder / 'tokenizer_config.json').write_text(json.dumps(dict(tokenizer_class=kind)))
    for name in files:
        (folder / name).write_text('{"model": {"vocab": {"a": 0}}}')
    if expected is None:
        check_tokenizer_files(folder)
    else:
        with pytest.raises(FileNotFoundError, match=f'tokenizer holds no vocabulary: .*{re.escape(expected)}'):
            check_tokenizer_files(folder)


@pytest.mark.parametrize('text', ['{}', '{"model": null}', '{"model": {"vocab": {}}}'])
def test_a_vocabulary_file_without_words(tmp_path, text):
    (tmp_path / 'tokenizer.json').write_text(text)
    with pytest.raises(ValueError, match=r'tokenizer\.json has no words under model\.vocab'):
        check_tokenizer_files(tmp_path)


def test_vocabulary_files_give_clips_ids_and_its_digest(clip, vocabulary_files):
    tokenizer = read_tokenizer(vocabulary_files, SimpleNamespace(config=config()))
    assert tokenizer('a photo of a cat').input_ids == clip('a photo of a cat').input_ids
    assert vocabulary_digest(tokenizer) == vocabulary_digest(clip) == CLIP_DIGEST
    assert foreign_vocabulary(tokenizer) == ''


def test_merges_that_were_cut_off_are_noticed(vocabulary_files, tmp_path):
    folder = shutil.copytree(vocabulary_files, tmp_path / 'tokenizer')
    lines = (folder / 'merges.txt').read_text().splitlines(keepends=True)
    (folder / 'merges.txt').write_text(''.join(lines[:20_000]))
    with pytest.raises(ValueError, match=r"tokenizer knows CLIP's words and not its merges; is merges\.txt complete"):
        read_tokenizer(folder, SimpleNamespace(config=config()))


@pytest.mark.parametrize(
    ('fields', 'expected'),
    [
        (dict(), None),
        (dict(eos_token_id=CLIP_VOCABULARY - 1), None),
        (dict(vocab_size=CLIP_VOCABULARY + 128), None),
        (
            dict(vocab_size=1000),
            r'knows 49408 tokens, \d+ of them words, ids up to 49407; the encoder has 1000',
        ),
        (dict(vocab_size=CLIP_VOCABULARY - 1), 'ids up to 49407; the encoder has 49407 embeddings'),
        (dict(vocab_size=60_000), 'the encoder has 60000 embeddings'),
        (dict(eos_token_id=7), 'ends a caption with 49407; the encoder expects 7'),
        (dict(max_position_embeddings=64), 'gives captions 77 of them; the encoder has 64 positions'),
    ],
)
def test_clips_tokenizer_beside_encoders(clip, fields, expected):
    if expected is None:
        check_tokenizer(clip, config(**fields), 'tokenizer')
    else:
        with pytest.raises(ValueError, match=f'tokenizer is not the tokenizer of the text encoder.*{expected}'):
            check_tokenizer(clip, config(**fields), 'tokenizer')


@pytest.mark.parametrize(
    ('words', 'encoder', 'expected'),
    [
        (WORDS, T5Config(vocab_size=8), None),
        (WORDS, T5Config(vocab_size=128), None),  # padded, as vocabularies are
        ([f'w{i}' for i in range(950)], T5Config(vocab_size=1050), None),
        (WORDS, CLIPTextConfig(vocab_size=8, bos_token_id=0, eos_token_id=1, max_position_embeddings=16), None),
        (WORDS, config(), 'it knows 8 tokens, 5 of them words, ids up to 7; the encoder has 49408 embeddings'),
        (WORDS, T5Config(vocab_size=7), 'ids up to 7; the encoder has 7 embeddings'),
        (WORDS, T5Config(vocab_size=400), 'the encoder has 400 embeddings'),
        ([], T5Config(vocab_size=8), 'it knows 3 tokens, 0 of them words'),
    ],
)
def test_small_tokenizers_beside_encoders(words, encoder, expected):
    tokenizer = caption_tokenizer(words, 16)
    if expected is None:
        check_tokenizer(tokenizer, encoder, 'tokenizer')
    else:
        with pytest.raises(ValueError, match=expected):
            check_tokenizer(tokenizer, encoder, 'tokenizer')


def test_length_and_ends_that_clip_needs():
    encoder = CLIPTextConfig(vocab_size=8, bos_token_id=0, eos_token_id=1, max_position_embeddings=12)
    tokenizer = caption_tokenizer(WORDS, int(1e30))
    check_tokenizer(tokenizer, encoder, 'tokenizer')
    assert tokenizer.model_max_length == 12
    for length in (-1, 0, 'x'):
        tokenizer.model_max_length = length
        with pytest.raises(ValueError, match=f'model_max_length={length!r}, expected the tokens of a caption'):
            check_tokenizer(tokenizer, encoder, 'tokenizer')
    encoder.eos_token_id = None
    with pytest.raises(ValueError, match='ends a caption with 1; the encoder expects None'):
        check_tokenizer(tokenizer, encoder, 'tokenizer')
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match='has no pad_token, which CLIP needs'):
        check_tokenizer(tokenizer, encoder, 'tokenizer')


@pytest.fixture
def folder(_tiny_diffusion, tmp_path) -> Path:
    _tiny_diffusion.save_folder(tmp_path / 'tiny')
    return tmp_path / 'tiny'


def test_a_folder_whose_vocabulary_was_not_downloaded(folder):
    """Before: every caption had the ids 0, 2, 2, …, under the hash of the intact model."""
    (folder / 'tokenizer' / 'tokenizer.json').unlink()
    for opened in (check_perceiver, LatentDiffusion.from_pretrained):
        with pytest.raises(FileNotFoundError, match='tokenizer holds no vocabulary: found tokenizer_config.json'):
            opened(folder)


def test_the_tokenizer_of_another_model(folder, clip):
    shutil.rmtree(folder / 'tokenizer')
    clip.save_pretrained(folder / 'tokenizer')
    with pytest.raises(ValueError, match='tokenizer is not the tokenizer .* ids up to 49407; the encoder has 10 embed'):
        LatentDiffusion.from_pretrained(folder)


def test_a_foreign_vocabulary_of_clips_size_is_a_part_of_the_hash(tiny_diffusion, clip):
    before = tiny_diffusion.weights_hash()
    tiny_diffusion.text.tokenizer = clip
    assert tiny_diffusion.weights_hash() == before, "CLIP's own: what stores have recorded"
    tiny_diffusion.text.tokenizer = caption_tokenizer([f'w{i}' for i in range(CLIP_VOCABULARY - 3)], 8)
    assert tiny_diffusion.weights_hash() != before
