import subprocess
import sys

import pytest

from poison_and_defend.core.processes.ranks import Ranks, is_first_rank


def test_ranks_share_work_evenly_and_whole():
    shares = [list(Ranks(rank, 3).share(8)) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == list(range(8))
    assert {len(share) for share in shares} == {2, 3}


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_rank_is_the_one_that_lightning_numbered_so(rank, monkeypatch):
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", rank, raising=False)
    assert is_first_rank() == (rank == 0)


def test_where_nobody_imported_lightning_there_is_one_process():
    code = (
        "import sys; from poison_and_defend.core.processes.ranks import is_first_rank;"
        "assert is_first_rank(); assert 'lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
