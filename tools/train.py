"""`mmdiff2in1 train` as a file: python tools/train.py --help."""

from mmdiff2in1.__main__ import door, leave

main = door('train', 'tools/train.py')

if __name__ == '__main__':
    leave(main())
