"""Distillation end to end on tiny parts: scores, labels once or per step, control, verdict; and what identity sees."""

import json
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import DATASETS, MODELS
from tiny_chain import ROOT, SIZE, chain_config

from mmdiff2in1.__main__ import main
from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.core.label_files import write_png
from mmdiff2in1.inference import teacher_from
from mmdiff2in1.inference.model_folder import BUILT_IN
from mmdiff2in1.models.checkpoints import read_checkpoint
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.control import equal_control
from mmdiff2in1.training.distillation import Distillation, Judge, distil, plain_config, plan
from mmdiff2in1.training.identity import fingerprint
from mmdiff2in1.training.scoring import better_by, chosen_metric
from mmdiff2in1.training.stages import self_improving_config

# Two images of val say as much here as four.
STEPS = (
    *('val_dataloader.dataset.indices=2', 'test_dataloader.dataset.indices=1'),
    *('train_cfg.max_iters=10', 'train_cfg.val_interval=10', 'default_hooks.checkpoint.interval=10'),
)


@pytest.fixture(scope='module')
def parts(chain_folder, tmp_path_factory):
    """The plain student's config in a file, and a teacher of the same form with other weights."""
    folder = tmp_path_factory.mktemp('distil')
    student = plain_config(chain_config(chain_folder))
    student.dump(folder / 'student.py')
    init_default_scope('mmseg')
    torch.manual_seed(11)
    teacher = MODELS.build(student.model)
    for tensor in teacher.decode_head.parameters():
        tensor.data.copy_(torch.randn(tensor.shape))
    torch.save(dict(state_dict=teacher.state_dict(), meta={}), folder / 'teacher.pth')
    return folder


def teacher(parts):
    return dict(config=str(parts / 'student.py'), checkpoint=str(parts / 'teacher.pth'))


def run(parts, chain_folder, *flags):
    sys.path.insert(0, str(ROOT / 'tools'))
    try:
        from distil import main
    finally:
        sys.path.pop(0)
    captions = chain_folder / 'scenes/train/captions.jsonl'
    one = ['--teacher', *teacher(parts).values(), '--generator', str(chain_folder / 'weights')]
    sizes = ('stages.synthesis.num_calls=2', 'stages.synthesis.size=32', 'stages.synthesis.solver=dpm++')
    return main(
        [str(parts / 'student.py'), *one, '--captions', str(captions), '--num-images', '5', *flags]
        + ['--cfg-options', *STEPS, *sizes]
    )


def test_labels_written_once(parts, chain_folder, capsys, monkeypatch):
    work_dir, drawn = chain_folder / 'distilled', []
    monkeypatch.setattr('mmdiff2in1.training.distillation.draw_curves', lambda *places: drawn.append(places))
    flags = ('--soft', '--student-score', '0', '--control', '--work-dir', str(work_dir))
    found = run(parts, chain_folder, *flags)
    assert drawn == [(work_dir / 'student', work_dir / 'control')]
    assert json.loads((work_dir / 'distillation.json').read_text()) == found
    distance, gained = found['teacher'] - found['alone'], found['student'] - found['alone']
    assert found['metric'] == 'mIoU' and found['alone_is'] == 'control of equal batch'
    assert found['share_closed'] == (pytest.approx(gained / distance) if distance > 0 else None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f'look at {work_dir}/student/report.html'
    assert lines[lines.index(found['verdict']) + 1] == f'all of it: {work_dir}/distillation.json'
    assert '| Class' not in '\n'.join(lines)
    assert ', control ' in (work_dir / 'student/report.html').read_text()

    records = SampleStore(work_dir / 'student/synthetic').records()
    assert len(records) == 5 and all('by' in record['labels']['semantic_segmentation'] for record in records)
    checkpoint = read_checkpoint(work_dir / 'student/self_improving/iter_10.pth')['state_dict']
    assert {name.split('.')[0] for name in checkpoint} == {'exploiter', 'creator'}
    # θ_C of the checkpoint is what is scored: mmengine's own validation said the same.
    stage = json.loads((work_dir / 'student/self_improving/finished.json').read_text())
    assert stage['metrics']['mIoU'] == pytest.approx(found['student'], abs=0.02)

    # A second start makes nothing anew.
    before = {file: file.stat().st_mtime_ns for file in work_dir.rglob('*') if file.suffix in ('.pth', '.jsonl')}
    assert run(parts, chain_folder, *flags) == found
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_new_scenes_and_unlabelled_images_are_labelled(parts, chain_folder):
    """Samples without a source: the teacher's labels are all that is known of them."""
    photos, work_dir = chain_folder / 'photos', chain_folder / 'distilled-scenes'
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE + 8 * number, 3), dtype=np.uint8)
        write_png(photos / f'{number}.png', pixels)
    asked = ('--scenes', 'recombined', '--T', '1000', '--unlabelled', str(photos), '--student-score', '0')
    run(parts, chain_folder, *asked, '--work-dir', str(work_dir))
    store = SampleStore(work_dir / 'student/synthetic')
    records = store.records()
    assert len(records) == 7 and store.verify() == [] and {record['source'] for record in records} == {None}
    assert all('by' in record['labels']['semantic_segmentation'] for record in records)
    cfg = Config.fromfile(next((work_dir / 'student/self_improving').glob('*.py')))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for index, record in enumerate(records):
        info = dataset.get_data_info(dataset.real_length + index)
        assert info['seg_map_path'] == str(store.labels(record)['semantic_segmentation'])
        assert dataset[dataset.real_length + index]['data_samples'].sample_id == record['sample_id']


def test_labels_of_every_step(parts, chain_folder):
    work_dir = chain_folder / 'distilled-per-step'
    found = run(parts, chain_folder, '--per-step', '--mirrored', '--work-dir', str(work_dir))
    assert found['alone'] is None and 'teacher' in found['verdict']
    assert not any('labels' in record for record in SampleStore(work_dir / 'student/synthetic').records())


def test_a_dry_run_scores_and_writes_nothing(parts, chain_folder, capsys):
    work_dir = chain_folder / 'dry'
    assert run(parts, chain_folder, '--dry-run', '--student-score', '101', '--work-dir', str(work_dir)) is None
    out = capsys.readouterr().out
    assert 'THE TEACHER IS NOT BETTER' in out and '5 samples, of which 0 are in' in out and not work_dir.exists()


def test_a_folder_of_a_model_is_a_teacher(chain_folder, tmp_path, capsys):
    """The same weights as a folder score as their config and checkpoint do."""
    cfg, scenes = read_config('unet_scenes'), str(chain_folder / 'scenes')
    cfg.val_dataloader.dataset.data_root = scenes
    two_files = dict(config='unet_scenes', checkpoint=str(BUILT_IN / 'unet_scenes/model.safetensors'))
    given = [two_files, teacher_from('builtin:unet_scenes')]
    scores = [Judge(cfg, Distillation(teachers=[each])).before()['teacher'] for each in given]
    assert scores[0] == scores[1] > 30

    write_png(tmp_path / 'photo.png', np.zeros((SIZE, SIZE, 3), np.uint8))
    asked = ('--teacher', 'builtin:unet_scenes', '--unlabelled', str(tmp_path), '--dry-run')
    data = [f'{part}_dataloader.dataset.data_root={scenes}' for part in ('train', 'val', 'test')]
    main(['distil', 'unet_scenes', *asked, '--cfg-options', *data, 'train_dataloader.dataset.num_labelled=2'])
    assert f'teacher: {scores[0]:.4g}' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(['distil', '--teacher', 'a.py', 'a.pth', 'unet_scenes', '--unlabelled', scenes])
    assert "the student's config comes before it" in capsys.readouterr().err


def test_the_teacher_is_scored_as_mmengine_scores_it(parts, chain_folder):
    cfg = Config.fromfile(parts / 'student.py')
    judge = Judge(cfg, Distillation(teachers=[teacher(parts)], settings=dict(diffusion='x')))
    found = judge.before()
    cfg.work_dir, cfg.load_from = str(chain_folder / 'val'), str(parts / 'teacher.pth')
    cfg.custom_hooks = []
    runner = Runner.from_cfg(cfg)
    assert runner.val()['mIoU'] == pytest.approx(found['teacher'], abs=0.02)
    assert found['alone'] is None


def test_the_student_as_it_is_is_what_training_starts_from(parts):
    cfg = Config.fromfile(parts / 'student.py')
    cfg.load_from = str(parts / 'teacher.pth')
    judge = Judge(cfg, Distillation(teachers=[teacher(parts)]))
    found = judge.before()
    assert found['alone'] == found['teacher'] and found['alone_is'].startswith('as it is: ')
    assert 'THE TEACHER IS NOT BETTER' in judge.advice(found)[0]
    verdict = judge.verdict(dict(found, student=50.0))
    assert verdict['share_closed'] is None and 'the teacher is not better' in verdict['verdict']


def test_the_share_of_the_distance(parts):
    judge = Judge(Config.fromfile(parts / 'student.py'), Distillation(teachers=[teacher(parts)]))
    found = judge.verdict(dict(metric='mIoU', teacher=80.3, alone=53.2, alone_is='given', student=63.0))
    assert found['share_closed'] == pytest.approx(9.8 / 27.1) and '36% of the distance is closed' in found['verdict']
    worse = judge.verdict(dict(metric='mIoU', teacher=80.3, alone=53.2, alone_is='given', student=52.9))
    assert worse['share_closed'] == pytest.approx(-0.3 / 27.1) and worse['verdict'].endswith(
        'none of the distance is closed'
    )
    depth = judge.verdict(dict(metric='rmse', teacher=0.4, alone=0.6, alone_is='given', student=0.5))
    assert depth['share_closed'] == pytest.approx(0.5) and better_by('exploiter/rmse', 0.4, 0.6) > 0
    with pytest.raises(ValueError, match="gives no 'mDice'; found mIoU"):
        chosen_metric(dict(mIoU=1.0), judge.tasks, 'mDice')


def test_the_control_has_as_many_images_per_step(parts):
    cfg = Distillation(
        teachers=[teacher(parts)], settings=dict(diffusion='x', num_samples=5), changes={'global_batch_size': 6}
    ).config(Config.fromfile(parts / 'student.py'))
    control = self_improving_config(equal_control(cfg), 'x', None, None)
    assert control.train_dataloader.batch_size == 2 * cfg.train_dataloader.batch_size
    assert control.global_batch_size == 12 and 'label_rule' not in control.model
    assert set(control.train_dataloader.dataset) == {'type', 'dataset', 'seed'}
    assert cfg.model.label_rule == dict(type='GivenLabel') and cfg.stages.labelling.teacher == [teacher(parts)]


def test_identity_knows_the_teacher_by_what_it_is(parts, tmp_path):
    def mark(**teacher):
        cfg = Distillation(teachers=[teacher], settings=dict(diffusion='x', num_samples=5, per_step=True)).config(
            Config.fromfile(parts / 'student.py')
        )
        cfg.train_dataloader.dataset.store = None
        return fingerprint(self_improving_config(cfg, tmp_path / 'x', None, None))

    one = mark(**teacher(parts))
    for name in ('student.py', 'teacher.pth'):
        (tmp_path / name).write_bytes((parts / name).read_bytes())
    moved = dict(config=str(tmp_path / 'student.py'), checkpoint=str(tmp_path / 'teacher.pth'))
    assert mark(**moved) == one
    (tmp_path / 'over.py').write_text("_base_ = ['student.py']\nwork_dir = 'elsewhere'\n")
    assert mark(**moved | dict(config=str(tmp_path / 'over.py'))) == one
    (tmp_path / 'over.py').write_text("_base_ = ['student.py']\nmodel = dict(test_cfg=dict(flip=True))\n")
    assert mark(**moved | dict(config=str(tmp_path / 'over.py'))) != one
    state = torch.load(parts / 'teacher.pth', weights_only=True)
    name = next(name for name in state['state_dict'] if name.endswith('conv_seg.bias'))
    state['state_dict'][name] += 1
    torch.save(state, tmp_path / 'teacher.pth')
    assert mark(**moved) != one


def test_a_teacher_that_does_not_fit_is_found_before_the_first_stage(parts, chain_folder, tmp_path):
    gone = Distillation(
        teachers=[dict(config=str(parts / 'student.py'), checkpoint='gone.pth')],
        settings=dict(diffusion=str(chain_folder / 'weights'), num_samples=5),
    )
    student = Config.fromfile(parts / 'student.py')
    with pytest.raises(FileNotFoundError, match='gone.pth does not exist'):
        distil(student, gone, tmp_path / 'work')
    with pytest.raises(FileNotFoundError, match='gone.pth does not exist'):
        train(gone.config(student), tmp_path / 'work')
    cfg = gone.config(student)
    cfg.train_dataloader.dataset.labels = 'none'
    with pytest.raises(ValueError, match="writes labels, but train_dataloader.dataset.labels is 'none'"):
        train(cfg, tmp_path / 'work')
    assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize('dry', [False, True])
def test_cheap_mistakes_are_found_before_the_teacher_is_scored(parts, chain_folder, tmp_path, monkeypatch, dry):
    monkeypatch.setattr('mmdiff2in1.training.distillation.scores', lambda *_: pytest.fail('scored'))

    def start(control=False, **changes):
        settings = dict(diffusion=str(chain_folder / 'weights'), num_samples=5, caption_fallback='')
        asked = Distillation(
            teachers=[teacher(parts)], settings=settings | dict(size=32, num_calls=2), changes=changes, control=control
        )
        student, work_dir = Config.fromfile(parts / 'student.py'), tmp_path / 'work'
        list(plan(student, asked, work_dir)) if dry else distil(student, asked, work_dir)

    for count in (0, -3, 9, 'six'):
        with pytest.raises(ValueError, match=f'num_labelled={count!r}: expected 1 to 8, the number of images'):
            start(**{'train_dataloader.dataset.num_labelled': count})
    with pytest.raises(ValueError, match='num_calls is 0, expected an integer of 1 or more'):
        start(**{'stages.synthesis.num_calls': 0})
    for name, value in (('topk', 0), ('topk', 'four'), ('batch_size', 2.5)):
        with pytest.raises(
            ValueError, match=rf'stages\.labelling\.{name} is {value!r}[,;] expected an integer of 1 or'
        ):
            start(**{f'stages.labelling.{name}': value})
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, 'is_available', lambda: False)
        with pytest.raises(ValueError, match=r'^stages\.labelling\.device cuda:9: torch .* cannot compute there'):
            start(**{'stages.labelling.device': 'cuda:9'})
    with pytest.raises(ValueError, match='Adamm is not in the optimizer registry'):
        start(**{'optim_wrapper.optimizer.type': 'Adamm'})
    with pytest.raises(FileNotFoundError, match='load_from=gone.pth: no such checkpoint'):
        start(load_from='gone.pth')
    with pytest.raises(ValueError, match='the config has no val_dataloader and val_evaluator'):
        start(val_dataloader=None, val_evaluator=None, val_cfg=None)
    with monkeypatch.context() as patch:
        patch.setattr('mmdiff2in1.training.distillation.check_before', lambda cfg, place, _: seen.append((cfg, place)))
        seen = []
        with pytest.raises(pytest.fail.Exception, match='scored'):
            start(control=True)
    assert [place for _, place in seen] == [tmp_path / 'work/student', tmp_path / 'work/control']
    assert [cfg.train_dataloader.batch_size for cfg, _ in seen] == [4, 8]
    assert not (tmp_path / 'work').exists()


def test_a_misspelt_metric_is_refused_before_anything_is_scored():
    asked = Distillation(teachers=[dict(config='none.py', checkpoint='none.pth')], metric='mIuO')
    with pytest.raises(ValueError, match="--metric: no metric of the config gives 'mIuO'; did you mean mIoU"):
        Judge(read_config('unet_scenes'), asked)
