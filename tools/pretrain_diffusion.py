"""`mmdiff2in1 pretrain` as a file: python tools/pretrain_diffusion.py --help."""

from mmdiff2in1.__main__ import door, leave

main = door('pretrain', 'tools/pretrain_diffusion.py')

if __name__ == '__main__':
    leave(main())
