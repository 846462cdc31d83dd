"""What a certificate promises, what it assumes and what voids it, in words that stand beside every number."""

from poison_and_defend.reports.certificate.records import Certificate

_VOIDS = (
    "added or removed training images, and changed labels: the number of images and all labels are taken as received",
    "a choice of hyper-parameters that looked at the received images, other than through counted pilots",
    "noise drawn again in every epoch, or models that share noise, subsamples or seeds: this program does neither",
    "votes added because the first result was not enough: every further claim adds another alpha",
)


def voids(result: Certificate) -> list[str]:
    """What voids it, line by line."""
    if result.trigger:
        first = f"a change of the test image of more than {result.trigger} ({result.norm})"
    elif result.test_sigma:
        first = "a trigger or any other change of the test image: it is noised, but none was asked for (--trigger)"
    else:
        first = "a trigger or any other change of the test image: it is not noised, so that backdoors are outside the claim"
    return [first, *_VOIDS]


def eps_label(eps: str) -> str:
    """A budget as a reader expects it."""
    return "any change" if eps == "any" else eps


def promise(result: Certificate) -> str:
    """The claim itself."""
    if not result.certified:
        return (
            "NOT CERTIFIED: " + "; ".join(result.void) + ". The numbers below are what the formulas give, and promise nothing."
        )
    alpha = result.alpha
    besides = f", with the test image changed by up to {result.trigger} ({result.norm}) besides" if result.trigger else ""
    return (
        "An image counts as certified if the vote's answer is right and provably the likeliest class over the models' "
        "randomness, on the received set and on every training set that differs from it within the budget, such as the one "
        f"before it was poisoned{besides}. That is what holds of the vote at hand; N other models, on such a set, would be "
        "another estimate of the same class. Abstentions count as not certified. Each claim is about one test image and wrong "
        f"with chance at most {alpha:g} over the models' randomness; it is not a claim about all images at once, unless a "
        "column says so."
    )


def test_noise_note(result: Certificate) -> str:
    """That test images were noised; "" where they were not."""
    if not result.test_sigma:
        return ""
    return f"Every model saw each test image under noise of its own, sigma {result.test_sigma:g}."


def looks_note(result: Certificate) -> str:
    """A warning where votes were turned into claims more than once; "" otherwise."""
    every = [*result.settings, *result.bagging]
    last = max(every, key=lambda record: record.looks)
    # Those of one run are accounted for: each table has its own share of alpha.
    if last.looks <= len(every):
        return ""
    level = last.level if last.level is not None else last.looks * result.alpha
    return (
        f"{last.looks} claims have been made about this received set, with other votes, numbers of models, settings or levels: "
        f"if this one was chosen among them, it is wrong with chance at most {min(1.0, level):.2g}."
    )


def hindsight_note(result: Certificate) -> str:
    """What choosing the best of several settings costs; "" where there is one."""
    count = len(result.settings)
    if count < 2:
        return ""
    return f"Best of {count} settings, chosen in hindsight: alpha is divided by {count}, so that all of them hold at once."


def assumptions(result: Certificate) -> list[str]:
    """One line for each ingredient: where it came from."""
    lines = [f"{i['name']}: {i['origin']}, {i['detail']}" for i in result.ingredients]
    if result.randomness.get("noise_seed") == "secret":
        lines.append(
            "subsamples, noise and training seeds: secret, drawn from the operating system once the set was there; commitment "
            f"{result.randomness['commitment']}"
        )
    return lines


def seed_note(result: Certificate) -> str:
    """A warning where the voters' randomness was no secret; "" otherwise, and for records that do not say."""
    seed = result.randomness.get("noise_seed")
    if seed in (None, "secret"):
        return ""
    return (
        f"The seed {seed} of subsamples, noise and training was given (--noise_seed): reproduction only, void against an "
        "attacker who knew it when the poisons were made."
    )


def trusted_note(result: Certificate) -> str:
    """What the trusted data can do alone; "" where that was not measured."""
    known = [r.trusted_alone for r in result.settings if r.trusted_alone is not None]
    if not known:
        return ""
    return (
        "This rests on trusted features. The trusted images alone, with no received image at all, give "
        f"{max(known):.1%} accuracy, which no poison changes: the received set is worth using only where the vote beats "
        "that, or where trusted images have no labels of the classes wanted."
    )


def challenge_note(result: Certificate) -> str:
    """What an attack inside the budget did to certified images; "" where none was tried."""
    tried = [r.challenge for r in result.settings if r.challenge is not None and r.challenge.targets]
    parts = [
        f"{c.targets} certified images with least to spare, attacked by {c.k} poisons of {c.eps} each "
        f"({c.attack.replace('_', ' ')}, which knows the features): {c.flips} votes flipped, winners kept "
        f"{sum(c.votes_after) / sum(c.votes_before):.0%} of their votes; undefended, one head on the raw features reads "
        f"{c.undefended_flips} of them as the attacker wants."
        for c in tried
    ]
    return " ".join(parts)


def notes(result: Certificate) -> list[str]:
    """All notes that apply, in order."""
    makers = (promise, test_noise_note, seed_note, hindsight_note, looks_note, trusted_note, challenge_note)
    return [text for text in (maker(result) for maker in makers) if text]
