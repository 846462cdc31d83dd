import json
import stat

import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.noise_secret import (
    draw_secret,
    forget_secrets,
    keep_secret,
    recall_secret,
    secret_path,
    share_secret,
)


def test_secrets_differ_and_their_commitments_do_not_tell_them() -> None:
    drawn = [draw_secret() for _ in range(50)]
    assert len({s.seed for s in drawn}) == len({s.salt for s in drawn}) == len({s.commitment for s in drawn}) == 50
    assert all(0 <= s.seed < 2**63 and len(s.commitment) == 64 for s in drawn)
    assert max(s.seed for s in drawn) > 2**60
    # Without its salt a seed would be found by trying.
    assert type(drawn[0])(drawn[0].seed, drawn[1].salt).commitment != drawn[0].commitment


def test_a_secret_is_kept_beside_the_output_for_its_owner_alone(tmp_path) -> None:
    place, secret = tmp_path / "clean", draw_secret()
    keep_secret(place, secret, "--out")
    (found,) = tmp_path.iterdir()
    assert found.name.startswith(".clean.noise-") and stat.S_IMODE(found.stat().st_mode) == 0o600
    assert recall_secret(place, secret.commitment, "--out") == secret


@pytest.mark.parametrize("damage", ["gone", "cut", "other seed", "text"])
def test_a_secret_that_is_gone_or_changed_is_refused(tmp_path, damage: str) -> None:
    place, secret = tmp_path / "clean", draw_secret()
    keep_secret(place, secret, "--out")
    path = secret_path(place, secret.commitment)
    value = json.loads(path.read_text())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_text(path.read_text()[:30])
    else:
        path.write_text(json.dumps(value | {"seed": value["seed"] ^ 1 if damage == "other seed" else "1"}))
    with pytest.raises(InputError, match=r"clean.*\(--out\)"):
        recall_secret(place, secret.commitment, "--out")


def test_only_earlier_secrets_of_the_same_output_are_forgotten(tmp_path) -> None:
    first, second, other = draw_secret(), draw_secret(), draw_secret()
    for place, secret in (("a[1]", first), ("a[1]", second), ("a[1].b", other)):
        keep_secret(tmp_path / place, secret, "--out")
    forget_secrets(tmp_path / "a[1]", second.commitment)
    assert recall_secret(tmp_path / "a[1]", second.commitment, "--out") == second
    assert recall_secret(tmp_path / "a[1].b", other.commitment, "--out") == other
    assert len(list(tmp_path.iterdir())) == 2


def test_names_without_room_for_a_suffix_keep_their_secret_too(tmp_path) -> None:
    place, secret = tmp_path / ("x" * 255), draw_secret()
    keep_secret(place, secret, "--out")
    assert recall_secret(place, secret.commitment, "--out") == secret
    forget_secrets(place, None)
    assert not list(tmp_path.iterdir())


def test_all_processes_share_what_the_first_one_drew(tmp_path) -> None:
    path, first, second = tmp_path / ".kept.noise.json", draw_secret(), draw_secret()
    assert share_secret(path, first, "folder") == first == share_secret(path, second, "folder")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and [p.name for p in tmp_path.iterdir()] == [path.name]
    path.write_text("{}")
    with pytest.raises(InputError, match=r"no field seed \(folder\)"):
        share_secret(path, second, "folder")
