"""Class embeddings: the average by hand, computed once, read back, VPD's published files, and what does not fit."""

import pytest
import torch
from conftest import TINY_DIFFUSION
from safetensors.torch import save_file

import mmdiff2in1.datasets  # noqa: F401  registers
from mmdiff2in1.generators import class_embeddings
from mmdiff2in1.generators.class_embeddings import read_class_embeddings, write_class_embeddings
from mmdiff2in1.models.backbones import DiffusionBackbone
from mmdiff2in1.models.backbones.class_prompt import TEMPLATES, class_names

NAMES = ['floor', 'red wall', 'ball']


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MMDIFF2IN1_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def test_the_average_of_the_pooled_states(tiny_diffusion):
    text, templates = tiny_diffusion.text, ['a {}', '{} and a table', 'a red {} and a floor and a wall']
    found = text.class_embeddings(NAMES, templates, batch_size=2)
    for name, embedding in zip(NAMES, found, strict=True):
        states = []
        for template in templates:
            ids = text.token_ids([template.format(name)])
            with torch.no_grad():
                states.append(text.encoder(ids).pooler_output[0])  # transformers' own choice of the end
        torch.testing.assert_close(embedding, torch.stack(states).mean(0))


def test_the_sentences_are_the_80_of_clip():
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 80
    assert {'a photo of a {}.', 'itap of my {}.', 'a tattoo of the {}.'} < set(TEMPLATES)


def kept(text, names=NAMES):
    return class_embeddings.kept_class_embeddings(text, names, TEMPLATES)


def test_computed_once_and_kept(tiny_diffusion, cache, monkeypatch):
    first = kept(tiny_diffusion.text)
    torch.testing.assert_close(first, tiny_diffusion.text.class_embeddings(NAMES, TEMPLATES))
    assert len(list(cache.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(class_embeddings, 'compute_class_embeddings', None)
        assert torch.equal(kept(tiny_diffusion.text), first)
    other = kept(tiny_diffusion.text, NAMES[::-1])
    torch.testing.assert_close(other, first.flip(0))
    with torch.no_grad():
        tiny_diffusion.text.encoder.final_layer_norm.bias += 1
    torch.testing.assert_close(kept(tiny_diffusion.text), first + 1)
    assert len(list(cache.iterdir())) == 3


def test_a_cache_that_cannot_be_written_is_no_obstacle(tiny_diffusion, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('MMDIFF2IN1_CACHE', str(tmp_path / 'file' / 'cache'))
    torch.testing.assert_close(kept(tiny_diffusion.text), tiny_diffusion.text.class_embeddings(NAMES, TEMPLATES))


def test_an_underscore_is_a_space(tiny_diffusion, cache):
    """As VPD has it; 15 of the 27 kinds of scenes have one. The names themselves stay, in files and in messages."""
    text = tiny_diffusion.text
    assert torch.equal(text.class_embeddings(['red_wall'], TEMPLATES), text.class_embeddings(['red wall'], TEMPLATES))
    assert torch.equal(text.class_tokens(['red_wall']), text.class_tokens(['red wall']))
    assert not torch.equal(text.class_tokens(['red_wall']), text.class_tokens(['wall red']))
    assert torch.equal(kept(text, ['floor', 'red_wall', 'ball']), kept(text))
    assert len(list(cache.iterdir())) == 2  # each with its own names
    kinds = class_names('NYUv2DepthDataset')
    assert len(kinds) == 27 and sum('_' in kind for kind in kinds) == 15 and kinds[2] == 'living_room'


def backbone(**options) -> DiffusionBackbone:
    torch.manual_seed(0)
    return DiffusionBackbone(TINY_DIFFUSION, **options)


def test_the_backbone_attends_to_them(tmp_path):
    made = backbone(classes=NAMES)
    expected = made.diffusion.text.class_embeddings(NAMES, TEMPLATES)
    torch.testing.assert_close(made.tokens, expected)
    write_class_embeddings(tmp_path / 'mine.safetensors', expected + 1, NAMES)
    read = backbone(classes=NAMES, class_embeddings=str(tmp_path / 'mine.safetensors'))
    torch.testing.assert_close(read.tokens, expected + 1)
    with pytest.raises(ValueError, match="is given, but the prompt is 'class_names'"):
        backbone(classes=NAMES, class_embeddings='x.pth', feature=dict(prompt='class_names'))


def test_names_of_a_dataset():
    names = class_names('ADE20KDataset')
    assert (len(names), names[0], names[149]) == (150, 'wall', 'flag')
    assert class_names(('a', 'b')) == ['a', 'b']
    with pytest.raises(ValueError, match='no such dataset'):
        class_names('ADE21KDataset')


def test_files_of_others(tmp_path):
    tensor = torch.arange(12.0).view(3, 4)
    torch.save(tensor, tmp_path / 'one.pth')
    save_file({'any': tensor.half()}, tmp_path / 'one.safetensors')
    for name in ('one.pth', 'one.safetensors'):
        assert torch.equal(read_class_embeddings(tmp_path / name, NAMES, 4), tensor)
        assert torch.equal(read_class_embeddings(tmp_path / name, None, 4), tensor)


@pytest.mark.parametrize(
    ('classes', 'width', 'message'),
    [
        (['a', 'b'], 4, 'embeddings of 3 classes; the config names 2'),
        (['floor', 'wall', 'ball'], 4, "class 1 is 'red wall' there and 'wall' in the config"),
        (NAMES, 5, r'expected one tensor \(K, 5\)'),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, classes, width, message):
    write_class_embeddings(tmp_path / 'x.safetensors', torch.zeros(3, 4), NAMES)
    with pytest.raises(ValueError, match=message):
        read_class_embeddings(tmp_path / 'x.safetensors', classes, width)
    with pytest.raises(FileNotFoundError, match='nowhere'):
        read_class_embeddings(tmp_path / 'nowhere.pth', classes, width)
    write_class_embeddings(tmp_path / 'x.safetensors', torch.full((3, 4), torch.nan), NAMES)
    with pytest.raises(ValueError, match=r'x\.safetensors: class_embeddings holds values that are not finite'):
        read_class_embeddings(tmp_path / 'x.safetensors', NAMES, 4)
