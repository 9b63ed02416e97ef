"""report.html: its numbers are those of the run, it needs nothing else, and says what it lacks."""

import base64
import copy
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from html_page import Page
from mmengine.config import Config
from patience import patient
from PIL import Image

from mmdiff2in1.__main__ import main
from mmdiff2in1.reporting import write_report
from mmdiff2in1.reporting.work_dir import read_work_dir
from mmdiff2in1.training.chain import train_plain

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome', 'microsoft-edge')
LOOK = """
<script>
document.documentElement.style.width = 'WIDTHpx'
document.body.dataset.seen = JSON.stringify({
  natural: [...document.images].map(image => image.naturalWidth),
  shown: [...document.images].map(image => image.getBoundingClientRect().width),
  charts: [...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().width),
  width: document.body.scrollWidth, paper: getComputedStyle(document.body).backgroundColor
})</script></body>"""


def pictures(page: Page) -> list[np.ndarray]:
    """All images of a page, decoded."""
    found = []
    for image in page.images:
        head, data = image['src'].split(',', 1)
        assert head in ('data:image/png;base64', 'data:image/webp;base64')
        found.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert('RGB')))
    return found


def test_values_are_those_of_the_results(chain, page):
    results = json.loads((chain[1] / 'results.json').read_text())
    expected = [*results['test'].values(), *results['self_improving']['metrics'].values()]
    expected += results['warmup']['metrics'].values()
    assert sorted(page.numbers) == sorted(expected) and len(expected) == 15
    mine, theirs = results['test']['mIoU'], results['test']['exploiter/mIoU']
    assert f'θ_C: {mine:.2f} % mIoU on the test set, θ_E {theirs:.2f} (higher is better).' in page.text
    assert 'One seed: no difference between these numbers can be claimed without mmdiff2in1 compare' in page.text


def test_page_needs_nothing_else(page):
    # Names of namespaces and the like would be no resource, but there is no need of any either.
    assert not re.search(r'https?:|url\(\s*["\']?(?!#)|@import|<script|<link', page.source)
    inside = [link for link in page.links if link.startswith('#')]
    assert all(link.startswith(('#', 'data:image/')) for link in page.links)
    assert {link[1:] for link in inside} <= set(page.ids) and len(set(page.ids)) == len(page.ids)


def test_every_picture_decodes_and_is_described(page):
    found = pictures(page)
    # Three worst images with four pictures each; of three samples source, its label, image, map, confidence.
    assert len(found) == 3 * 4 + 3 * 5
    for picture, image in zip(found, page.images, strict=True):
        assert picture.shape == (32, 32, 3) == (int(image['height']), int(image['width']), 3)
        assert image['alt']
    for text in ('ground truth', 'prediction of θ_C', 'label of the source', 'θ_C sees', 'confidence, mean'):
        assert text in page.text
    assert page.text.count('semantic segmentation: ') >= 6 and 'error: right wrong not known' in page.text


def test_labels_are_compared_for_each_class_and_level(page, chain):
    text = page.text[page.text.index('Do the labels hold?') :]
    assert 'class real test all created T=300 T=900 ' in text
    images = re.search(r'images (\d+) (\d+) (\d+) (\d+) ', text)
    real, created, low, high = map(int, images.groups())
    assert (real, created, low + high) == (4, 12, 12)
    # θ_C on the real test images: what the test itself has measured.
    agree = float(re.search(r'pixels that agree, % (\S+)', text).group(1))
    assert agree == pytest.approx(chain[2]['test']['aAcc'], abs=0.06)


def test_words(page):
    text = page.text
    assert 'The kept share is the share of the pixels' in text
    assert 'what θ_C sees in them, at the pixels with a confidence of at least 0.05' in text
    assert 'Warm-up on the real images alone: 4 iterations.' in text
    assert 'Created images: 2 for each labelled image, by ' in text and 'noised to T = 300, 900, 3 calls' in text
    assert '4 real and 2 created images in a step of a process' in text
    assert 'Not measured: they need a feature network' in text
    assert torch.__version__.split('+')[0] in text and 'mmdiff2in1 report ' in text


def test_names_are_escaped(chain, tmp_path):
    cfg, work_dir, results = chain
    checkpoint = torch.load(results['self_improving']['checkpoint'], weights_only=False)
    classes = ['<b>&"\'' for _ in checkpoint['meta']['dataset_meta']['classes']]
    checkpoint['meta']['dataset_meta']['classes'] = classes
    torch.save(checkpoint, tmp_path / 'other.pth')
    other = copy_of(work_dir, tmp_path / 'run <i>&')
    page = Page(write_report(cfg, other, tmp_path / 'other.pth', images=1).read_text())
    assert '<b>' not in page.source and '<i>' not in page.source
    assert '<b>&"\'' in page.text and 'run <i>&' in page.text


def copy_of(work_dir, target, *left_out: str):
    """A work dir without some of what is in it."""
    shutil.copytree(work_dir, target, ignore=shutil.ignore_patterns(*left_out))
    return target


@pytest.mark.parametrize(
    ('left_out', 'sentences'),
    [
        (
            ('test', 'results.json'),
            ['This run is not finished (warm-up: finished; self-improving: finished; test: not done)', 'on the valid'],
        ),
        (
            ('test', 'results.json', 'finished.json', 'iter_*.pth', 'last_checkpoint'),
            [
                'self-improving: at iteration 4 of 4',
                'The worst images cannot be shown: there is no checkpoint yet.',
                'The created samples cannot be shown: there is no checkpoint yet.',
                'There is nothing to compare: the created samples cannot be looked at.',
            ],
        ),
        (('scalars.json',), ['There are no curves', 'No kept share is shown']),
        (('images',), ['Something could not be read: ', ' is missing.', 'no label of a source could be read']),
        (('synthetic',), ['The created samples cannot be shown: FileNotFoundError: ']),
        (
            ('*.json', '*.pth', 'last_checkpoint'),
            ['There are no scores yet.', 'warm-up: not begun', 'there is no checkpoint yet'],
        ),
    ],
)
def test_what_is_missing_is_said(chain, tmp_path, left_out, sentences):
    cfg, work_dir, _ = chain
    page = Page(write_report(cfg, copy_of(work_dir, tmp_path / 'run', *left_out), images=1).read_text())
    for sentence in sentences:
        assert sentence in page.text


def test_missing_data_are_said(chain, tmp_path):
    cfg, work_dir, _ = chain
    cfg = copy.deepcopy(cfg)
    cfg.test_dataloader.dataset.data_root = cfg.train_dataloader.dataset.dataset.data_root = str(tmp_path / 'gone')
    page = Page(write_report(cfg, copy_of(work_dir, tmp_path / 'run'), images=2).read_text())
    assert 'The worst images cannot be shown: FileNotFoundError: ' in page.text
    assert 'Sources and their labels cannot be shown: FileNotFoundError: ' in page.text
    assert len(page.images) == 2 * 3 and 'no label of a source could be read' in page.text


def test_damaged_results_are_said(chain, tmp_path):
    cfg, work_dir, results = chain
    run = copy_of(work_dir, tmp_path / 'run')
    (run / 'results.json').write_text('{')
    (run / 'test' / 'finished.json').write_text('[]')
    page = Page(write_report(cfg, run, images=1).read_text())
    assert 'results.json is damaged' in page.text and 'finished.json is damaged' in page.text
    assert results['self_improving']['metrics']['mIoU'] in page.numbers


def test_control_stands_beside(chain, tmp_path):
    cfg, work_dir, results = chain
    page = Page(write_report(cfg, copy_of(work_dir, tmp_path / 'run'), images=1, control=work_dir).read_text())
    assert f', control {results["test"]["mIoU"]:.2f} (higher is better)' in page.text
    assert 'mIoU control' in page.text and 'There is no control' not in page.text
    assert page.numbers.count(results['test']['mIoU']) >= 2


def test_wrong_arguments(chain, tmp_path):
    cfg, work_dir, _ = chain
    with pytest.raises(FileNotFoundError, match='expected the work dir of a training'):
        write_report(cfg, tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='empty holds nothing of a training; expected the work dir of a contr'):
        write_report(cfg, work_dir, control=tmp_path / 'empty')
    with pytest.raises(FileNotFoundError, match='no such checkpoint'):
        write_report(cfg, work_dir, tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='images=0'):
        write_report(cfg, work_dir, images=0)


def test_a_finished_stage_has_made_all_its_steps(chain, tmp_path):
    """Whatever the interval of the log was."""
    cfg, work_dir, _ = chain
    folder = copy_of(work_dir, tmp_path / 'run')
    for file in folder.glob('self_improving/*/vis_data/scalars.json'):
        file.write_text(''.join(file.read_text().splitlines(keepends=True)[:1]))
    assert [(stage.reached, stage.finished) for stage in read_work_dir(cfg, folder).stages] == [(4, True), (4, True)]


def test_the_command_needs_no_config(chain, page, tmp_path, capsys):
    _, work_dir, _ = chain
    folder = copy_of(work_dir, tmp_path / 'run')
    picture = folder / 'curves.png'
    picture.unlink()
    main(['report', str(folder), '--control', str(work_dir), '--num-images', '1'])
    assert picture.is_file()
    picture.unlink()
    assert ', control ' in Page((folder / 'report.html').read_text()).text
    with pytest.raises(SystemExit, match='net.pt: no such file of a feature network'):
        main(['report', str(folder), '--features', str(tmp_path / 'net.pt')])
    capsys.readouterr()
    main(['report', str(folder)])
    assert capsys.readouterr().out == f'written: {folder}/report.html\n'
    assert not picture.exists()  # without a control it stays what it was
    # The run's folder had another name, so that its whole config is none of the folder's: it is found all the same.
    again = Page((folder / 'report.html').read_text())
    assert again.numbers == page.numbers
    assert f'train {work_dir}/run.py --work-dir {work_dir} --resume' in page.text


def test_the_config_of_the_last_stage_is_enough(chain, page, tmp_path):
    cfg, work_dir, results = chain
    folder = copy_of(work_dir, tmp_path / 'run')
    (folder / 'run.py').unlink()
    (stage,) = (folder / 'self_improving').glob('*.py')
    assert 'stages' not in Config.fromfile(stage)
    main(['report', str(folder)])
    again = Page((folder / 'report.html').read_text())
    assert 'not finished' not in again.text and 'θ_C: ' in again.text
    assert set(results['test'].values()) <= set(again.numbers)


def test_plain_work_dir(chain, tmp_path):
    cfg, _, _ = chain
    plain = Config.fromfile(cfg.filename.replace('diff2in1/vpd_scenes', 'baselines/unet_scenes'))
    options = {
        f'{part}_dataloader.dataset.data_root': cfg.test_dataloader.dataset.data_root for part in ('val', 'test')
    }
    plain.merge_from_dict(
        options
        | {
            'train_dataloader.dataset.data_root': cfg.test_dataloader.dataset.data_root,
            'train_dataloader.dataset.num_labelled': 6,
            'train_dataloader.batch_size': 2,
            'train_cfg': dict(max_iters=4, val_interval=2),
            'default_hooks.logger.interval': 1,
            'default_hooks.checkpoint.interval': 2,
        }
    )
    work_dir = tmp_path / 'plain'
    train_plain(copy.deepcopy(plain), work_dir)
    page = Page(write_report(plain, work_dir, images=2).read_text())
    last = [json.loads(line) for line in next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()][-1]
    assert last['mIoU'] in page.numbers
    assert f'The model: {last["mIoU"]:.2f} % mIoU on the validation set (higher is better).' in page.text
    assert len(page.images) == 2 * 4 and 'prediction of the model' in page.text
    for absent in ('θ_C', 'Created samples', 'kept share', 'not finished'):
        assert absent not in page.text


@pytest.mark.parametrize(('width', 'dark'), [(400, False), (1280, True)])
def test_in_a_browser(page, tmp_path, width, dark):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f'no browser found: {", ".join(BROWSERS)}')
    file = tmp_path / 'page.html'
    # Chromium makes no window narrower than 500 pixels.
    file.write_text(page.source.replace('</body>', LOOK.replace('WIDTH', str(width))))
    command = [browser, '--headless=new', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "profile"}']
    command += [f'--window-size={width},2000', f'--blink-settings=preferredColorScheme={0 if dark else 1}']
    done = subprocess.run(
        [*command, '--dump-dom', file.as_uri()], capture_output=True, text=True, timeout=patient(60), check=True
    )
    seen = json.loads(re.search(r'data-seen="([^"]*)"', done.stdout).group(1).replace('&quot;', '"'))
    assert seen['natural'] == [32] * len(page.images)
    assert min(seen['shown']) > 100 and min(seen['charts']) > 200 and len(seen['charts']) == 3
    assert seen['width'] <= width  # nothing sticks out
    assert seen['paper'] == ('rgb(21, 24, 28)' if dark else 'rgb(255, 255, 255)')
