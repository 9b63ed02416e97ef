"""Captioning models: the same caption alone and in a batch, the prompt, what is refused before loading."""

import json

import numpy as np
import pytest
import torch
from tiny_captioner import QUERIES, save_captioner

from mmdiff2in1.captions.captioner import ImageCaptioner, check_captioner, default_dtype

KINDS = ('blip-2', 'blip-2-t5', 'blip', 'git')


def images(count=5):
    generator = np.random.default_rng(0)
    sizes = [(8, 8), (30, 20), (12, 50), (9, 3), (40, 40)][:count]
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    made = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, folder in made.items():
        save_captioner(folder, kind)
    return made


@pytest.mark.parametrize('prompt', [None, 'a photo of'])
@pytest.mark.parametrize('kind', KINDS)
def test_alone_and_in_a_batch(folders, kind, prompt):
    captioner = ImageCaptioner.from_pretrained(folders[kind], prompt=prompt, max_new_tokens=6)
    together = captioner(images())
    assert together == [captioner([image])[0] for image in images()] == captioner(images())
    assert len(set(together)) > 1, 'the image decides'
    assert all(caption == ' '.join(caption.split()) and '<' not in caption for caption in together)
    assert captioner([]) == []


def test_greedy_captions_by_hand(folders):
    """BLIP-2 step by step: the most likely next word behind the projected queries, until the end of the text."""
    captioner = ImageCaptioner.from_pretrained(folders['blip-2'], prompt='a photo of', max_new_tokens=6, num_beams=1)
    model, tokenizer = captioner.model, captioner.processor.tokenizer
    for image in images():
        pixels = captioner.processor(images=image, input_data_format='channels_last', return_tensors='pt').pixel_values
        with torch.no_grad():
            seen = model.vision_model(pixels).last_hidden_state
            queries = model.qformer(query_embeds=model.query_tokens, encoder_hidden_states=seen).last_hidden_state
            ids = [tokenizer.bos_token_id, *tokenizer('a photo of', add_special_tokens=False).input_ids]
            said = []
            while len(said) < 6 and tokenizer.eos_token_id not in said:
                words = model.get_input_embeddings()(torch.tensor([ids + said]))
                inputs = torch.cat([model.language_projection(queries), words], 1)
                said.append(model.language_model(inputs_embeds=inputs).logits[0, -1].argmax().item())
        assert captioner([image]) == [tokenizer.decode(said, skip_special_tokens=True)]


def test_a_prompt_does_not_hide_the_image(folders):
    """A processor without the number of queries would leave them out."""
    captioner = ImageCaptioner.from_pretrained(folders['blip-2'], prompt='a', max_new_tokens=6)
    processor = captioner.processor
    processor.num_query_tokens = None
    assert ImageCaptioner(captioner.model, processor).processor.num_query_tokens == QUERIES


def test_one_line_without_the_prompt(folders):
    captioner = ImageCaptioner.from_pretrained(folders['blip'], prompt='A photo of')
    assert captioner._caption('\n a photo of  a red\tchair \nand more') == 'a red chair'
    captioner.prompt = ''
    assert captioner._caption('a photo of a  red chair\n') == 'a photo of a red chair'
    assert captioner._caption(' \n ') == ''


def test_dtypes(folders):
    captioner = ImageCaptioner.from_pretrained(folders['blip-2'], torch.bfloat16, max_new_tokens=4)
    assert captioner.model.dtype == torch.bfloat16 and len(captioner(images(2))) == 2
    assert default_dtype('cpu') == torch.float32
    with pytest.raises(ValueError, match='max_new_tokens=0'):
        ImageCaptioner.from_pretrained(folders['blip-2'], max_new_tokens=0)


def test_what_is_no_captioner(folders, tmp_path, tiny_diffusion):
    for path in (tmp_path / 'none', './none', 'a/b/c'):
        with pytest.raises(FileNotFoundError, match='found nothing, expected the folder of a captioning model'):
            check_captioner(path)
    (tmp_path / 'file').touch()
    with pytest.raises(FileNotFoundError, match='found a file'):
        check_captioner(tmp_path / 'file')
    with pytest.raises(FileNotFoundError, match='missing config.json; processor_config.json or .* found file'):
        check_captioner(tmp_path)
    tiny_diffusion.save_folder(tmp_path / 'diffusion')
    with pytest.raises(ValueError, match='is a diffusers folder'):
        check_captioner(tmp_path / 'diffusion')


def test_a_hub_id_that_is_not_at_hand():
    with pytest.raises(FileNotFoundError, match=r'hf download OWNER/NAME --local-dir FOLDER'):
        check_captioner('nobody/no-such-captioner')


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (dict(model_type='clip'), ValueError, "found a model of type 'clip', expected one of blip-2, blip, git"),
        (dict(image_token_index=None), ValueError, 'lacks image_token_index'),
    ],
)
def test_other_configurations(tmp_path, change, error, message):
    save_captioner(tmp_path)
    config = json.loads((tmp_path / 'config.json').read_text())
    (tmp_path / 'config.json').write_text(json.dumps(config | change))
    with pytest.raises(error, match=message):
        ImageCaptioner.from_pretrained(tmp_path)


def test_incomplete_and_damaged_folders(tmp_path):
    save_captioner(tmp_path)
    weights = (tmp_path / 'model.safetensors').read_bytes()
    (tmp_path / 'model.safetensors').write_bytes(weights[:-100])
    with pytest.raises(ValueError, match='damaged or do not fit'):
        ImageCaptioner.from_pretrained(tmp_path)
    (tmp_path / 'model.safetensors').unlink()
    with pytest.raises(
        FileNotFoundError, match='found no weights .*expected diffusion_pytorch_model.safetensors or model'
    ):
        check_captioner(tmp_path)
    index = dict(weight_map={'a': 'model-00001-of-00002.safetensors', 'b': 'model-00002-of-00002.safetensors'})
    (tmp_path / 'model.safetensors.index.json').write_text(json.dumps(index))
    (tmp_path / 'model-00001-of-00002.safetensors').touch()
    with pytest.raises(
        FileNotFoundError,
        match=r'missing model-00002-of-00002\.safetensors, of which .*index',
    ):
        check_captioner(tmp_path)


def test_weights_of_another_size(tmp_path):
    save_captioner(tmp_path)
    config = json.loads((tmp_path / 'config.json').read_text())
    config['num_query_tokens'] = QUERIES + 1
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r'cannot be loaded|do not fit'):
        ImageCaptioner.from_pretrained(tmp_path)
