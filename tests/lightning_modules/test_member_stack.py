import torch
from torch.func import functional_call, vmap

from poison_and_defend.lightning_modules.member_stack import MemberStack
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.recipe import Recipe


def build(seed: int):
    return build_network("convnet", in_channels=1, num_classes=10, seed=seed)


def test_vectorized_and_member_by_member_forward_agree():
    # On a CPU convolutions run member by member; the stacked form is what a GPU runs.
    stack = MemberStack(build, [1, 2, 3], Recipe())
    parameters, buffers = stack.block_state(0)
    inputs = torch.rand(3, 4, 1, 32, 32)
    template = build(0)
    stacked = vmap(lambda p, b, x: functional_call(template, (p, b), (x,)))(parameters, buffers, inputs)
    torch.testing.assert_close(stack.block_logits(0, inputs), stacked, rtol=1e-4, atol=1e-5)


def test_whether_members_can_be_batched_is_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "poison_and_defend.lightning_modules.member_stack.can_be_stacked", lambda *given: asked.append(given) or True
    )
    stack, inputs = MemberStack(build, [1, 2], Recipe()), torch.rand(2, 3, 1, 32, 32)
    wanted = stack.block_logits(0, inputs)
    meta = stack.to("meta")
    for _ in range(3):
        assert meta.block_logits(0, inputs.to("meta")).shape == wanted.shape
    assert len(asked) == 1
