"""`mmdiff2in1 scenes` as a file: python tools/dataset_converters/make_scenes.py --help."""

from mmdiff2in1.__main__ import door, leave

main = door('scenes', 'tools/dataset_converters/make_scenes.py')

if __name__ == '__main__':
    leave(main())
