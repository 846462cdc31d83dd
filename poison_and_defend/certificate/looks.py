"""The register of claims that were made of one received set: every further one is another chance of error."""

from dataclasses import asdict, dataclass
from pathlib import Path

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import digest, make_folder, write_json
from poison_and_defend.core.reading.files import check_fields, guarded, read_json

_WHAT, _OPTION = "no list of claims that were made, without which their number is unknown", "--output_dir"


@dataclass(frozen=True)
class Look:
    """One claim about each of the test images.

    Attributes:
        votes: What the votes depend on, in sixteen hex digits.
        models: How many of them were counted.
        rule: How they became a claim.
        level: The chance at most that a claim about one image is wrong.
    """

    votes: str
    models: int
    rule: str
    level: float


@dataclass(frozen=True)
class Register:
    """A file of all claims about one received set and its test images, whatever their names and settings.

    Attributes:
        path: The file.
    """

    path: Path

    @classmethod
    def of(cls, folder: Path, data: dict[str, str]) -> "Register":
        """The register of a received set.

        Args:
            folder: Where all certificates are kept.
            data: Digests of the set and of what is tested.
        """
        return cls(folder / "looks" / f"{digest(data)}.json")

    def note(self, look: Look) -> list[Look]:
        """Note a claim, once however often it is made again; returns all of them.

        Raises:
            InputError: If the register is damaged or cannot be written.
        """
        known = self.read()
        if look not in known:
            known.append(look)
            make_folder(self.path.parent, _OPTION)
            write_json(self.path, [asdict(one) for one in known])
        return known

    def read(self) -> list[Look]:
        """All claims, in the order in which they were made."""
        try:
            found = read_json(self.path, _WHAT, _OPTION)
        except FileNotFoundError:
            if self.path.is_symlink():
                raise InputError(f"{self.path} is a link to a file that is not there ({_OPTION})") from None
            return []
        kinds: dict[str, type] = {"votes": str, "models": int, "rule": str, "level": float}
        with guarded(self.path, _WHAT, _OPTION):
            if not isinstance(found, list):
                raise ValueError("it is no list")
            return [Look(**check_fields(one, kinds, self.path, _WHAT, _OPTION)) for one in found]
