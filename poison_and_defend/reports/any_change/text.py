"""What a certificate of any change promises, in words that stand beside every number."""

from poison_and_defend.reports.any_change.records import AnyChange

VOIDS = (
    "networks, a reference or trusted images that the attacker could touch",
    "rows that were numbered after the attacker knew which images they would be: heads of parts need their numbers; "
    "neighbours do not",
    "a trigger or any other change of the test image",
    "another choice of votes or settings after a look at these numbers",
)


def promise(result: AnyChange) -> str:
    """The claim itself."""
    if not result.certified:
        return (
            "NOT CERTIFIED: " + "; ".join(result.void) + ". The numbers below are what the formulas give, and promise nothing."
        )
    return (
        "An image counts as certified against k poisons if the vote reads it right, and gives the same answer for every "
        f"training set in which up to k of the {result.received:,} received images are others, whatever they look like; their "
        "labels stay. Nothing is estimated and nothing drawn: this holds with certainty, for the very program that gives the "
        "answers, and for the set as received as for the one before it was poisoned."
    )


def choice_note(result: AnyChange) -> str:
    """How settings came about."""
    serve = "Who must serve one answer whatever k is takes one column's."
    if not result.labelled:
        return (
            "Settings follow from the numbers of images, classes and poisons, and radii from how alike trusted images are; no "
            f"label chose anything. {serve}"
        )
    return (
        "Each row has the settings that did best for its number of poisons on the reference, none of whose images was "
        f"received; the first row has the vote that did best there of all. {serve}"
    )


def alone_note(result: AnyChange) -> str:
    """What trusted images can do alone."""
    if result.alone is None:
        return "No image was trusted with its label: the votes rest on pretrained features and received labels alone."
    return (
        f"The {result.trusted:,} trusted labels give {result.alone:.1%} accuracy alone, which no poison changes: the received "
        "set is worth using where a vote is above that."
    )


def notes(result: AnyChange) -> list[str]:
    """All notes that apply, in order."""
    return [promise(result), choice_note(result), alone_note(result)]
