"""The closed world of Scenes: semantic classes, their palette, named colours and every word a caption can use."""

CLASSES = ('floor', 'ceiling', 'wall', 'door', 'window', 'picture', 'cabinet', 'table', 'bed', 'ball', 'bin')
STANDING = ('cabinet', 'table', 'bed', 'ball', 'bin')  # what stands out in a room: the label of saliency
PALETTE = (
    (150, 110, 70),
    (230, 230, 210),
    (174, 199, 232),
    (214, 39, 40),
    (70, 200, 240),
    (196, 156, 148),
    (31, 119, 180),
    (255, 152, 150),
    (255, 187, 120),
    (44, 160, 44),
    (148, 103, 189),
)

# Linear-ish albedo in [0, 1], RGB. Names are what a caption says.
COLOURS = {
    'red': (0.80, 0.13, 0.12),
    'green': (0.18, 0.58, 0.22),
    'blue': (0.16, 0.33, 0.80),
    'yellow': (0.93, 0.80, 0.18),
    'purple': (0.52, 0.24, 0.66),
    'orange': (0.95, 0.50, 0.12),
    'pink': (0.95, 0.58, 0.68),
    'brown': (0.47, 0.29, 0.15),
    'white': (0.92, 0.91, 0.88),
    'grey': (0.52, 0.53, 0.55),
    'black': (0.12, 0.12, 0.13),
}
WALL_COLOURS = ('white', 'grey', 'yellow', 'blue', 'green', 'pink', 'orange', 'purple')
WALL_PATTERNS = ('plain', 'striped', 'checkered', 'speckled')
FLOOR_PATTERNS = ('plain', 'wooden', 'tiled', 'speckled')
FLOOR_COLOURS = ('grey', 'brown', 'white', 'blue', 'green', 'red')
COUNTS = ('no', 'a', 'two', 'three', 'four', 'five', 'six')

PLURALS = {name: name + 's' for name in CLASSES}
UNCOLOURED = ('window', 'picture')  # several colours at once: a caption names none
GLUE = ('in', 'room', 'with', 'and', 'an', 'floor', 'walls', 'empty', ',')

VOCABULARY = tuple(
    dict.fromkeys(
        (
            *GLUE,
            *COUNTS[1:],
            *COLOURS,
            *WALL_PATTERNS,
            *FLOOR_PATTERNS,
            *CLASSES,
            *PLURALS.values(),
        )
    )
)
