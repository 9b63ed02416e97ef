"""What differs between plain values, as it is told."""

from mmdiff2in1.core.differences import differences


def test_each_kind():
    old = dict(a=dict(b=1, c=[1, dict(d='x')]), e='0' * 64, f=[1], g=1)
    new = dict(a=dict(b=2, c=[1, dict(d='y')]), e='1' * 64, f=[1, 2], h=None)
    assert differences(old, new) == (
        "a.b: 1 → 2; a.c[1].d: 'x' → 'y'; e: another content; f: [1] → [1, 2]; g: 1 → not set; h: not set → None"
    )
    assert differences(old, old) == ''


def test_few_and_short():
    told = differences({str(n): 0 for n in range(9)}, {str(n): 1 for n in range(9)})
    assert told == '0: 0 → 1; 1: 0 → 1; 2: 0 → 1; 3: 0 → 1; 4: 0 → 1; 5: 0 → 1; and 3 more'
    assert differences(dict(a='x' * 100), dict(a=1)) == f"a: '{'x' * 59}… → 1"
