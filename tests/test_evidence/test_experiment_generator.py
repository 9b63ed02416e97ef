"""The study of the generator: closed forms and slow references of its measures, its captions, and one tiny run."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import generator as tool
import numpy as np
import pytest
import torch
from generation import data, measures, metrics, network, sheet, study
from images import captions as texts
from images import creation
from mmengine.config import Config
from PIL import Image

from mmdiff2in1.core.images import from_model, to_model
from mmdiff2in1.datasets import ScenesDataset
from mmdiff2in1.datasets.scenes import CLASSES, make_scenes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """A set of a few scenes of 16 × 16 pixels."""
    counts = dict(unlabelled=6, train=8, val=5, test=4)
    return make_scenes(tmp_path_factory.mktemp('scenes'), counts, size=16, workers=1, progress=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# Distances


def test_gaussians_of_known_moments():
    mean, variances = np.zeros(3), np.array([[1.0, 4.0, 9.0], [4.0, 4.0, 1.0]])
    # Commuting covariances: the sum of the squared differences of means and standard deviations.
    found = metrics.gaussian_distance(mean, np.diag(variances[0]), mean + 2, np.diag(variances[1]))
    assert found == pytest.approx(3 * 2**2 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2)
    assert metrics.gaussian_distance(mean[:1], np.array(9.0), mean[:1] + 1, np.array(4.0)) == pytest.approx(2)


def test_gaussians_that_do_not_commute(rng):
    a, b = (factor @ factor.T for factor in rng.normal(size=(2, 4, 4)))
    trace = np.sqrt(np.linalg.eigvals(a @ b).real).sum()  # of the root of a product that is not symmetric
    expected = np.trace(a) + np.trace(b) - 2 * trace
    assert metrics.gaussian_distance(np.zeros(4), a, np.zeros(4), b) == pytest.approx(expected)


def test_frechet_distance_of_a_shifted_set_is_the_square_of_the_shift(rng):
    features = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    assert metrics.frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert metrics.frechet_distance(features, features + np.arange(6)) == pytest.approx(0 + 1 + 4 + 9 + 16 + 25)


def test_kernel_distance_against_two_loops(rng):
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(7, 3)) + 1

    def mean_kernel(one, other):
        same = one is other
        pairs = [(x, y) for i, x in enumerate(one) for j, y in enumerate(other) if not (same and i == j)]
        return sum((sum(p * q for p, q in zip(x, y, strict=True)) / 3 + 1) ** 3 for x, y in pairs) / len(pairs)

    expected = mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b)
    assert metrics.kernel_distance(a, b) == pytest.approx(expected)
    assert metrics.kernel_distance(b, a) == pytest.approx(expected)


def test_kernel_distance_is_unbiased_down_to_two_samples():
    """The mean over all draws of two from {0, 1} and two from {0, 2} is the distance of the distributions."""
    a, b = np.array([0.0, 1.0]), np.array([0.0, 2.0])
    found = [
        metrics.kernel_distance(np.array(x)[:, None], np.array(y)[:, None])
        for x in itertools.product(a, repeat=2)
        for y in itertools.product(b, repeat=2)
    ]
    kernel = lambda x, y: np.mean((np.outer(x, y) + 1) ** 3)  # noqa: E731
    assert np.mean(found) == pytest.approx(kernel(a, a) + kernel(b, b) - 2 * kernel(a, b))


def test_kernel_distance_of_one_distribution_is_zero_on_average(rng):
    found = [metrics.kernel_distance(rng.normal(size=(30, 4)), rng.normal(size=(20, 4))) for _ in range(200)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 200**0.5
    apart = metrics.kernel_distance(rng.normal(size=(30, 4)), rng.normal(size=(20, 4)) + 1)
    assert apart > 3 * np.std(found)


def test_distances_agree_with_torchmetrics(rng):
    """Where it is installed; this package does without."""
    fid = pytest.importorskip('torchmetrics.image.fid')
    kid = pytest.importorskip('torchmetrics.image.kid')

    class Itself(torch.nn.Module):
        num_features = 5

        def forward(self, features):
            return features

    a, b = rng.normal(size=(40, 5)), rng.normal(size=(40, 5)) * 1.5 + 0.3
    frechet = fid.FrechetInceptionDistance(feature=Itself()).set_dtype(torch.float64)
    kernel = kid.KernelInceptionDistance(feature=Itself(), subsets=1, subset_size=40)
    for metric in (frechet, kernel):
        metric.update(torch.from_numpy(a), real=True)
        metric.update(torch.from_numpy(b), real=False)
    assert metrics.frechet_distance(a, b) == pytest.approx(float(frechet.compute()), rel=1e-4)
    assert metrics.kernel_distance(a, b) == pytest.approx(float(kernel.compute()[0]), rel=1e-4)


def test_nearest_distances_against_brute_force(rng):
    a, b = (rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8) for n in (3, 5))
    slow = [[np.sqrt(np.mean((x.astype(float) - y.astype(float)) ** 2)) for y in b] for x in a]
    np.testing.assert_allclose(metrics.rmse_matrix(a, b), slow)
    assert metrics.rmse_matrix(a, a[:1])[0, 0] == 0
    assert metrics.quartiles(np.arange(5)) == dict(q25=1, median=2, q75=3)


# Measures


def test_novelty_tells_own_from_nearest():
    """Constant images: distances are differences of grey."""
    grey = lambda *levels: np.stack([np.full((2, 2, 3), level, np.uint8) for level in levels])  # noqa: E731
    found = measures.novelty({600: grey(12, 55)}, np.arange(2), grey(10, 100, 60), grey(70, 200, 66))
    row = found['created'][0]
    assert row['T'] == 600 and row['own_source_is_nearest'] == 0.5
    assert row['nearest_labelled']['median'] == pytest.approx((2 + 5) / 2)
    assert row['own_source']['median'] == pytest.approx((2 + 45) / 2)
    assert found['new_real']['nearest_labelled']['median'] == pytest.approx(10)
    vectors = measures.novelty({1: np.array([[3.0, 4.0]])}, np.arange(1), np.zeros((1, 2)), np.ones((1, 2)), False)
    assert vectors['created'][0]['own_source']['median'] == pytest.approx(5)


def test_agreement_counts_all_pixels():
    labels = np.zeros((2, 2, 2), np.uint8)
    labels[1] = 7
    predicted = labels.copy()
    predicted[0, 0] = 7
    found = measures.agreement(predicted, labels)
    assert found['IoU']['floor'] == pytest.approx(50)
    assert found['IoU']['table'] == pytest.approx(100 * 4 / 6)
    assert found['IoU']['bed'] is None
    assert found['mIoU'] == pytest.approx((50 + 100 * 4 / 6) / 2)


def test_label_cost_asks_for_the_label_of_the_source(rng):
    labels = rng.integers(0, len(CLASSES), (3, 8, 8), dtype=np.uint8)
    images = np.repeat(labels[..., None], 3, 3)
    found = measures.label_cost({200: images, 1000: images[::-1]}, images, labels, lambda images: images[..., 0].copy())
    assert found['real']['mIoU'] == found['created'][0]['mIoU'] == 100
    assert found['created'][1]['mIoU'] == pytest.approx(measures.agreement(labels[::-1].copy(), labels)['mIoU'])


def test_distribution_has_a_floor(rng):
    real, unseen = rng.normal(size=(60, 3)), rng.normal(size=(50, 3))
    found = measures.distribution({200: real, 400: real + 2}, real, unseen, seed=0)
    assert found['floor']['kid'] == found['created'][0]['kid'] == metrics.kernel_distance(real, unseen)
    assert found['created'][1]['fid'] > found['floor']['fid'] + 3 * 2**2 - 3
    assert found['halves']['images'] == [55, 55]
    assert abs(found['halves']['kid']['mean']) < found['halves']['kid']['std']


def test_denoising_loss_is_the_mean_of_the_ranges(tiny_diffusion, rng):
    images, captions = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8), ['a red ball', 'a table', '']
    found = measures.denoising_loss(tiny_diffusion, images, captions, batch_size=10)
    # One image at a time: timesteps 50, 150, …, one seed of the noise.
    t = torch.arange(50, 1000, 100)
    with torch.no_grad():
        z = tiny_diffusion.encode(to_model(list(images)))
        noise = torch.randn((10, *z.shape[1:]), generator=torch.Generator().manual_seed(0))
        errors = []
        for one, caption in zip(z, captions, strict=True):
            noised = tiny_diffusion.schedule.add_noise(one.expand_as(noise), noise, t)
            output = tiny_diffusion.unet(noised, t, tiny_diffusion.encode_text([caption] * 10)).sample
            errors.append((output - noise).square().mean((1, 2, 3)))
    expected = torch.stack(errors).mean(0).tolist()
    assert [each['timesteps'] for each in found['bins']][:2] == [[0, 99], [100, 199]]
    assert [each['captions'] for each in found['bins']] == pytest.approx(expected, rel=1e-5)
    assert found['mean']['captions'] == pytest.approx(np.mean(expected), rel=1e-5)
    assert found['mean']['empty'] != found['mean']['captions']
    nothing = measures.denoising_loss(tiny_diffusion, images, [''] * 3, batch_size=10)
    assert nothing['mean']['captions'] == nothing['mean']['empty'] == found['mean']['empty']


def test_reconstruction_is_the_mean_psnr(tiny_diffusion, rng):
    images = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    found = measures.reconstruction(tiny_diffusion, images, batch_size=2)
    x = to_model(list(images))
    with torch.no_grad():
        errors = ((tiny_diffusion.decode(tiny_diffusion.encode(x)) - x) / 2).square().mean((1, 2, 3))
    assert found['mse'] == pytest.approx(errors.mean().item(), rel=1e-5)
    assert found['psnr'] == pytest.approx((-10 * errors.log10()).mean().item(), rel=1e-5)


# Network


def test_network_has_the_names_of_the_published_file():
    state = network.TaesdEncoder().state_dict()
    assert {name.split('.')[0] for name in state} == {str(i) for i in range(15)}
    assert [i for i in range(15) if f'{i}.pool.3.weight' in state] == [11, 12, 13]
    assert [i for i in (0, 2, 6, 10, 14) if f'{i}.bias' in state] == [0, 14]
    assert state['11.pool.0.weight'].shape == (256, 64, 1, 1) and state['14.weight'].shape == (32, 64, 3, 3)
    assert sum(tensor.numel() for tensor in state.values()) == 1_338_528


def test_features_are_pooled_from_the_loaded_weights(tmp_path, rng):
    torch.manual_seed(0)
    made = network.TaesdEncoder(8, 4)
    torch.save(made.half().state_dict(), tmp_path / 'encoder.pth')
    loaded = network.load_network(tmp_path / 'encoder.pth')
    images = rng.integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    found = network.image_features(loaded, images, batch_size=2)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        hidden = torch.nn.Sequential(*list(loaded)[:-1])(x).double()
        assert hidden.shape == (3, 8, 2, 3) and loaded(x).shape == (3, 4, 2, 3)
    np.testing.assert_allclose(found[:, :8], hidden.mean((2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[:, 8:], hidden.std((2, 3), correction=0), rtol=1e-4, atol=1e-6)
    units = network.standardised(found + 1, found + 1)
    np.testing.assert_allclose(units.mean(0), 0, atol=1e-9)


def test_weights_of_another_network_are_named(tmp_path):
    torch.save({'0.weight': torch.zeros(4, 3, 3, 3)}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other\.pth does not hold the TAESD encoder'):
        network.load_network(tmp_path / 'other.pth')


# Data, captions, creation


def test_sources_begin_with_labelled_ones():
    labelled = np.array([1, 4, 6])
    assert data.source_positions(labelled, 8, 4).tolist() == [1, 4, 0, 2]
    assert data.source_positions(labelled, 8, 8).tolist() == [1, 4, 6, 0, 2, 3, 5, 7]
    assert data.source_positions(np.arange(7), 8, 6).tolist() == [0, 1, 2, 3, 4, 7]


def test_labelled_images_are_those_of_the_data_set(scenes):
    train = data.read_part(scenes, 'train')
    positions = data.labelled_positions(scenes, train, 3, 1)
    drawn = ScenesDataset(3, 1, dict(img_path='train/images', seg_map_path='train/semantic'), data_root=str(scenes))
    assert [train.names[i] for i in positions] == [Path(each['img_path']).name for each in drawn.load_data_list()]
    chosen = train[positions]
    label = np.asarray(Image.open(scenes / 'train' / 'semantic' / chosen.names[2]))
    assert len(chosen) == 3 and (chosen.labels[2] == label).all()
    assert chosen.captions[1] == train.captions[positions[1]]


@pytest.mark.parametrize('name', ['baselines', 'diff2in1'])
def test_the_config_says_what_is_labelled(name):
    cfg = Config.fromfile(ROOT / 'configs' / name / 'vpd_scenes.py')
    assert data.labelled_settings(cfg) == (60, 0)
    cfg.train_dataloader.dataset.dataset.update(num_labelled=20, subset_seed=3)
    assert data.labelled_settings(cfg) == (20, 3)
    with pytest.raises(ValueError, match='holds no ScenesDataset'):
        data.labelled_settings(Config(dict(train_dataloader=dict(dataset=dict(type='ADE20KDataset')))))


def test_unseen_captions():
    assert texts.unseen_captions(['b', 'a', 'c', 'a'], ['b']) == [1, 2]


def test_tables_are_whole_and_of_all_sizes():
    labels = np.zeros((6, 20, 20), np.uint8)
    for i, side in enumerate((3, 9, 6, 4, 1)):
        labels[i, 5 : 5 + side, 5 : 5 + side] = CLASSES.index('table')
    labels[5, :, 5:15] = CLASSES.index('table')  # the largest, cut off
    assert sheet.table_scenes(labels, 2).tolist() == [1, 0]
    assert sheet.table_scenes(labels, 4).tolist() == [1, 2, 3, 0]
    assert sheet.table_scenes(labels, 5).tolist() == [5, 1, 2, 3, 0]  # for want of whole ones


def test_nothing_is_created_twice(tiny_diffusion, tmp_path, rng, monkeypatch):
    images, captions = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8), ['a red ball', 'a table', 'a wall']
    settings = creation.CreationSettings(num_calls=2, batch_size=2)
    maker = creation.KeptImages(tiny_diffusion, settings, tmp_path)
    monkeypatch.setattr(creation, 'bf16_autocast', lambda wanted, device: torch.autocast('cpu', enabled=False))
    first = maker(images, captions, [5, 6, 7], 600)
    for part in (slice(0, 2), slice(2, 3)):
        recipe = dict(captions=captions[part], seeds=[5, 6, 7][part], T=600, num_calls=2, solver='dpm++')
        made = tiny_diffusion.create(to_model(list(images[part])), **recipe)
        assert (first[part] == from_model(made.images)).all()
    other = maker(images, captions, [5, 6, 8], 600)
    assert (other[:2] == first[:2]).all() and (other[2] != first[2]).any()
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(tiny_diffusion, 'create', None)
    assert (maker(images, captions, range(5, 8), 600) == first).all()
    assert creation.CreationSettings(20, 2.0).calls_per_image == 40


# The tool


class Judge:
    """Sees floor everywhere; stands for a trained segmentor."""

    dataset_meta = dict(classes=CLASSES)
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='ScenesDataset', num_labelled=3, subset_seed=2))))

    def __init__(self, config, checkpoint):
        assert Path(config).is_file() and Path(checkpoint).is_file()

    def __call__(self, images, *args, **kwargs):
        return [SimpleNamespace(map=np.zeros((16, 16), np.uint8)) for _ in images]


@pytest.fixture
def run(tmp_path, tiny_diffusion, scenes, monkeypatch, capsys):
    """run(*flags) → what the tool printed, with tiny weights, scenes, network and judge."""
    tiny_diffusion.save_folder(tmp_path / 'weights')
    torch.save(network.TaesdEncoder(8, 4).state_dict(), tmp_path / 'encoder.pth')
    (tmp_path / 'judge.py').write_text('')
    monkeypatch.setattr(study, 'Diff2in1Inferencer', Judge)
    places = ['--diffusion', tmp_path / 'weights', '--data-root', scenes, '--cache', tmp_path / 'cache']
    flags = [*places, '--out', tmp_path / 'out' / 'made.json', '--samples', 6, '--num-calls', 2, '--num-labelled', 3]

    def run(*more):
        tool.main([str(flag) for flag in [*flags, *more]])
        return capsys.readouterr().out

    return run


def test_dry_run_prints_the_calls(run, tmp_path):
    out = run('--dry-run')
    assert '6 sources (3 of the 3 labelled ones), T = 200, 400, 600, 800, 1000, 2 U-Net calls per image' in out
    numbers = {line.split()[0]: line.split()[1] for line in out.splitlines() if line.startswith('  ')}
    # 5 images of val in 10 ranges, with captions and without; 5 rows of 5 levels, 8 of 5 noises; 6 sources, 5 levels.
    assert numbers == {'loss': '100', 'sheets': str(5 * 5 * 2 + 8 * 5 * 2), 'creation': '60', 'all': '290'}
    assert 'left out, no --network; label cost: left out, no --config' in out
    assert 'dry run: nothing was written' in out
    assert not (tmp_path / 'out').exists() and not (tmp_path / 'cache').exists()


def test_everything_is_measured_and_drawn(run, tmp_path, scenes, monkeypatch):
    run()
    report = json.loads((tmp_path / 'out' / 'made.json').read_text())
    assert report['distribution'] == dict(skipped='no --network')
    assert report['label_cost'] == dict(skipped='no --config and --checkpoint')
    assert report['images'] == dict(train=8, val=5, test=4, labelled=3)
    assert len(report['loss']['bins']) == 10
    assert [row['T'] for row in report['novelty']['grey_levels']['created']] == [0, 200, 400, 600, 800, 1000]
    captions = report['sheets']['captions']
    seen = (scenes / 'unlabelled' / 'captions.jsonl').read_text()
    assert len(captions['new']) == 4 and not any(text in seen for text in captions['new'] + captions['recombined'])
    assert str(tmp_path) not in json.dumps(report)
    for name in ('sheet', 'unseen', 'T'):
        with Image.open(tmp_path / 'out' / f'made_{name}.png') as picture:
            assert picture.width > 600

    created = sorted(path.name for path in (tmp_path / 'cache').iterdir())
    judge = ['--config', tmp_path / 'judge.py', '--checkpoint', tmp_path / 'judge.py']
    run('--network', tmp_path / 'encoder.pth', *judge, '--subset-seed', 0)
    assert sorted(path.name for path in (tmp_path / 'cache').iterdir()) == created
    again = json.loads((tmp_path / 'out' / 'made.json').read_text())
    assert {name: again[name] for name in ('loss', 'sheets')} == {name: report[name] for name in ('loss', 'sheets')}
    assert again['distribution']['images'] == 6 and again['distribution']['against'] == 9
    assert [row['T'] for row in again['distribution']['created']] == [0, 200, 400, 600, 800, 1000]
    assert set(again['novelty']) == {'grey_levels', 'features'}
    # A judge that sees floor everywhere scores the share of floor, on the three sources without a label.
    train = data.read_part(scenes, 'train')
    labelled = data.labelled_positions(scenes, train, 3, 0)
    share = (train.labels[np.setdiff1d(np.arange(8), labelled)[:3]] == 0).mean()
    for row in [again['label_cost']['real'], *again['label_cost']['created']]:
        assert row['IoU']['floor'] == pytest.approx(100 * share, rel=1e-4)


@pytest.mark.parametrize(
    ('flags', 'error', 'message'),
    [
        (['--samples', '9'], ValueError, 'train holds 8 images'),
        (['--num-labelled', '8'], ValueError, 'every image of train is labelled'),
        (['--num-calls', '300'], ValueError, '300 denoising calls do not fit into T=200'),
        (['--data-root', 'nowhere'], FileNotFoundError, 'nowhere/train/images: found no such folder'),
        (['--network', 'nowhere.pth'], FileNotFoundError, r'nowhere\.pth does not exist'),
        (['--config', 'judge.py'], SystemExit, '2'),
        (['--samples', '3'], SystemExit, '2'),
    ],
)
def test_what_does_not_fit_is_said_before_the_work(run, tmp_path, flags, error, message):
    with pytest.raises(error, match=message):
        run(*flags)
    assert not (tmp_path / 'out').exists()
