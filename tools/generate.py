"""`mmdiff2in1 generate` as a file: python tools/generate.py --help."""

from mmdiff2in1.__main__ import door, leave

main = door('generate', 'tools/generate.py')

if __name__ == '__main__':
    leave(main())
