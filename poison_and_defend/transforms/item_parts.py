"""The image of a data set's item, and the item around it."""

import copy
from collections.abc import Mapping
from typing import Any

from poison_and_defend.core.errors import InputError

# What Hugging Face's and torchvision's data sets call it, looked for where no key was chosen.
_NAMES = ("image", "pixel_values")


def split_item(item: Any, image_key: int | str) -> tuple[Any, Any, int | str | None]:
    """Take the image out of an item.

    Args:
        item: An image, or a tuple, list or dict that holds one.
        image_key: Its place in a tuple or list, its key in a dict; where the default 0 is no key of a dict, ``image``
            or ``pixel_values``.

    Returns:
        The image; the item with None in its place; where it was, None for an item that is an image.

    Raises:
        InputError: If there is nothing at that place.
    """
    if isinstance(item, Mapping):
        key = next((name for name in (image_key, *_NAMES) if name in item), None) if image_key == 0 else image_key
        if key is None or key not in item:
            raise InputError(f"an item has the keys {', '.join(map(str, item))}: {image_key!r} is not among them (image_key)")
        # A plain dict, since other mappings need not allow what is done to them here.
        return item[key], {**item, key: None}, key
    if isinstance(item, tuple | list):
        if not isinstance(image_key, int) or not -len(item) <= image_key < len(item):
            raise InputError(f"an item has {len(item)} members: {image_key!r} is the place of none (image_key)")
        return item[image_key], _replaced(item, image_key, None), image_key
    return item, None, None


def join_item(rest: Any, place: int | str | None, image: Any) -> Any:
    """Put an image back where :func:`split_item` took one; ``rest`` is left as it was, and shares nothing with the item."""
    if place is None:
        return image
    item = copy.deepcopy(rest)
    if isinstance(item, dict):
        item[place] = image
        return item
    assert isinstance(place, int)
    return _replaced(item, place, image)


def _replaced(item: Any, place: int, value: Any) -> Any:
    members = list(item)
    members[place] = value
    if isinstance(item, list):
        return members
    # Named tuples take their members one by one.
    return type(item)(*members) if hasattr(item, "_fields") else tuple(members)
