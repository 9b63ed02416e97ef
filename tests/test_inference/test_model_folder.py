"""A trained model as a folder: written, read, built in, from the hub and to it; nothing in a folder is run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from safetensors.torch import load_file
from transformers import SwinConfig, SwinForImageClassification

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1 import Diff2in1
from mmdiff2in1.__main__ import main
from mmdiff2in1.core.label_files import read_png
from mmdiff2in1.generators.class_embeddings import write_class_embeddings
from mmdiff2in1.inference import Claims, Diff2in1Inferencer, push_to_hub, teacher_from
from mmdiff2in1.inference.folder_config import read_folder_config, write_folder_config
from mmdiff2in1.inference.model_folder import EMBEDDINGS
from mmdiff2in1.inference.perception import logits_of
from mmdiff2in1.training.file_digests import sampled_digest

MEAN = [100.0, 120.0, 140.0]
SEGMENTOR = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=MEAN, std=[60.0] * 3, bgr_to_rgb=True, size=(16, 16)),
    backbone=dict(type='UNet', base_channels=4, num_stages=2, strides=(1, 1), enc_num_convs=(1, 1), dec_num_convs=(1,),
                  downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,),
                  init_cfg=dict(type='Pretrained', checkpoint='/home/somebody/unet.pth')),
    decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=3, in_index=-1),
    test_cfg=dict(mode='whole'),
)  # fmt: skip
META = dict(classes=('floor', 'wall', 'red ball'), palette=[[150, 110, 70], [1, 2, 3], [200, 0, 9]])
FILES = ['README.md', 'config.json', 'model.safetensors']


def config(model, **more):
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    return Config(dict(model=model, default_scope='mmseg', test_pipeline=steps, work_dir='/home/somebody') | more)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


@pytest.fixture
def trained(tmp_path):
    """A self-improving config, its checkpoint in which θ_C and θ_E differ, and both as files."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    cfg = config(dict(type='SelfImprovingSegmentor', segmentor=SEGMENTOR), stages=dict(synthesis=dict(T=[200, 300])))
    model = MODELS.build(cfg.model)
    for parameter in model.creator.parameters():
        parameter.data = torch.randn_like(parameter)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=META)), tmp_path / 'iter_9.pth')
    cfg.dump(tmp_path / 'config.py')
    return cfg, tmp_path / 'iter_9.pth', tmp_path / 'config.py'


@pytest.fixture
def folder(trained, tmp_path):
    cfg, checkpoint, _ = trained
    return Diff2in1Inferencer(cfg, checkpoint, device='cpu').save_pretrained(tmp_path / 'handed')


def logits(inferencer, image):
    with torch.no_grad():
        return logits_of(inferencer.segmentor, inferencer._pipeline, [image])[0]


@pytest.mark.parametrize('which', ['creator', 'exploiter'])
def test_there_and_back(trained, tmp_path, image, which):
    cfg, checkpoint, _ = trained
    before = Diff2in1Inferencer(cfg, checkpoint, which, device='cpu')
    folder = before.save_pretrained(tmp_path / 'handed')
    after = Diff2in1.from_pretrained(folder, device='cpu')
    assert torch.equal(logits(before, image), logits(after, image))
    assert type(after) is Diff2in1Inferencer and type(after.segmentor).__name__ == 'EncoderDecoder'
    assert after.dataset_meta == META and after(image)[0].classes == META['classes']
    assert after.cfg.stages.synthesis.T == [200, 300]
    assert sorted(each.name for each in folder.iterdir()) == FILES
    assert 'somebody' not in (folder / 'config.json').read_text()
    # And once more, from what was read.
    again = Diff2in1.from_pretrained(after.save_pretrained(tmp_path / 'second'), device='cpu')
    assert torch.equal(logits(again, image), logits(before, image))
    for name in ('config.json', 'model.safetensors'):
        assert (folder / name).read_bytes() == (tmp_path / 'second' / name).read_bytes()


def test_a_plain_model_and_the_command(trained, tmp_path, image, capsys):
    torch.manual_seed(1)
    plain = MODELS.build(SEGMENTOR)
    torch.save(dict(state_dict=plain.state_dict(), meta=dict(dataset_meta=META)), tmp_path / 'plain.pth')
    config(SEGMENTOR).dump(tmp_path / 'plain.py')
    (tmp_path / 'metrics.json').write_text('{"mIoU": 61.25, "aAcc": 80}')
    asked = ['export', str(tmp_path / 'plain.pth'), '--config', str(tmp_path / 'plain.py'), '--folder']
    told = ['--metrics', str(tmp_path / 'metrics.json'), '--license', 'CC-BY-4.0', '--note', 'One seed, 600 labels.']
    main([*asked, str(tmp_path / 'small-rooms'), *told])
    assert 'small-rooms' in capsys.readouterr().out
    stored = load_file(tmp_path / 'small-rooms' / 'model.safetensors')
    assert stored.keys() == plain.state_dict().keys()
    card = (tmp_path / 'small-rooms' / 'README.md').read_text()
    for text in ('license: CC-BY-4.0\n', '# small-rooms', '| mIoU | 61.25 |', '| aAcc | 80 |', 'One seed',
                 '0 floor, 1 wall, 2 red ball',
                 f'mmdiff2in1 {mmdiff2in1.__version__}', 'image-segmentation'):  # fmt: skip
        assert text in card, text
    of = dict(checkpoint='plain.pth', digest=sampled_digest(tmp_path / 'plain.pth'), metrics=dict(mIoU=61.25, aAcc=80))
    (tmp_path / 'tested.json').write_text(json.dumps(of))
    main([*asked, str(tmp_path / 'its-own'), *told])
    (tmp_path / 'tested.json').write_text(json.dumps(of | dict(checkpoint='other.pth', digest='0')))
    with pytest.raises(SystemExit, match=r'holds the scores of other.pth, not of .*plain.pth; test that one'):
        main([*asked, str(tmp_path / 'of-another'), *told])
    main(['export', str(trained[1]), '--config', str(trained[2]), '--folder', str(tmp_path / 'theta_E'), '--model',
          'exploiter'])  # fmt: skip
    wanted = Diff2in1Inferencer(str(trained[2]), trained[1], 'exploiter', device='cpu')
    assert torch.equal(
        logits(Diff2in1.from_pretrained(tmp_path / 'theta_E', device='cpu'), image), logits(wanted, image)
    )
    assert 'not stated' in (tmp_path / 'theta_E' / 'README.md').read_text()

    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'notes.txt').write_text('mine')
    for arguments, message in (
        ([*asked, str(tmp_path / 'full')], 'full is there already; name another place, or add --overwrite'),
        ([*asked, str(tmp_path / 'full'), '--overwrite'], 'full holds notes.txt; name a new or an empty folder'),
        ([*asked, str(tmp_path / 'small-rooms')], 'small-rooms is there already'),
        (['export', str(trained[1]), '--out', str(tmp_path / 'plain.pth')], 'plain.pth is there already'),
        ([*asked, str(tmp_path / 'new'), '--metrics', str(tmp_path / 'plain.py')], 'plain.py is no JSON'),
    ):
        with pytest.raises(SystemExit, match=message):
            main(arguments)
    assert (tmp_path / 'small-rooms' / 'README.md').read_text() == card
    main([*asked, str(tmp_path / 'small-rooms'), '--overwrite'])
    assert 'not stated' in (tmp_path / 'small-rooms' / 'README.md').read_text()
    for arguments, message in (
        (['export', 'a.pth', '--folder', 'x'], '--folder needs --config'),
        (['export', 'a.pth', '--out', 'x.pth', '--license', 'MIT'], '--license belongs to --folder'),
        (['export', 'a.pth'], 'one of the arguments --folder --out --onnx is required'),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err


def test_tuples_stay_tuples_and_lists_lists(tmp_path):
    model = dict(type='FCNHead', a=(1, [2, (3,)]), b=[(), dict(c=(4, 5))], d=None)
    write_folder_config(tmp_path, Config(dict(model=model)))
    assert read_folder_config(tmp_path).model.to_dict() == model
    with pytest.raises(ValueError, match='no text, or holds a dot'):
        write_folder_config(tmp_path, Config(dict(model={'a.b': (1,)})))
    with pytest.raises(ValueError, match='as JSON: Object of type'):
        write_folder_config(tmp_path, Config(dict(model=dict(a=np.zeros(1)))))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(type='os.system', command='touch {marker}'), "model.type is 'os.system', which no module"),
        (dict(type='subprocess.Popen', args=['touch', '{marker}']), 'subprocess.Popen'),
        (dict(type='evil'), "model.type is 'evil'"),
        (dict(type='mmengine.load', file='evil.json'), 'mmengine.load'),
        (dict(decode_head=dict(loss_decode=dict(class_weight='{marker}.pkl'))), 'decode_head.loss_decode.class_weight'),
        (dict(train_cfg=dict(init_cfg=[dict(type='torch.load', f='x')])), 'model.train_cfg.init_cfg.0.type'),
        (dict(_scope_='evil'), "_scope_ is 'evil', expected one of mmengine"),
    ],
)
def test_no_code_is_run(folder, tmp_path, monkeypatch, change, message):
    marker = tmp_path / 'ran'
    for place in (folder, tmp_path):
        (place / 'evil.py').write_text(f'open({str(marker)!r}, "w").close()\n')
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    cfg = json.loads((folder / 'config.json').read_text())
    cfg['model'] |= json.loads(json.dumps(change).replace('{marker}', str(marker)))
    (folder / 'config.json').write_text(json.dumps(cfg))
    with pytest.raises(ValueError, match=message) as caught:
        Diff2in1.from_pretrained(folder)
    assert '\n' not in str(caught.value) and not marker.exists() and 'evil' not in sys.modules


def test_modules_are_the_users_to_import(folder, monkeypatch, tmp_path, image):
    (folder / 'my_losses.py').write_text(f'open({str(tmp_path / "ran")!r}, "w").close()\n')
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    cfg = json.loads((folder / 'config.json').read_text())
    cfg['custom_imports']['imports'] += ['my_losses']
    (folder / 'config.json').write_text(json.dumps(cfg))
    with pytest.raises(ValueError, match='needs my_losses, which .* write `import my_losses` before'):
        Diff2in1.from_pretrained(folder)
    assert not (tmp_path / 'ran').exists()
    monkeypatch.setitem(sys.modules, 'my_losses', sys)
    assert Diff2in1.from_pretrained(folder, device='cpu')(image)[0].map.shape == (16, 24)
    # `_base_` is a word like any other: no file is read for it.
    (folder / 'config.json').write_text(json.dumps(cfg | dict(_base_=['./my_losses'])))
    Diff2in1.from_pretrained(folder, device='cpu')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    ('spoil', 'error', 'message'),
    [
        (lambda folder: (folder / 'config.json').unlink(), FileNotFoundError, 'missing config.json, found README.md'),
        (lambda folder: (folder / 'model.safetensors').unlink(), FileNotFoundError, 'missing model.safetensors, found'),
        (lambda folder: (folder / 'config.json').write_text('{'), ValueError, 'config.json is not valid JSON'),
        (lambda folder: (folder / 'config.json').write_text('[]'), ValueError, 'holds a list, expected an object'),
        (lambda folder: (folder / 'config.json').write_text('{"a": 1}'), ValueError, 'describes no model'),
        (lambda folder: (folder / 'config.json').write_text('{"model": {"type": "UNet"}, "tuples": ["model.x"]}'),
         ValueError, '`tuples` names a place that is not there'),
        (lambda folder: (folder / 'model.safetensors').write_bytes(b'version https://git-lfs'), ValueError,
         'a pointer of Git LFS'),
        (lambda folder: (folder / 'model.safetensors').write_bytes(
            (folder / 'model.safetensors').read_bytes()[:-40]), ValueError, 'cannot be read'),
    ],
)  # fmt: skip
def test_odd_folders_are_refused(folder, spoil, error, message):
    spoil(folder)
    with pytest.raises(error, match=message) as caught:
        Diff2in1.from_pretrained(folder)
    assert '\n' not in str(caught.value)


def test_places(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError,
        match=r'no built-in model .unet_scene.; did you mean unet_scenes\?; known: builtin:scenes',
    ):
        Diff2in1.from_pretrained('builtin:unet_scene')
    for place in (tmp_path / 'none', './owner/name', 'name', '~/a'):
        with pytest.raises(FileNotFoundError, match='found no folder of a model; expected one, builtin:NAME, or'):
            Diff2in1.from_pretrained(place)


def test_the_hub_there_and_back(folder, tmp_path, monkeypatch, image):
    """Against a hub that is a folder; what is sent lies in the cache as the hub's own library lays it out."""
    (folder / 'private.txt').write_text('not to be sent')
    sent = []

    class Api:
        def create_repo(self, name, private, exist_ok):
            assert exist_ok
            sent.append((name, private))

        def upload_folder(self, repo_id, folder_path, allow_patterns):
            commit, place = 'a' * 40, tmp_path / 'hub' / f'models--{repo_id.replace("/", "--")}'
            (place / 'refs').mkdir(parents=True)
            (place / 'refs' / 'main').write_text(commit)
            for name in set(allow_patterns) & {each.name for each in Path(folder_path).iterdir()}:
                (place / 'snapshots' / commit).mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(folder_path) / name, place / 'snapshots' / commit)
            return f'https://hub/{repo_id}'

    monkeypatch.setattr('huggingface_hub.HfApi', Api)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    with pytest.raises(FileNotFoundError, match='cannot be had from the Hugging Face hub .*name that folder'):
        Diff2in1.from_pretrained('somebody/rooms')
    assert push_to_hub(folder, 'somebody/rooms', private=True) == 'https://hub/somebody/rooms'
    assert sent == [('somebody/rooms', True)]
    assert sorted(each.name for each in (tmp_path / 'hub').rglob('snapshots/*/*')) == FILES
    here, there = (Diff2in1.from_pretrained(place, device='cpu') for place in (folder, 'somebody/rooms'))
    assert torch.equal(logits(here, image), logits(there, image))
    (folder / 'config.json').write_text('{}')
    with pytest.raises(ValueError, match='describes no model'):
        push_to_hub(folder, 'somebody/rooms')


def test_a_diffusion_model_beside_the_folder(tmp_path, tiny_diffusion):
    """A backbone that reads one from a folder of somebody's says so, and is told where it lies now."""
    tiny_diffusion.save_folder(tmp_path / 'tiny-diffusion')
    head = dict(type='FCNHead', in_channels=16, in_index=0, channels=4, num_convs=1, num_classes=3)
    place = str(tmp_path / 'tiny-diffusion')
    backbone = dict(type='DiffusionBackbone', diffusion=place, classes=list(META['classes']))
    model = SEGMENTOR | dict(backbone=backbone, decode_head=head)
    model['data_preprocessor'] = SEGMENTOR['data_preprocessor'] | dict(mean=[127.5] * 3, std=[127.5] * 3)
    init_default_scope('mmseg')
    head['in_channels'] = MODELS.build(backbone).out_channels[0]
    before = Diff2in1Inferencer(config(model), device='cpu')
    folder = before.save_pretrained(tmp_path / 'handed', Claims(license='MIT'))
    assert place not in (folder / 'config.json').read_text()
    assert 'the diffusion model `tiny-diffusion`, which is not in this folder' in (folder / 'README.md').read_text()
    with pytest.raises(ValueError, match="the diffusion model 'tiny-diffusion', which is not in the folder; name its"):
        Diff2in1.from_pretrained(folder)
    with pytest.raises(ValueError, match='not in the folder; as a teacher name its own config'):
        teacher_from(folder)
    after = Diff2in1.from_pretrained(folder, device='cpu', diffusion=place)
    image = np.zeros((16, 16, 3), np.uint8)
    assert torch.equal(logits(before, image), logits(after, image))

    # Its frozen weights are not stored a second time; others in their place are refused.
    stored = load_file(folder / 'model.safetensors')
    assert sorted({name.partition('.')[0] for name in stored}) == ['backbone', 'decode_head']
    assert not any(name.startswith('backbone.diffusion') for name in stored)
    tiny_diffusion.unet.conv_in.bias.data += 1
    tiny_diffusion.save_folder(tmp_path / 'other')
    with pytest.raises(ValueError, match='other holds other weights .* than this model was trained on .*; name the'):
        Diff2in1.from_pretrained(folder, device='cpu', diffusion=tmp_path / 'other')
    # What a checkpoint held instead of those is stored, whatever lies at the place by now.
    before.segmentor.backbone.diffusion.unet.conv_in.bias.data += 0.5
    kept = before.save_pretrained(tmp_path / 'kept')
    assert 'backbone.diffusion.unet.conv_in.bias' in load_file(kept / 'model.safetensors')
    after = Diff2in1.from_pretrained(kept, device='cpu', diffusion=tmp_path / 'other')
    assert torch.equal(logits(before, image), logits(after, image))


def test_half_the_size(folder):
    """Parameters as float16, running statistics as they are; what is read is float32."""
    whole = load_file(folder / 'model.safetensors')
    before = Diff2in1.from_pretrained(folder, device='cpu')
    half = before.save_pretrained(folder.with_name('half'), half=True)
    stored = load_file(half / 'model.safetensors')
    parameters = dict(before.segmentor.named_parameters())
    assert {name for name, tensor in stored.items() if tensor.dtype == torch.float16} == set(parameters)
    assert all(torch.equal(stored[name], whole[name].to(stored[name].dtype)) for name in whole)
    after = Diff2in1.from_pretrained(half, device='cpu').segmentor.state_dict()
    assert all(torch.equal(tensor, whole[name].to(stored[name].dtype).to(tensor)) for name, tensor in after.items())
    assert {tensor.dtype for tensor in after.values()} == {torch.float32, torch.int64}


def test_the_package_alone_is_light():
    script = "import sys, mmdiff2in1; print({'torch', 'numpy'} & set(sys.modules), 'Diff2in1' in dir(mmdiff2in1))"
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ['set()', 'True']
    with pytest.raises(AttributeError, match="has no attribute 'Diff3in1'"):
        mmdiff2in1.Diff3in1  # noqa: B018


@pytest.mark.parametrize('file', ['mine.safetensors', 'plain.pth'])
def test_class_tokens_of_a_file_go_along(tmp_path, image, tiny_diffusion_config, file):
    """The config names a file of this machine; the folder holds a copy, and stands alone once it has moved."""
    init_default_scope('mmseg')
    names, width = ['floor', 'wall', 'red ball'], tiny_diffusion_config['unet']['cross_attention_dim']
    tokens = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    if file == 'plain.pth':
        torch.save(tokens, tmp_path / file)
    else:
        write_class_embeddings(tmp_path / file, tokens, names)
    backbone = dict(type='DiffusionBackbone', diffusion=tiny_diffusion_config, classes=names)
    backbone |= dict(class_embeddings=str(tmp_path / file))
    head = dict(SEGMENTOR['decode_head'], in_channels=8, in_index=0)
    model = SEGMENTOR | dict(backbone=backbone, decode_head=head)
    model['data_preprocessor'] = SEGMENTOR['data_preprocessor'] | dict(mean=[127.5] * 3, std=[127.5] * 3)
    before = Diff2in1Inferencer(config(model), device='cpu')
    assert torch.equal(before.segmentor.backbone.tokens, tokens)
    before.save_pretrained(tmp_path / 'handed')
    assert sorted(each.name for each in (tmp_path / 'handed').iterdir()) == sorted([*FILES, EMBEDDINGS])
    assert str(tmp_path) not in (tmp_path / 'handed' / 'config.json').read_text()
    (tmp_path / 'handed').rename(tmp_path / 'moved')
    (tmp_path / file).unlink()
    after = Diff2in1.from_pretrained(tmp_path / 'moved', device='cpu')
    assert torch.equal(logits(after, image), logits(before, image))
    after.save_pretrained(tmp_path / 'again')
    for name in (EMBEDDINGS, 'config.json'):
        assert (tmp_path / 'again' / name).read_bytes() == (tmp_path / 'moved' / name).read_bytes()


def test_a_backbone_of_transformers_needs_no_folder(tmp_path, image):
    shape = dict(embed_dim=4, depths=[1, 1], num_heads=[1, 2], window_size=2, image_size=16, patch_size=2)
    SwinForImageClassification(SwinConfig(**shape)).save_pretrained(tmp_path / 'swin')
    head = dict(SEGMENTOR['decode_head'], in_channels=8, in_index=-1)
    model = SEGMENTOR | dict(backbone=dict(type='HFBackbone', model=str(tmp_path / 'swin')), decode_head=head)
    before = Diff2in1Inferencer(config(model), device='cpu')
    folder = before.save_pretrained(tmp_path / 'handed')
    shutil.rmtree(tmp_path / 'swin')
    after = Diff2in1.from_pretrained(folder, device='cpu')
    assert torch.equal(logits(after, image), logits(before, image))
    assert str(tmp_path) not in (folder / 'config.json').read_text()


@pytest.mark.parametrize(
    ('dataset', 'shift'),
    [
        (dict(type='ADE20KDataset'), 1),
        (dict(type='ADE20KDataset', reduce_zero_label=False), 0),
        (dict(type='CityscapesDataset'), 0),
        (dict(type='BaseSegDataset', reduce_zero_label=True), 1),
    ],
)
def test_maps_are_saved_as_the_label_files_of_the_data_set(tmp_path, image, dataset, shift):
    torch.manual_seed(0)
    model = Diff2in1Inferencer(config(SEGMENTOR, test_dataloader=dict(dataset=dataset)), device='cpu')
    handed_on = Diff2in1.from_pretrained(model.save_pretrained(tmp_path / 'handed'), device='cpu')
    for one in (model, handed_on):
        (seen,) = one(image)
        assert len(np.unique(seen.map)) > 1
        stored = read_png(seen.save(tmp_path / 'map.png'))
        assert np.array_equal(stored, seen.map + shift)
        assert np.array_equal(seen.maps['semantic_segmentation'].decode(stored), seen.map)
    checkpoint = tmp_path / 'a.pth'  # what mmseg's data set has said in a training goes first
    state = model.segmentor.state_dict()
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=META | dict(reduce_zero_label=not shift))), checkpoint)
    (seen,) = Diff2in1Inferencer(model.cfg, checkpoint, device='cpu')(image)
    assert np.array_equal(read_png(seen.save(tmp_path / 'map.png')), seen.map + (1 - shift))
