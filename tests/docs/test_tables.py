"""Figures of pages are those of the committed records."""

import json
import re
from pathlib import Path

import pytest

from scripts.tables import pages as tables

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "docs" / "records"


def record(name: str):
    return json.loads((RECORDS / name).read_text())


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.stem)
def test_tables_are_what_the_records_say(page: Path) -> None:
    text = page.read_text()
    assert text == tables.filled(text), "run: python -m scripts.tables"
    # A table beside the marked regions would be one that nobody compares.
    assert not re.findall(r"^\|---", tables.REGION.sub("", text), re.MULTILINE)


def test_every_table_is_shown_and_every_mark_has_its_end() -> None:
    texts = [page.read_text() for page in tables.PAGES]
    shown = [name for text in texts for _, name, _ in tables.REGION.findall(text)]
    assert set(shown) == set(tables.TABLES)
    assert sum(text.count("<!-- table: ") for text in texts) == len(shown)


def test_a_figure_that_was_changed_by_hand_is_seen() -> None:
    text = tables.filled("<!-- table: digits-defences -->\n<!-- /table -->\n")
    assert "| no attack |  |  | 0 of 20 = 0 % (0 to 17) | 99.4 % |" in text
    assert tables.filled(text.replace("99.4", "99.5")) == text


KINDS = {
    "heads": "{} times as fast as one after another in an ordinary loop ({} to {})",
    "convnet": "convnet is {} times as fast ({} to {})",
}


def told(counts: dict[tuple[str, str, str], int], attacker: str, sentence: str) -> str:
    """A sentence of undefended Bullseye against victims that augment and that do not."""
    return sentence.format(
        *(counts[v, f"{attacker}_bullseye_polytope", "none"] for v in ("cifar10_transfer", "cifar10_transfer_plain"))
    )


def sentences() -> list[tuple[str, str]]:
    """Figures outside tables: a page, and what it must say by the records."""
    found = []
    convex = {row["defense"]: row for row in record("cifar10_transfer_convex/summary.json")}
    told_of = "misleads {} of {} victims, {} after noise and denoising"
    counts = (convex["none"]["successes"], convex["none"]["n"], convex["diffusion"]["successes"])
    found.append(("docs/results/cifar10.md", told_of.format(*counts)))
    whose = [record(f"fashion_mnist_attackers/{knows}/summary.json") for knows in ("oblivious", "defense")]
    for row, known in zip(*whose, strict=True):
        if row["defense"] in ("no_attack", "none", "diffusion"):
            counts = [f"{one['successes']} of {one['n']} = {one['success_rate']:.0%}" for one in (row, known)]
            accuracy = " / ".join(dict.fromkeys(f"{one['clean_accuracy']:.1%}" for one in (row, known)))
            found.append(("README.md", " │ ".join([*counts, accuracy])))
    for network in ("lite0", "lite2"):
        noise = {(row["denoiser"], row["sigma"]): row for row in record(f"denoising_{network}.json")["rows"]}
        before, after = (noise[name, 0.25]["accuracy"]["500"] for name in ("pixels", "photos-32"))
        found.append(("docs/results/photographs.md", f"{before:.1f} → {after:.1f} %"))
    white = {
        (name, row["defense"]): row
        for name in ("photographs_8", "photographs_8_sigmas", "photographs_8_five")
        for row in record(f"{name}/summary.json")
        if row["victim"] == "lite0" and row["attack"] == "bullseye_polytope"
    }
    misread = {key: row["successes"] for key, row in white.items()}
    lost = {key: 100 * (white[key[0], "no_attack"]["clean_accuracy"] - row["clean_accuracy"]) for key, row in white.items()}
    strong, mild = ("photographs_8", "diffusion_25"), ("photographs_8", "diffusion_10_4")
    few = "photographs_8_five", "diffusion_10_4"
    assert 1.5 < lost[mild] < 2 and misread[few] <= misread["photographs_8_five", "no_attack"]
    cost = f"({misread[strong]} of 40 targets against {misread['photographs_8', 'no_attack']} without an attack), costs "
    found += [
        ("docs/results/photographs.md", f"{cost}{lost[strong]:.0f} points of accuracy"),
        ("docs/results/photographs.md", f"sigma .1 with four draws, leaves {misread[mild]} of 40"),
        ("docs/results/photographs.md", f"no more than chance, for {lost[few]:.1f} points"),
        (
            "docs/results/photographs.md",
            f"at sigma .25 {misread['photographs_8_sigmas', 'diffusion_25_4']} of 40 targets instead of {misread[strong]}",
        ),
    ]
    augmenting, usual = (
        {
            (r["victim"], r["defense"]): r["successes"]
            for r in record(f"{name}/summary.json")
            if r["attack"] == "bullseye_polytope"
        }
        for name in ("photographs_8_unaware", "photographs_8")
    )
    arms = ("lite0", "none"), ("lite0", "diffusion_10")
    saved, left = 40 - augmenting[arms[0]], augmenting[arms[1]]
    found.append(("docs/results/photographs.md", f"it saves {saved} of 40 victims undefended, and leaves {left} at sigma .1"))
    halves = f"({usual['lite2', 'none']} to {augmenting['lite2', 'none']})"
    found.append(("docs/results/photographs.md", f"it halves what carries over {halves}"))
    both = {r["defense"]: r for r in record("photographs_heads_on_both/summary.json") if r["victim"] == "lite0"}
    assert both["both_10"]["successes"] == both["both_25"]["successes"] == both["none"]["successes"] == 40
    shares = [f"{100 * both[arm]['clean_accuracy']:.1f} %" for arm in ("both_10", "both_25")]
    found.append(("docs/results/photographs.md", f"({shares[0]} at sigma .1, {shares[1]} at .25)"))
    small = record("fashion_mnist_7000_any_change/any_change.json")
    (neighbours,) = (vote for vote in small["votes"] if vote["name"] == "neighbours")
    found.append(("README.md", "│ " + " │ ".join(f"{share:.1%}" for share in neighbours["certified"])))
    joint = record("cifar10_joint/certificate.json")
    heads = [next(one for one in joint[kind] if one["m"] == 50)["voter_accuracy"] for kind in ("settings", "bagging")]
    shares = [f"{100 * share:.1f}" for share in heads]
    found.append(("docs/results/any-change.md", f"one head on 50 images reads {shares[0]} % right instead of {shares[1]}"))
    mnist = record("mnist_certificate/certificate.json")
    alone = f"{100 * mnist['settings'][0]['trusted_alone']:.1f} %"
    found.append(("docs/results/mnist-certificates.md", f"with their labels, give {alone}"))
    place = mnist["k"].index(500), mnist["eps"].index("any")
    free = max(one["table_all_settings"][place[0]][place[1]] for one in mnist["settings"])
    found.append(("docs/results/mnist-certificates.md", f"same votes promise {100 * free:.1f} % at 500 poisons of *any*"))

    attacks = {(row["attack"], row["defense"]): row for row in record("digits_attacks/summary.json")}
    before, after = (100 * attacks["label_consistent", name]["success_rate"] for name in ("none", "diffusion"))
    found.append(("README.md", f"({before:.0f} → {after:.0f} %)"))
    weaker = {row["defense"]: row for row in record("digits_witches_brew_sigma_1.5/summary.json")}["diffusion"]
    tuned = f"from 1.5 ({weaker['successes']} of {weaker['n']} at {100 * weaker['clean_accuracy']:.1f} % accuracy)"
    found.append(("docs/results/digits.md", tuned))
    challenge = record("digits_challenge/certificate.json")["settings"][0]["challenge"]
    kept = sum(challenge["votes_after"]) / sum(challenge["votes_before"])
    held = {0: "no vote flips"}[challenge["flips"]]
    found.append(("docs/results/digits.md", f"{held}, and winners keep {100 * kept:.0f} % of their votes"))
    found.append(("docs/results/digits.md", f"in {challenge['undefended_flips']} of {challenge['targets']} cases"))
    plan = record("digits_plan/certificate.json")
    pilots = {(one["sigma"], one["m"]): dict(zip(one["models"], one["expected"], strict=True)) for one in plan["forecasts"]}
    certified = plan["settings"][0]["table"][plan["k"].index(5)][plan["eps"].index("16/255")]
    found.append(("docs/results/digits.md", f"m 60 with {100 * pilots[1.0, 60][400]:.1f} % for 400 models"))
    found.append(("docs/results/digits.md", f"then certified {100 * certified:.1f} %"))
    found.append(("docs/results/digits.md", f"they expect {100 * pilots[1.0, 30][1000]:.1f} %"))
    digits = record("digits_certificate/certificate.json")
    alone = next(one for one in digits["settings"] if one["sigma"] == 1)["table"][digits["k"].index(5)]
    found.append(("docs/results/digits.md", f"found {100 * alone[digits['eps'].index('16/255')]:.1f} %"))

    collisions = record("cifar10_augmentation.json")
    near = f"lies at {collisions['none']['distance']:.2f} of the target's feature norm"
    far = f"poisons lie at {collisions['whole_pixel_shift_and_flip_4_views']['distance']:.2f}"
    found += [("docs/results/cifar10.md", near), ("docs/results/cifar10.md", far)]
    counts = {}
    for victims in ("cifar10_transfer", "cifar10_transfer_plain"):
        for row in record(f"{victims}/summary.json"):
            counts[victims, row["run"], row["defense"]] = row["successes"]
    found.append(
        ("docs/results/cifar10.md", told(counts, "benchmark", "fools {} of 100 victims that augment and {} of those that"))
    )
    found.append(("docs/results/cifar10.md", told(counts, "augmented", "with it, {} and {}.")))
    left = sorted(n for (victims, _, arm), n in counts.items() if (victims, arm) == ("cifar10_transfer", "diffusion"))
    found.append(("docs/results/cifar10.md", f"{left[0]} to {left[-1]} of 100 where unperturbed bases give"))
    brew = {row["defense"]: row["successes"] for row in record("cifar10_from_scratch/witches_brew/summary.json")}
    found.append(("docs/results/cifar10.md", f"keeps {brew['diffusion']} of its {brew['none']} targets"))
    shown = [counts["cifar10_transfer", "augmented_bullseye_polytope", arm] for arm in ("none", "diffusion", "no_attack")]
    said = "{} targets are misread undefended and {} after noise and denoising, where unperturbed images give {}"
    found.append(("docs/results/cifar10.md", said.format(*shown)))
    scratch = {(row["attack"], row["defense"]): row for row in record("photographs_scratch_16/summary.json")}
    kept = [scratch["witches_brew", arm]["successes"] for arm in ("none", "diffusion_10")]
    found.append(("README.md", f"Witches' Brew misleads {kept[0]} of 16 victims before and {kept[1]} after"))
    rates = {
        arm: f"{100 * scratch['sleeper_agent', arm]['success_rate']:.0f}"
        for arm in ("no_attack", "none", "jpeg_25", "noise_only", "diffusion_10")
    }
    shares = f"{rates['none']} and {rates['diffusion_10']} % of the images ({rates['no_attack']} % without an attack; "
    found.append(("README.md", f"{shares}{rates['jpeg_25']} % after JPEG, {rates['noise_only']} % after noise alone)"))
    added = f"({rates['none']} to {rates['noise_only']} % of the triggered images, where no attack gives {rates['no_attack']})"
    found.append(("docs/results/photographs.md", added))
    tiny = {r["defense"]: r for r in record("photographs_tiny/summary.json") if r["victim"] == "lite0"}
    left, plain = (tiny[arm]["successes"] for arm in ("diffusion_25", "no_attack"))
    assert 1.5 < 100 * (tiny["no_attack"]["clean_accuracy"] - tiny["diffusion_25"]["clean_accuracy"]) < 2.5
    found.append(("README.md", f".25 leaves few, of 64 pixels {left} of 40 (no attack: {plain})"))
    few = {
        (c["attacker"], c["victim"], c["sigma"]): c
        for c in record("photographs_tiny_adaptive/border.json")["cells"]
        if c["num_poisons"] == 5
    }
    held, control = few["defense", "lite0", 0.25], few["no_attack", "lite0", 0]
    assert 1.5 < 100 * (control["clean_accuracy"] - held["clean_accuracy"]) < 2.5
    found.append(
        ("README.md", f"{held['successes']}, where no attack gives {control['successes']}, for two points at 64 pixels")
    )
    others = few["oblivious", "lite0", 0.25]["successes"], few["defense", "lite2", 0.25]["successes"]
    misled = f"misleads {held['successes']} of 40 with 5 poisons, who ignores it {others[0]}; {others[1]} of Lite2"
    found.append(("docs/results/photographs.md", f"who knows the defence {misled}"))
    shown = [f"{100 * tiny[arm]['clean_accuracy']:.1f} %" for arm in ("diffusion_25", "no_attack", "none")]
    cost = f"at {shown[0]} against {shown[1]} without an attack and {shown[2]} undefended"
    found.append(("docs/results/photographs.md", cost))
    knows = {(c["victim"], c["num_poisons"]): c["successes"] for c in record("photographs_adaptive/border.json")["cells"]}
    blind = next(
        r
        for r in record("photographs_8/summary.json")
        if (r["victim"], r["attack"], r["defense"]) == ("lite0", "bullseye_polytope", "diffusion_25")
    )
    mild = {(c["victim"], c["num_poisons"]): c["successes"] for c in record("photographs_adaptive_10_4/border.json")["cells"]}
    found.append(("README.md", f"at sigma .1 {mild['lite0', 25]}, where {misread[strong[0], 'diffusion_10_4']} are."))
    found.append(("README.md", f"sigma .1 is broken, too ({mild['lite0', 5]} of 40)"))
    fourfold = (
        f"at sigma .1 {mild['lite0', 25]} and {mild['lite2', 25]}, with 5 poisons {mild['lite0', 5]} and {mild['lite2', 5]}"
    )
    found.append(("docs/results/who-knows-the-defence.md", fourfold))
    twice = {
        (name, c["victim"], c["num_poisons"]): c["successes"]
        for name in ("photographs_adaptive_16", "photographs_adaptive_16_10_4")
        for c in record(f"{name}/border.json")["cells"]
    }
    strong_16, mild_16 = (
        [twice[name, v, k] for v in ("lite0", "lite2") for k in (25, 5)] for name in dict.fromkeys(n for n, *_ in twice)
    )
    page = "docs/results/who-knows-the-defence.md"
    found.append((page, "leaves who knows it {} of 20 with 25 poisons and {} with 5 (Lite2: {} and {})".format(*strong_16)))
    found.append((page, "four draws at .1 {} and {} ({} and {})".format(*mild_16)))
    found.append(("README.md", f"(16/255: {twice['photographs_adaptive_16', 'lite0', 5]} of 20)"))
    control = next(
        r for r in record("photographs_8_five/summary.json") if (r["victim"], r["defense"]) == ("lite0", "no_attack")
    )
    assert knows["lite0", 5] == control["successes"]
    found.append(("README.md", f"by who knows it: {knows['lite0', 5]} of 40 targets, as many as without"))
    broken = f"{knows['lite0', 25]} of 40 targets are misread, where {blind['successes']} are by poisons made in"
    found.append(("README.md", broken))
    found.append(("docs/results/who-knows-the-defence.md", f"and {knows['lite2', 25]} of 40 of Lite2"))
    both_few = f"5 poisons {knows['lite0', 5]} and {knows['lite2', 5]}, as many as"
    found.append(("docs/results/who-knows-the-defence.md", both_few))
    hidden = {
        row["defense"]: f"{100 * row['success_rate']:.0f} %"
        for row in record("photographs_backdoors/summary.json")
        if (row["attack"], row["victim"]) == ("hidden_trigger", "lite0")
    }
    found.append(
        ("README.md", f"puts {hidden['none']} of the triggered images into its class undefended, {hidden['diffusion_10']}")
    )
    found.append(("README.md", f"{hidden['no_attack']} where nobody attacks"))
    rows = record("photographs_backdoors/summary.json")
    hard = {row["defense"]: f"{100 * row['success_rate']:.1f} %" for row in rows if row["attack"] == "label_consistent"}
    said = f"misread undefended, {hard['diffusion']} after sigma .1, and {hard['no_attack']} without an attack (20 setups"
    found.append(("docs/results/photographs.md", said))
    checks = record("fashion_mnist_checks/adaptive_checks.json")["checks"]
    assert len(checks) == 11 and [check["number"] for check in checks if check["verdict"] != "pass"] == [2, 6, 9]
    found.append(("README.md", "three of our eleven checks"))
    lines = (RECORDS / "fashion_mnist_checks" / "adaptive" / "results.jsonl").read_text().splitlines()
    ends = [line for line in map(json.loads, lines) if line["defense"] == "diffusion"]
    near, far = ([line["success"] for line in ends if (line["objective"] < 0.425) == low] for low in (True, False))
    assert all(near)
    said = f"in {len(near)} of 20 setups, and all three targets are misread. Of the other {len(far)}, {sum(far)} are"
    found.append(("docs/results/who-knows-the-defence.md", said))
    free = {row["defense"]: row for row in record("fashion_mnist_unbounded/summary.json")}
    counts = [f"{free[arm]['successes']} of {free[arm]['n']}" for arm in ("diffusion", "none")]
    said = f"mislead {counts[0]} after the defence, and {counts[1]} undefended"
    found.append(("docs/results/who-knows-the-defence.md", said))
    narcissus = {row["defense"]: 100 * row["success_rate"] for row in record("cifar10_narcissus/summary.json")}
    found.append(("README.md", f"half of its effect ({narcissus['none']:.0f} → {narcissus['diffusion']:.0f} %)"))
    evaluating, voting = record("evaluating.json"), record("certification.json")
    voters = voting["heads"]
    sanitizing, gpu = record("sanitizing.json"), record("sanitize_on_gpu.json")
    times = f"{evaluating['times_faster_per_setup_of_many']:.0f} times as long (one setup alone: "
    slowest = min(voters["models_per_second"])
    peaks = f"{sanitizing['peak_megabytes']['1000']:,} MB for 1,000 images, {sanitizing['peak_megabytes']['20000']:,} MB"
    together = {name: (one["times_faster"], *one["times_faster_range"]) for name, one in voting.items() if name in KINDS}
    bare, without = sanitizing["ratio"], sanitizing["without_start_up_ratio"]
    rate = f"{sanitizing['command_images_per_second']:.0f} images a second from the command's start to its end"
    moved = gpu["against_float32_on_cpu"]["few_gpu"]
    found += [
        ("docs/results/speed.md", f"{times}{evaluating['times_faster_one_setup']:g} times)"),
        ("docs/results/speed.md", f"train and vote in {voters['models'] / slowest:.1f} s"),
        *(("docs/results/speed.md", KINDS[name].format(*values)) for name, values in together.items()),
        ("docs/results/speed.md", f"No more than {voting['convnet']['times_faster_at_most']} times can be had"),
        ("docs/results/speed.md", f"turns {100 * (1 - voting['convnet']['votes_unchanged_by_bfloat16']):.0f} % of the votes"),
        ("docs/results/speed.md", f"{rate}, {bare['as loaded']:.2f} times the bare"),
        ("docs/results/speed.md", f"loads it, {bare['channels last']:.2f} times with everything"),
        ("docs/results/speed.md", f"start-up {without['as loaded']:.2f} and {without['channels last']:.2f} times"),
        ("docs/results/speed.md", peaks),
        ("docs/results/speed.md", f"after {gpu['stopped_by_sigterm']['seconds']:.1f} s) or killed"),
        ("docs/results/speed.md", f"by {moved['mean_levels']:.2f} levels on average and {moved['most']} at most"),
    ]
    quick = record("photographs_speed.json")
    ratio, (low, high) = quick["medians"]["prototype over ours"], quick["ranges"]["prototype over ours"]
    found.append(("docs/results/speed.md", f"crafts {ratio:.1f} times as fast ({low:.1f} to {high:.1f})"))
    found.append(("docs/results/speed.md", f"take {quick['medians']['ours over floor']:.2f} times one forward"))
    found.append(("docs/results/speed.md", f"would take {quick['medians']['overwriting over ours']:.2f} times as long"))
    ways = [quick["medians"][f"denoiser, {form} over denoiser, ours"] for form in ("single", "autocast")]
    there = f"{ways[0]:.1f} times as fast as in single precision, and {ways[1]:.1f} times as under"
    found.append(("docs/results/speed.md", there))
    kills = record("kills.json")
    assert not any(kind[bad] for kind in kills["kinds"].values() for bad in ("lost", "wrong", "left", "failed"))
    found.append(("docs/explain/determinism.md", f"{kills['kills']} kills at random moments"))
    found.append(("docs/explain/determinism.md", f"was killed {record('sanitizing_kills.json')['kills_n']} times"))
    return found


def test_figures_in_sentences_are_those_of_the_records() -> None:
    texts: dict[str, str] = {}
    wrong = []
    for page, said in sentences():
        text = texts.setdefault(page, " ".join((ROOT / page).read_text().split()))
        if said not in text:
            wrong.append((page, said))
    assert not wrong
