import json

from poison_and_defend.reports.provenance import package_versions, provenance, revision


def test_a_result_says_what_made_it() -> None:
    made = provenance("cpu", 3)
    assert made == json.loads(json.dumps(made))
    assert made["hardware"].startswith("3 x ")
    assert made["revision"] == revision() != ""
    assert {"torch", "diffusers", "lightning"} <= set(made["versions"])
    assert "unknown" not in made["versions"].values()
    assert package_versions(["no-such-package-here"]) == {"no-such-package-here": "unknown"}
