import json

import pytest

from poison_and_defend.certificate.looks import Look, Register
from poison_and_defend.core.errors import InputError

LOOK = Look("0123456789abcdef", 100, "together, 0 select", 0.001)


def test_a_claim_is_counted_once_and_every_other_one_besides(tmp_path):
    register = Register.of(tmp_path, {"train": "a", "test": "b"})
    assert register.note(LOOK) == [LOOK] and register.note(LOOK) == [LOOK]
    others = [Look(LOOK.votes, 200, LOOK.rule, 0.001), Look("other votes", 100, LOOK.rule, 0.01)]
    assert register.note(others[0]) == [LOOK, others[0]]
    assert Register.of(tmp_path, {"test": "b", "train": "a"}).note(others[1]) == [LOOK, *others]
    assert Register.of(tmp_path, {"train": "another set", "test": "b"}).read() == []


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"votes": 3}]', '[{"votes": "a", "models": 1, "rule": ""}]', "["])
def test_a_damaged_register_is_not_taken_for_an_empty_one(tmp_path, content):
    (tmp_path / "looks.json").write_text(content)
    with pytest.raises(InputError, match=r"looks.json is damaged or no list of claims that were made"):
        Register(tmp_path / "looks.json").note(LOOK)
    (tmp_path / "looks.json").unlink()
    (tmp_path / "looks.json").symlink_to("nowhere")
    with pytest.raises(InputError, match="is a link to a file that is not there"):
        Register(tmp_path / "looks.json").read()


def test_the_register_is_readable(tmp_path):
    Register(tmp_path / "looks.json").note(LOOK)
    assert json.loads((tmp_path / "looks.json").read_text()) == [vars(LOOK)]
