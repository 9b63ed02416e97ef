"""`mmdiff2in1 synthesize` as a file: python tools/synthesize.py --help."""

from mmdiff2in1.__main__ import door, leave

main = door('synthesize', 'tools/synthesize.py')

if __name__ == '__main__':
    leave(main())
