"""Blocks go through all stages in order, and a stage never waits for one that it need not wait for."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from poison_and_defend.sanitizing.pipeline import Computing, Pipeline


def run(blocks: int, *, fail: str | None = None) -> list[str]:
    """What happens, in order: each stage's begin, as ``read 0``."""
    events: list[str] = []
    left = iter(range(blocks))

    def note(stage: str, block: int) -> None:
        events.append(f"{stage} {block}")
        if fail == events[-1]:
            raise OSError(fail)

    with ThreadPoolExecutor(1) as pool:

        def read(block: int) -> list[Future]:
            note("read", block)
            return [pool.submit(lambda: [SimpleNamespace(row=block)])]

        def compute(block: int, items: list) -> Computing:
            assert [item.row for item in items] == [block]
            note("compute", block)
            return Computing(block, items, [], lambda: [])

        pipeline = Pipeline(
            claim=lambda: next(left, None),
            read=read,
            compute=compute,
            write=lambda begun: pool.submit(note, "write", begun.block),
        )
        pipeline.advance()
        while pipeline.busy:
            pipeline.advance()
    return events


@pytest.mark.parametrize("blocks", [0, 1, 2, 7])
def test_every_block_goes_through_every_stage_once(blocks: int) -> None:
    events = run(blocks)
    assert sorted(events) == sorted(f"{stage} {block}" for stage in ("read", "compute", "write") for block in range(blocks))
    for block in range(blocks):
        assert events.index(f"read {block}") < events.index(f"compute {block}") < events.index(f"write {block}")


def test_the_next_block_is_read_before_one_is_denoised_and_denoised_before_that_is_written() -> None:
    events = run(4)
    for block in range(3):
        assert events.index(f"read {block + 1}") < events.index(f"compute {block}")
        assert events.index(f"compute {block + 1}") < events.index(f"write {block}")


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_what_fails_in_a_stage_ends_the_run(stage: str) -> None:
    with pytest.raises(OSError, match=f"{stage} 2"):
        run(5, fail=f"{stage} 2")
