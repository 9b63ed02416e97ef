"""The command lines of tools/test.py and tools/generate.py on tiny models: their numbers, files and refusals.

Four images of 16 x 24, K = 3 classes; θ_C and θ_E have unlike random weights.
"""

import copy
import importlib.util
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from PIL import Image

from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.tasks import SemanticSegmentation
from mmdiff2in1.training.chain import build_runner
from mmdiff2in1.visualization import Perceived, prediction_panel, sheet_layout

ROOT = Path(__file__).parents[2]
TINY_DIFFUSION = runpy.run_path(str(ROOT / 'tests' / 'conftest.py'))['TINY_DIFFUSION']
K, H, W = 3, 16, 24
CLASSES = ('floor', 'wall', 'red ball')
PALETTE = [[150, 110, 70], [1, 2, 3], [200, 0, 9]]
RESNET = dict(
    type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1),
    out_indices=(1,), norm_cfg=dict(type='BN'),
)  # fmt: skip
DIFFUSION = dict(
    type='DiffusionBackbone', diffusion=TINY_DIFFUSION, classes=CLASSES, feature=dict(latent_scale=True, timestep=50)
)


def tool(name):
    spec = importlib.util.spec_from_file_location(f'{name}_tool', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(folder, backbone=RESNET, self_improving=True, **dataset):
    in_index, in_channels = (0, 8) if backbone is RESNET else (1, 19)
    head = dict(
        type='FCNHead', in_channels=in_channels, in_index=in_index, channels=8, num_convs=1, num_classes=K,
        dropout_ratio=0, concat_input=False, norm_cfg=dict(type='BN'),
    )  # fmt: skip
    model = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True),
        backbone=backbone,
        decode_head=head if backbone is RESNET else dict(type='GenerativeDecodeHead', head=head),
        test_cfg=dict(mode='whole'),
    )
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    data = dict(
        type='BaseSegDataset', data_root=str(folder / 'data'), img_suffix='.png', pipeline=pipeline,
        data_prefix=dict(img_path='images', seg_map_path='labels'), metainfo=dict(classes=CLASSES, palette=PALETTE),
    )  # fmt: skip
    return Config(
        dict(
            custom_imports=dict(imports=['mmdiff2in1.components'], allow_failed_imports=False),
            default_scope='mmseg',
            log_level='WARNING',
            work_dir=str(folder / 'work'),
            model=dict(type='SelfImprovingSegmentor', segmentor=model) if self_improving else model,
            test_dataloader=dict(
                batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False), dataset=data | dataset
            ),
            test_cfg=dict(type='SelfImprovingTestLoop', exploiter=True) if self_improving else dict(type='TestLoop'),
            test_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
            randomness=dict(seed=0),
            stages=dict(synthesis=dict(T=600, num_calls=3, solver='ddim', size=16)),
        )
    )


def case(folder, name, *args, **kwargs):
    """A config file with a checkpoint of its model, θ_C unlike θ_E, in which no class wins everywhere."""
    cfg = config(folder, *args, **kwargs)
    cfg.dump(folder / f'{name}.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.manual_seed(0)
        model = MODELS.build(copy.deepcopy(cfg.model)).eval()
    for one in (model.creator, model.exploiter) if hasattr(model, 'creator') else (model,):
        for parameter in one.decode_head.parameters():
            parameter.data = torch.randn(parameter.shape)
        logits = logits_by_hand(one, np.asarray(Image.open(folder / 'data/images/0.png')))
        one.decode_head.conv_seg.bias.data -= logits.flatten(2).median(-1).values[0]
    meta = dict(dataset_meta=dict(classes=CLASSES, palette=PALETTE))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / f'{name}.pth')
    return SimpleNamespace(
        config=str(folder / f'{name}.py'), checkpoint=str(folder / f'{name}.pth'), model=model, folder=folder
    )


def logits_by_hand(segmentor, image):
    """Logits (1, K, H, W) for a uint8 RGB image."""
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    size = image.shape[:2]
    with torch.no_grad():
        return segmentor.encode_decode(x, [dict(ori_shape=size, img_shape=size)])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tools')
    generator = np.random.default_rng(0)
    for kind in ('images', 'labels'):
        (folder / 'data' / kind / 'kitchen').mkdir(parents=True)
    for name in ('0', '1', '2', 'kitchen/0'):
        Image.fromarray(generator.integers(0, 256, (H, W, 3), dtype=np.uint8)).save(folder / f'data/images/{name}.png')
        Image.fromarray(generator.integers(0, K, (H, W), dtype=np.uint8)).save(folder / f'data/labels/{name}.png')
    return folder


@pytest.fixture(scope='module')
def pair(folder):
    """θ_C and θ_E."""
    return case(folder, 'pair')


@pytest.fixture(scope='module')
def single(folder):
    """One plain segmentor."""
    return case(folder, 'single', self_improving=False)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())


NAMES = ['0.png', '1.png', '2.png', 'kitchen/0.png']


# --- tools/test.py ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def tester():
    return tool('test')


def metrics_of_the_runner(case):
    cfg = Config.fromfile(case.config)
    cfg.work_dir, cfg.load_from = str(case.folder / 'runner'), case.checkpoint
    return {name: float(value) for name, value in build_runner(cfg).test().items()}


def test_the_metrics_are_the_runners(tester, pair, tmp_path):
    expected = metrics_of_the_runner(pair)
    of_creator = {name: value for name, value in expected.items() if not name.startswith('exploiter/')}
    of_exploiter = {name: value for name, value in expected.items() if name.startswith('exploiter/')}
    assert of_creator['mIoU'] != of_exploiter['exploiter/mIoU']
    for flags, metrics in (
        ([], of_creator),
        (['--model', 'exploiter'], of_exploiter),
        (['--model', 'both'], expected),
    ):
        found = tester.main([pair.config, pair.checkpoint, '--work-dir', str(tmp_path), *flags])
        assert found == metrics
        assert json.loads((tmp_path / 'test' / 'metrics.json').read_text()) == metrics
        of = json.loads((tmp_path / 'test' / 'tested.json').read_text())
        assert (of['checkpoint'], of['metrics']) == (pair.checkpoint, metrics)


def test_a_plain_config_has_one_model(tester, single, pair, tmp_path, capsys):
    expected = metrics_of_the_runner(single)
    found = tester.main([single.config, single.checkpoint])
    assert found == expected == json.loads((single.folder / 'work' / 'test' / 'metrics.json').read_text())
    out = capsys.readouterr().out.splitlines()
    assert ['test', 'model'] in map(str.split, out) and ['mIoU', f'{expected["mIoU"]:.4g}'] in map(str.split, out)
    with pytest.raises(SystemExit, match='--model creator: the config holds one EncoderDecoder'):
        tester.main([single.config, single.checkpoint, '--model', 'creator'])
    # Checkpoints of the other kind: θ_C out of a pair, one model for both.
    work_dir = ['--work-dir', str(tmp_path)]
    of_pair = tester.main([pair.config, pair.checkpoint, *work_dir])
    assert tester.main([single.config, pair.checkpoint, *work_dir]) == of_pair
    both = tester.main([pair.config, single.checkpoint, *work_dir, '--model', 'both'])
    assert both == expected | {f'exploiter/{name}': value for name, value in expected.items()}


def test_predictions_and_pictures(tester, pair, tmp_path):
    out, pictures = tmp_path / 'out', tmp_path / 'pictures'
    flags = ['--work-dir', str(tmp_path / 'work'), '--out', str(out), '--show-dir', str(pictures)]
    tester.main([pair.config, pair.checkpoint, '--model', 'both', *flags])
    assert files(out) == [f'{which}/{name}' for which in ('creator', 'exploiter') for name in NAMES]
    assert files(pictures) == NAMES
    for name in NAMES:
        image, truth = (np.asarray(Image.open(pair.folder / 'data' / kind / name)) for kind in ('images', 'labels'))
        predictions = []
        for which in ('creator', 'exploiter'):
            written = np.asarray(Image.open(out / which / name))
            expected = logits_by_hand(getattr(pair.model, which), image)[0].argmax(0).numpy()
            assert written.dtype == np.uint8 and (written == expected).mean() > 0.99
            assert len(np.unique(written)) > 1
            predictions.append(written)
        row = Perceived(image, truth, predictions, caption=name)
        task = SemanticSegmentation(len(PALETTE), palette=PALETTE, classes=CLASSES)
        panel = prediction_panel([row], task, ['θ_C', 'θ_E'])
        np.testing.assert_array_equal(np.asarray(Image.open(pictures / name)), panel)


def test_predictions_of_one_model_stand_in_the_folder_itself(tester, single, tmp_path):
    tester.main([single.config, single.checkpoint, '--out', str(tmp_path / 'out')])
    assert files(tmp_path / 'out') == NAMES
    # Label files in which 0 is ignored and the classes start at 1.
    shifted = case(single.folder, 'shifted', self_improving=False, reduce_zero_label=True)
    tester.main([shifted.config, single.checkpoint, '--out', str(tmp_path / 'shifted')])
    for name in NAMES:
        plain, raw = (np.asarray(Image.open(tmp_path / kind / name)) for kind in ('out', 'shifted'))
        np.testing.assert_array_equal(raw, plain + 1)
    again = [shifted.config, single.checkpoint, '--out', str(tmp_path / 'out')]
    before = [(tmp_path / 'out' / name).read_bytes() for name in NAMES]
    with pytest.raises(SystemExit, match='out is there already; name another place, or add --overwrite'):
        tester.main(again)
    assert [(tmp_path / 'out' / name).read_bytes() for name in NAMES] == before
    tester.main([*again, '--overwrite'])
    assert [(tmp_path / 'out' / name).read_bytes() for name in NAMES] != before


def test_augmentation_is_the_mean_over_scales_and_mirror_images(tester, pair, tmp_path):
    out = tmp_path / 'out'
    flags = ['--work-dir', str(tmp_path), '--out', str(out), '--tta', '--model', 'exploiter']
    tester.main([pair.config, pair.checkpoint, *flags])
    for name in NAMES:
        image = np.asarray(Image.open(pair.folder / 'data' / 'images' / name))
        mean = torch.zeros(K, H, W)
        for scale in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75):
            scaled = mmcv.imrescale(image, scale)
            for mirrored in (False, True):
                logits = logits_by_hand(pair.model.exploiter, scaled[:, ::-1] if mirrored else scaled)
                logits = logits.flip(-1) if mirrored else logits
                mean += F.interpolate(logits, (H, W), mode='bilinear').softmax(1)[0]
        agreeing = np.asarray(Image.open(out / name)) == mean.argmax(0).numpy()
        assert agreeing.mean() > 0.99


def test_augmentation_of_the_config(tester, single, tmp_path):
    cfg = Config.fromfile(single.config)
    load, labels, pack = cfg.test_dataloader.dataset.pipeline
    cfg.tta_model = dict(type='SegTTAModel')
    views = [[dict(type='RandomFlip', prob=0.0)], [labels], [pack]]
    cfg.tta_pipeline = [load, dict(type='TestTimeAug', transforms=views)]
    cfg.dump(tmp_path / 'own.py')
    augmented = tester.main([str(tmp_path / 'own.py'), single.checkpoint, '--tta'])
    assert augmented == tester.main([single.config, single.checkpoint])  # one view, not mirrored: the image itself


def test_depth_is_written_in_millimetres(tester, folder, tmp_path):
    metres = np.random.default_rng(1).uniform(1, 9, (3, H, W))
    for kind in ('images', 'depth'):
        (tmp_path / kind).mkdir()
    for i, depth in enumerate(metres):
        Image.fromarray(np.round(depth * 1000).astype(np.uint16)).save(tmp_path / f'depth/{i}.png')
        Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(tmp_path / f'images/{i}.png')
    cfg = config(folder, self_improving=False)
    cfg.model.type = 'DepthEstimator'
    cfg.model.decode_head.update(num_classes=1, threshold=0.5)
    cfg.test_evaluator = dict(type='DepthMetric')
    load, _, pack = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset = dict(
        type='ScenesDataset', data_root=str(tmp_path), data_prefix=dict(img_path='images', depth_map_path='depth'),
        pipeline=[load, dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3), pack],
    )  # fmt: skip
    cfg.dump(tmp_path / 'depth.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        for parameter in model.decode_head.conv_seg.parameters():
            parameter.fill_(2.5 if parameter.ndim == 1 else 0.0)
    torch.save(model.state_dict(), tmp_path / 'depth.pth')
    out, pictures = tmp_path / 'out', tmp_path / 'pictures'
    flags = ['--out', str(out), '--show-dir', str(pictures), '--work-dir', str(tmp_path)]
    found = tester.main([str(tmp_path / 'depth.py'), str(tmp_path / 'depth.pth'), *flags])
    rmse = np.sqrt(((np.round(metres, 3) - 2.5) ** 2).mean((1, 2))).mean()
    assert found['rmse'] == pytest.approx(rmse, rel=1e-3)
    assert files(out) == files(pictures) == ['0.png', '1.png', '2.png']
    written = np.asarray(Image.open(out / '0.png'))
    assert written.dtype == np.uint16 and (written == 2500).all()


def test_a_checkpoint_that_does_not_fit(tester, single, tmp_path):
    state = torch.load(single.checkpoint, weights_only=True)['state_dict']
    state['more'] = state.pop('decode_head.conv_seg.bias')
    torch.save(state, tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match=r'missing 1: decode_head\.conv_seg\.bias\n  unexpected 1: more'):
        tester.main([single.config, str(tmp_path / 'other.pth')])
    with pytest.raises(SystemExit, match='none.pth'):
        tester.main([single.config, str(tmp_path / 'none.pth')])


# --- tools/generate.py -----------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def generate_tool():
    return tool('generate')


@pytest.fixture(scope='module')
def diffusing(folder):
    return case(folder, 'diffusing', DIFFUSION)


def sample_files(count):
    return [f'{folder}/{i:04d}.png' for folder in ('colours', 'images', 'labels') for i in range(count)]


def test_prompts_become_exactly_the_promised_files(generate_tool, diffusing, tmp_path, capsys):
    out = tmp_path / 'out'
    flags = ['--prompt', 'a red ball', '--prompt', 'a table', '--num', '2', '--seed', '7', '--out', str(out)]
    generate_tool.main([diffusing.config, diffusing.checkpoint, *flags])
    assert files(out) == sorted([*sample_files(4), 'recipes.json', 'sheet.png'])
    assert '4 samples, T=1000, 3 denoising calls each, 1 more for the map' in capsys.readouterr().out

    inferencer = Diff2in1Inferencer(diffusing.config, diffusing.checkpoint, device='cpu')
    prompts, seeds = ['a red ball'] * 2 + ['a table'] * 2, [7, 8, 7, 8]
    expected = inferencer.generate(prompts, seeds=seeds)
    recipes = json.loads((out / 'recipes.json').read_text())
    samples = recipes.pop('samples')
    assert recipes == dict(
        config=diffusing.config, checkpoint=diffusing.checkpoint, model='creator', tasks=['semantic_segmentation'],
        weights_hash=diffusing.model.creator.backbone.diffusion.weights_hash(),
    )  # fmt: skip
    for i, (sample, one) in enumerate(zip(samples, expected, strict=True)):
        paths = {kind: f'{kind}/{i:04d}.png' for kind in ('images', 'labels', 'colours')}
        assert sample == one.recipe() | paths
        for kind, array in (('images', one.image), ('labels', one.map), ('colours', one.colours)):
            np.testing.assert_array_equal(np.asarray(Image.open(out / paths[kind])), array)

    sheet = np.asarray(Image.open(out / 'sheet.png'))
    rows = [[one.image, one.colours] for one in expected]
    captions = [f'{prompt} (seed {seed}, T=1000)' for prompt, seed in zip(prompts, seeds, strict=True)]
    (task,) = inferencer.tasks.values()
    legends = [task.legend(one.map) for one in expected]
    layout = sheet_layout(rows, row_captions=captions, row_legends=legends, column_captions=['created', 'map'])
    assert sheet.shape[:2] == layout.size and all(legends)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            y, x = layout.origin(row, column)
            shown = sheet[y : y + layout.cell[0] : layout.scale, x : x + layout.cell[1] : layout.scale]
            np.testing.assert_array_equal(shown, picture)


def test_images_are_varied_and_an_earlier_run_is_replaced(generate_tool, diffusing, tmp_path):
    out, image = tmp_path / 'out', diffusing.folder / 'data/images/1.png'
    start = [diffusing.config, diffusing.checkpoint, '--out', str(out), '--image']
    generate_tool.main([*start, str(image.parent), '--caption', 'a table'])
    assert files(out) == sorted([*sample_files(4), 'recipes.json', 'sheet.png'])  # one lies in a folder below
    settings = ['--T', '200', '--num-calls', '2', '--solver', 'dpm++', '--guidance-scale', '1.5', '--size', '8', '16']
    generate_tool.main([*start, str(image), *settings, '--model', 'exploiter', '--seed', '3'])
    assert files(out) == sorted([*sample_files(1), 'recipes.json', 'sheet.png'])
    recipes = json.loads((out / 'recipes.json').read_text())
    assert recipes['model'] == 'exploiter'
    (sample,) = recipes['samples']
    assert sample == dict(
        source=image.as_posix(), caption='', seed=3, T=200, grid='even', num_calls=2, solver='dpm++',
        guidance_scale=1.5, calls=2, perception_calls=1, size=[8, 16], images='images/0000.png',
        labels='labels/0000.png', colours='colours/0000.png',
    )  # fmt: skip
    inferencer = Diff2in1Inferencer(diffusing.config, diffusing.checkpoint, 'exploiter', 'cpu')
    options = dict(T=200, num_calls=2, solver='dpm++', guidance_scale=1.5, size=(8, 16))
    one = inferencer.generate(images=image, seeds=3, **options)[0]
    np.testing.assert_array_equal(np.asarray(Image.open(out / 'images/0000.png')), one.image)
    np.testing.assert_array_equal(np.asarray(Image.open(out / 'labels/0000.png')), one.map)


def test_a_model_without_diffusion_names_one(generate_tool, single, tmp_path, tiny_diffusion):
    tiny_diffusion.save_folder(tmp_path / 'weights')
    flags = ['--prompt', 'a table', '--diffusion', str(tmp_path / 'weights')]
    out = generate_tool.main([single.config, single.checkpoint, *flags])
    assert out == single.folder / 'work' / 'generated'
    recipes = json.loads((out / 'recipes.json').read_text())
    assert recipes['weights_hash'] == tiny_diffusion.weights_hash()
    created, label = (np.asarray(Image.open(out / recipes['samples'][0][kind])) for kind in ('images', 'labels'))
    np.testing.assert_array_equal(
        label, Diff2in1Inferencer(single.config, single.checkpoint, device='cpu')(created)[0].map
    )


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ([], 'one of the arguments --prompt --image is required'),
        (['--prompt', 'a', '--image', 'b'], 'not allowed with'),
        (['--prompt', 'a', '--caption', 'b'], '--caption describes an --image'),
        (['--prompt', 'a', '--num', '0'], '--num 0: expected 1 or more'),
        (['--prompt', 'a', '--size', '8', '8', '8'], '--size has 3 numbers'),
    ],
)
def test_flags_that_contradict_each_other(generate_tool, capsys, flags, message):
    with pytest.raises(SystemExit):
        generate_tool.main(['config.py', 'model.pth', *flags])
    assert message in capsys.readouterr().err


def test_wrong_images_and_captions_are_found_before_the_weights(generate_tool, pair, tmp_path):
    (tmp_path / 'none.pth').touch()
    start = [pair.config, str(tmp_path / 'none.pth'), '--image']
    with pytest.raises(SystemExit, match='none.png'):
        generate_tool.main([*start, str(tmp_path / 'none.png')])
    image = str(pair.folder / 'data/images/0.png')
    with pytest.raises(SystemExit, match='2 captions for 1 images'):
        generate_tool.main([*start, image, '--caption', 'a', '--caption', 'b'])


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('test', ('--model both', '--show-dir pictures', 'torchrun', 'metrics.json')),
        ('generate', ('--prompt "a green table in a room" --num 4', 'T_max (1000)', 'recipes.json', 'sheet.png')),
    ],
)
def test_help_teaches(name, words, capsys):
    with pytest.raises(SystemExit):
        tool(name).main(['--help'])
    out = capsys.readouterr().out
    assert all(text in out for text in words)
