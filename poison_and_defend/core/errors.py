"""The one exception that means: the user can fix this."""


class InputError(ValueError):
    """Bad input, described in one sentence that names the value, the bound and the option.

    The command line prints it without a traceback and exits with status 2. Anything else that is raised is
    a defect of this project and keeps its traceback.

    What it quotes may come from a file that anybody wrote. So characters that a terminal would obey are written out, and what
    is longer than any sentence is cut in its middle.
    """

    def __init__(self, message: object = "") -> None:
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(message))
        super().__init__(text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}")


_LONGEST = 3000


def no_images(place: str, option: str) -> InputError:
    """What is said where the images to be cleaned are not."""
    return InputError(
        f"there is no folder and no file {place}: name a folder, an image, a pattern such as 'photos/**/*.jpg', a list "
        f"[a.png,b.png] or an .npz ({option})"
    )
