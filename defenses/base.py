"""What every countermeasure has in common, of whichever of the four kinds it is."""

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Self

SECRET = "secret"
"""What settings say of a seed that only a private file holds."""


class Defense(ABC):
    """Base of rewriters, filters, training recipes and votes: one paper a file, one YAML file a preset.

    Whoever writes one of his own derives from the kind, not from this class.
    """

    name: ClassVar[str]
    """Name in records; that of an arm with this one defence, unless its user calls it otherwise."""

    label: ClassVar[str] = ""
    """Name in tables and figures; by default the name in words."""

    color: ClassVar[str | None] = None
    """Of its bars in figures; None for the next one of Matplotlib's."""

    given: Mapping[str, Any] = {}
    """Arguments as they were given, of a defence that leaves some to :meth:`completed`."""

    def settings(self) -> dict[str, Any]:
        """All that the outcome depends on besides the set, as JSON can hold it: it names stores, models and arms.

        By default every public attribute that is a plain value; whatever else matters has to be added.
        """
        plain = {key: value for key, value in vars(self).items() if isinstance(value, int | float | str | bool | None)}
        return {"defense": self.name, **{key: value for key, value in plain.items() if not key.startswith("_")}}

    def completed(self, **common: Any) -> Self:
        """The same with what all arms of a run share in place of arguments that were left out, which are None.

        Args:
            common: Arguments by name; those that it does not have are passed over.

        Raises:
            InputError: If a value is out of range.
        """
        missing = {key: common[key] for key, value in self.given.items() if value is None and key in common}
        return type(self)(**{**self.given, **missing}) if missing else self

    def check(self, image_shape: tuple[int, int, int], num_classes: int) -> None:  # noqa: B027 - most work on any data
        """Refuse data that it cannot work on, before anything is computed.

        Args:
            image_shape: (C, H, W).
            num_classes: Of the data set.

        Raises:
            InputError: If it cannot.
        """

    def told(self, bound: int | None) -> str:
        """What its defender is told that a real one would have to find out, in words; by default nothing, "".

        Args:
            bound: What the run tells of the poisons of one class; None for nothing.
        """
        del bound
        return ""

    @classmethod
    def title(cls) -> str:
        """What readers see."""
        return cls.label or cls.name.replace("_", " ")
