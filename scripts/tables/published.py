"""What others published of countermeasures beside what our records say, and which countermeasure to take when."""

from scripts.tables.reading import Row, Rows, percent, read

_PHOTOGRAPHS, _DIGITS = "countermeasures_bullseye", "countermeasures_digits"
_FROM_SCRATCH = "countermeasures_witches_brew"
_PUREGEN = "Bullseye white box, linear (Bhat et al., 2024)"


def published() -> Rows:
    """A method a row: the published figure, ours, and what differs."""
    photographs, digits = _summary(_PHOTOGRAPHS), _summary(_DIGITS)

    def both(arm: str) -> str:
        return f"{_left(photographs[arm])} on photographs, {_left(digits[arm])} on digits"

    jpeg = ", ".join(_left(photographs[f"jpeg_{quality}"]) for quality in (25, 50, 75, 85))
    pure = photographs["puregen_15"]
    purified = f"{_left(pure)}, accuracy {_right(photographs['no_attack'])} to {_right(pure)}"
    return [
        ["method", "success left, as published", "here", "the difference"],
        [
            "deep k-NN",
            "96 % of Bullseye's in transfer (De Gaspari et al., 2024)",
            both("deep_knn"),
            "14 % of 500 rows there; k = 2 b = 50 here, of classes of 50 and 60",
        ],
        [
            "spectral signatures",
            "74 % of Bullseye's in transfer (the same)",
            both("spectral_signatures"),
            "37 rows of every class go here",
        ],
        [
            "EPIC",
            f"63 to 98 %, {_PUREGEN}; 0 % (De Gaspari et al., 2024)",
            both("epic_transfer"),
            "alpha .1 to .3 there, .3 here",
        ],
        [
            "PureGen's DDPM",
            f"9 %, accuracy 70 to 55 %, {_PUREGEN}",
            f"{purified} on photographs",
            "features that know ImageNet, a denoiser of this project, 15 of 75 steps",
        ],
        [
            "JPEG 25, 50, 75, 85",
            f"8, 16, 36, 51 %, {_PUREGEN}",
            f"{jpeg} on photographs",
            "our data had been compressed with quality 75 before",
        ],
    ]


def which_one() -> Rows:
    """What a practitioner knows and may lose, what to take then, and what that rests on."""
    photographs, digits = _summary(_PHOTOGRAPHS), _summary(_DIGITS)
    scratch = _summary(_FROM_SCRATCH)
    untrusting = 100 * (photographs["no_attack"]["clean_accuracy"] - photographs["trusted_only"]["clean_accuracy"])
    lost = 100 * (photographs["no_attack"]["clean_accuracy"] - photographs["diffusion"]["clean_accuracy"])
    return [
        ["what you know, and what you may lose", "take", "what it rests on"],
        [
            f"frozen features, no idea of the attack; {lost:.0f} points of accuracy may go",
            "noise and one-shot denoising at sigma .25, nothing behind it",
            "the attacker's ignorance: [who knows it](who-knows-the-defence.md) breaks it with 5 % poisons, not with 1 %",
        ],
        [
            "the same, and no accuracy may go",
            f"re-encoding with the data's own JPEG tables, if they were JPEG ({_left(photographs['jpeg_75'])} success left)",
            "luck, which anybody can reckon with",
        ],
        [
            "frozen features, and a bound on the poisons well below a class's size",
            f"deep k-NN with `k = 2 b` ({_left(digits['deep_knn'])} on digits)",
            "an attacker who ignores it; where half of a class is poisoned it fails "
            f"({_left(photographs['deep_knn'])} on photographs)",
        ],
        [
            f"a hundred rows that can be trusted, and frozen features; {untrusting:.0f} points of accuracy may go",
            "heads on these rows, with or without received ones",
            f"nothing that the attacker touches ({_left(photographs['hybrid'])} success left whatever he knows)",
        ],
        [
            "an answer must stand whatever a few rows are",
            "[radius neighbours, kernels or votes](any-change.md), with certainty",
            "frozen features of data that the attacker did not touch",
        ],
        [
            "training from scratch",
            f"mixup or EPIC ({_left(scratch['mixup'])} and {_left(scratch['epic'])} of digits' "
            f"{_left(scratch['none'])} left); noise alone against Sleeper Agent",
            "attackers who ignore them; [photographs](photographs.md#from-scratch) have only the rewriters",
        ],
    ]


def _summary(record: str) -> dict[str, Row]:
    return {row["defense"]: row for row in read(f"{record}/summary.json")}


def _left(row: Row) -> str:
    return percent(row["success_rate"], 0)


def _right(row: Row) -> str:
    return percent(row["clean_accuracy"])
