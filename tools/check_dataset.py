"""`mmdiff2in1 check` as a file: python tools/check_dataset.py --help."""

from mmdiff2in1.__main__ import door, leave

main = door('check', 'tools/check_dataset.py')

if __name__ == '__main__':
    leave(main())
