"""The page of `mmdiff2in1 demo --web`: its API as a browser calls it, and nothing that comes from elsewhere."""

import re
import socket
import urllib.request

import numpy as np
import pytest
from PIL import Image

from mmdiff2in1.__main__ import main
from mmdiff2in1.commands.demonstrations import web


@pytest.fixture(scope='module')
def served():
    """The built-in model on a free port, and its address."""
    pytest.importorskip('gradio')
    model = web.load('builtin:scenes', None)
    with socket.socket() as one:
        one.bind((web.HOST, 0))
        port = one.getsockname()[1]
    page = web.serve(web.build(model, web.examples('builtin:scenes')), port, wait=False)
    yield model, f'http://{web.HOST}:{port}'
    page.close()


@pytest.fixture(scope='module')
def client(served):
    return pytest.importorskip('gradio_client').Client(served[1], verbose=False)


def test_a_model_that_creates_does_so_itself_and_others_by_the_built_in_generator():
    both, plain = (web.load(name, None) for name in ('builtin:scenes', 'builtin:unet_scenes'))
    assert both.diffusion is both.segmentor.backbone.diffusion
    assert plain.diffusion.weights_hash() == both.diffusion.weights_hash()


@pytest.mark.slow
def test_an_image_comes_back_with_the_map_of_the_model(served, client, tmp_path):
    from gradio_client import handle_file

    image = web.examples('builtin:scenes')[0]
    Image.fromarray(image).save(tmp_path / 'a.png')
    annotated, legend = client.predict(handle_file(tmp_path / 'a.png'), api_name='/perceive')
    (expected,) = served[0]([image])
    assert [each['label'] for each in annotated['annotations']] == list(expected.shares)
    for each in annotated['annotations']:  # a mask shows by its opacity
        shown = np.asarray(Image.open(each['image']).convert('RGBA'))[..., 3] > 0
        np.testing.assert_array_equal(shown, expected.map == expected.classes.index(each['label']))
    np.testing.assert_array_equal(np.asarray(Image.open(annotated['image']).convert('RGB')), image)
    for text, (r, g, b) in expected.maps['semantic_segmentation'].task.legend(expected.map):
        assert f'background: #{r:02x}{g:02x}{b:02x}"></span>{text}<' in legend


@pytest.mark.slow
def test_a_caption_becomes_the_image_of_its_seed_and_an_image_is_varied(served, client, tmp_path):
    from gradio_client import handle_file

    made, _, legend = client.predict('a red bed in a room', None, 600, 3, api_name='/create')
    (expected,) = served[0].generate(prompts='a red bed in a room', seeds=3)
    np.testing.assert_array_equal(np.asarray(Image.open(made).convert('RGB')), expected.image)
    assert 'swatch' in legend
    source = web.examples('builtin:scenes')[1]
    Image.fromarray(source).save(tmp_path / 'a.png')
    made, *_ = client.predict('a room', handle_file(tmp_path / 'a.png'), 50, 0, api_name='/create')
    (expected,) = served[0].generate(images=[source], captions='a room', T=50, seeds=0)
    np.testing.assert_array_equal(np.asarray(Image.open(made).convert('RGB')), expected.image)


@pytest.mark.slow
def test_errors_are_told_in_the_words_of_the_package(client):
    with pytest.raises(Exception, match='prompts .0. are empty; expected a sentence each'):
        client.predict('', None, 600, 0, api_name='/create')
    with pytest.raises(Exception, match='there is no image yet'):
        client.predict(None, api_name='/perceive')


@pytest.mark.slow
def test_the_page_loads_nothing_from_elsewhere(served):
    import gradio

    text = urllib.request.urlopen(served[1]).read().decode()
    loaded = re.findall(r'(?:src|<link[^>]*href)="(https?://[^"]*)"', text)
    assert [each for each in loaded if not each.startswith(served[1])] == [] and 'src=' in text
    assert '@import' not in urllib.request.urlopen(f'{served[1]}/theme.css').read().decode()
    assert gradio.analytics.analytics_enabled() is False


def test_a_missing_package_is_named_before_the_model_is_read(monkeypatch):
    found = web.importlib.util.find_spec
    monkeypatch.setattr(web.importlib.util, 'find_spec', lambda name: None if name == 'gradio' else found(name))
    with pytest.raises(SystemExit, match=r'--web needs the package gradio.*pip install "mmdiff2in1\[web\]"'):
        main(['demo', '--web', 'there/is/none'])


@pytest.mark.parametrize('other', ['--loop', '--short'])
def test_the_page_trains_nothing(other, capsys):
    with pytest.raises(SystemExit):
        main(['demo', '--web', other])
    assert '--web trains nothing' in capsys.readouterr().err
