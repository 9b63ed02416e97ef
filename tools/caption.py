"""`mmdiff2in1 caption` as a file: python tools/caption.py --help."""

from mmdiff2in1.__main__ import door, leave

main = door('caption', 'tools/caption.py')

if __name__ == '__main__':
    leave(main())
