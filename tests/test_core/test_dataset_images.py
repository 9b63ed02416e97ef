"""Images of wrapped data sets: each once, in order, and read once however often it is repeated."""

from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset

from mmdiff2in1.core.dataset_images import list_images


class Listed(BaseDataset):
    """Lists the files that it is given, and counts how often it is asked."""

    asked = 0

    def load_data_list(self) -> list[dict]:
        return [dict(img_path=name) for name in self.ann_file.split()]

    def get_data_info(self, idx: int) -> dict:
        Listed.asked += 1
        return super().get_data_info(idx)


def test_repeats_are_not_read(monkeypatch):
    """mmseg's DRIVE, STARE, CHASE and HRF repeat their images 40,000 times."""
    monkeypatch.setattr(Listed, 'asked', 0)
    assert list_images(RepeatDataset(Listed(ann_file='b.png a.png b.png'), 40000)) == (None, ['b.png', 'a.png'])
    assert Listed.asked == 3
    both = ConcatDataset([Listed(ann_file=names) for names in ('b.png a.png', 'c.png b.png')])
    assert list_images(both) == (None, ['b.png', 'a.png', 'c.png'])
