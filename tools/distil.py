"""`mmdiff2in1 distil` as a file: python tools/distil.py --help."""

from mmdiff2in1.__main__ import door, leave

main = door('distil', 'tools/distil.py')

if __name__ == '__main__':
    leave(main())
