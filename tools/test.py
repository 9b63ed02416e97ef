"""`mmdiff2in1 test` as a file: python tools/test.py --help."""

from mmdiff2in1.__main__ import door, leave

main = door('test', 'tools/test.py')

if __name__ == '__main__':
    leave(main())
