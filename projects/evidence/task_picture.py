"""Draw docs/images/tasks.png: what normals and depth mean, on a rendered room and on its mirror image.

python projects/evidence/task_picture.py --out docs/images/tasks.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmdiff2in1.datasets.scenes import render_scene
from mmdiff2in1.tasks import Depth, SurfaceNormal
from mmdiff2in1.visualization.contact_sheet import contact_sheet

SIZE, SEED, INDEX = 288, 0, 5


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('docs/images/tasks.png'), help='(%(default)s)')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Draws the sheet."""
    args = parse_args(arguments)
    normal_task, depth_task = SurfaceNormal(), Depth(max_depth=6.0)
    scene = render_scene(SEED, INDEX, SIZE)
    rows = []
    for image, normal, depth in (
        (scene.image, scene.normal, scene.depth),
        (scene.image[:, ::-1], normal_task.flip(scene.normal), depth_task.flip(scene.depth)),
    ):
        labels = normal_labels(normal)
        rows.append(
            [
                axes(np.ascontiguousarray(image)),
                written(normal_task.colours(normal), labels),
                written(depth_task.colours(depth), {place: f'{depth[place]:.1f} m' for place in labels}),
            ]
        )
    sheet = contact_sheet(
        rows,
        row_captions=[
            'Normals: x left, y up, z towards the viewer, of the vector that leaves the surface. A wall in front is '
            '(0, 0, 1), the floor (0, 1, 0). Red: faces left; green: up; blue: the viewer.',
            'Mirrored: the pixels change sides and x its sign. Depth, the distance along the optical axis, stays.',
        ],
        column_captions=['image', 'surface normals', 'depth'],
        scale=1,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(args.out)
    print(args.out)


def normal_labels(normal: np.ndarray) -> dict[tuple[int, int], str]:
    """Pixels, one per direction that covers much of the picture, and their vectors."""
    rounded = np.round(normal * 5).astype(int)
    kinds, counts = np.unique(rounded.reshape(-1, 3), axis=0, return_counts=True)
    labels = {}
    for kind in kinds[np.argsort(-counts)][:5]:
        rows, columns = np.nonzero((rounded == kind).all(-1))
        # The pixel of this direction that is deepest inside its region, not its mean, which may lie outside.
        middle = np.argmin(np.abs(rows - np.median(rows)) + np.abs(columns - np.median(columns)))
        place = (int(rows[middle]), int(columns[middle]))
        labels[place] = '({:.1f}, {:.1f}, {:.1f})'.format(*(normal[place] + 0.0)).replace('-0.0', '0.0')
    return labels


def written(picture: np.ndarray, labels: dict[tuple[int, int], str]) -> np.ndarray:
    """The picture with texts beside points."""
    sheet = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for (row, column), text in labels.items():
        draw.ellipse((column - 3, row - 3, column + 3, row + 3), 'white', 'black')
        width = draw.textlength(text, font)
        left = min(max(2, column - width / 2), picture.shape[1] - width - 2)
        draw.text((left, row + 5), text, 'white', font, stroke_width=2, stroke_fill='black')
    return np.asarray(sheet)


def axes(picture: np.ndarray) -> np.ndarray:
    """The picture with the axes of normals in its corner."""
    sheet = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    x, y, length = 70, picture.shape[0] - 50, 42
    for name, colour, dx, dy in (('x', 'red', -1, 0), ('y', 'lime', 0, -1), ('z', 'deepskyblue', 0.55, 0.75)):
        end = (x + length * dx, y + length * dy)
        draw.line((x, y, *end), 'black', 7)
        draw.line((x, y, *end), colour, 4)
        draw.ellipse((end[0] - 5, end[1] - 5, end[0] + 5, end[1] + 5), colour, 'black')
        draw.text((end[0] + 9 * (dx or 1), end[1] - 9), name, colour, font, 'mm', stroke_width=2, stroke_fill='black')
    draw.text((x + 42, y - 8), 'z: to you', 'deepskyblue', font, stroke_width=2, stroke_fill='black')
    return np.asarray(sheet)


if __name__ == '__main__':
    main()
