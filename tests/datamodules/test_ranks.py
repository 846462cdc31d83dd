from poison_and_defend.core.processes.ranks import Ranks


def test_every_number_falls_to_exactly_one_rank():
    for world in (1, 2, 3, 7):
        shares = [n for rank in range(world) for n in Ranks(rank, world).share(20)]
        assert sorted(shares) == list(range(20))


def test_a_single_rank_gathers_its_own_value():
    assert Ranks().gather("x") == ["x"]
