import io

import numpy as np
import pytest
from PIL import Image

from poison_and_defend.reports.experiment.feature_space import feature_space, project_axes, relative_distance
from poison_and_defend.reports.figures import to_png

rng = np.random.default_rng(0)
SHIFT = np.zeros(16)
SHIFT[3] = 4.0


def arm(poisons_at: float, rotation: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Two classes four apart along one of 16 axes, while another axis has more variance."""
    spread = np.ones(16)
    spread[7] = 30.0
    groups = {
        "base_class": rng.normal(size=(80, 16)) * spread,
        "target_class": rng.normal(size=(60, 16)) * spread + SHIFT,
        "poisons": rng.normal(size=(20, 16)) * 0.1 + poisons_at * SHIFT,
        "targets": rng.normal(size=(3, 16)) * 0.1 + SHIFT,
    }
    turn = np.eye(16) if rotation is None else rotation
    return {key: (values @ turn).astype(np.float32) for key, values in groups.items()}


def test_axes_are_orthonormal_and_the_first_is_the_line_between_the_class_means() -> None:
    features = arm(1.0)
    axes = project_axes(features["base_class"], features["target_class"])
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-9)
    line = features["target_class"].mean(0, dtype=float) - features["base_class"].mean(0, dtype=float)
    np.testing.assert_allclose(axes @ line, [np.linalg.norm(line), 0], atol=1e-5)


def test_the_second_axis_has_the_most_variance_of_all_that_are_orthogonal_to_the_first() -> None:
    features = arm(1.0)
    axes = project_axes(features["base_class"], features["target_class"])
    both = np.concatenate([features["base_class"], features["target_class"]]).astype(float)
    remaining = np.eye(16) - np.outer(axes[0], axes[0])
    values, vectors = np.linalg.eigh(remaining @ np.cov(both.T) @ remaining)
    assert abs(axes[1] @ vectors[:, -1]) == pytest.approx(1)
    assert np.var(both @ axes[1], ddof=1) == pytest.approx(values[-1])


def test_axes_point_the_same_way_whatever_the_order_of_images() -> None:
    features = arm(1.0)
    one = project_axes(features["base_class"], features["target_class"])
    two = project_axes(features["base_class"][::-1], features["target_class"][::-1])
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("features", [np.zeros((4, 5)), np.tile([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]], (3, 1))])
def test_features_that_say_nothing_still_have_axes(features: np.ndarray) -> None:
    axes = project_axes(features, features)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-9)


def test_relative_distance_is_in_units_of_the_classes_and_survives_a_rotation() -> None:
    features = {"base_class": np.zeros((2, 3)), "target_class": np.tile([3.0, 0, 4.0], (2, 1))}
    features |= {"poisons": np.array([[0, 0, 0], [0, 2.0, 0]]), "targets": np.array([[0, 1.0, 2.5]])}
    assert relative_distance(features) == pytest.approx(0.5)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert relative_distance({key: values @ rotation for key, values in features.items()}) == pytest.approx(0.5)
    assert relative_distance(features, features | {"target_class": np.tile([5.0, 0, 0], (2, 1)) * 2}) == pytest.approx(0.25)


def offsets(axes) -> list[np.ndarray]:
    return [np.asarray(points.get_offsets()) for points in axes.collections]


def test_panels_place_the_class_means_at_zero_and_one() -> None:
    figure = feature_space([("undefended", arm(1.0)), ("defended", arm(0.0))], "setup 0", shared=False)
    for axes, expected in zip(figure.axes, (1.0, 0.0), strict=True):
        base, target, poisons, _ = offsets(axes)
        assert base[:, 0].mean() == pytest.approx(0, abs=1e-5)
        assert target[:, 0].mean() == pytest.approx(1, abs=1e-5)
        assert target[:, 1].mean() == pytest.approx(base[:, 1].mean(), abs=1e-4)
        assert poisons.shape == (20, 2)
        assert poisons[:, 0].mean() == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("shared", [True, False])
def test_only_a_shared_extractor_has_shared_axes(shared: bool) -> None:
    rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    one = arm(1.0)
    two = {key: values @ rotation for key, values in one.items()}
    first, second = feature_space([("a", one), ("b", two)], "setup 0", shared=shared).axes
    # Axes of its own undo a rotation, up to the arbitrary sign of the second; the first arm's do not.
    same = [np.allclose(np.abs(a), np.abs(b), atol=1e-3) for a, b in zip(offsets(first), offsets(second), strict=True)]
    # Signs aside, the base class's second coordinates are about its own mean, so all groups compare.
    assert all(same) != shared
    assert first.get_shared_x_axes().joined(first, second) == shared


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_picture_names_its_arms_groups_and_distances(count: int) -> None:
    arms = [(f"arm {number}", arm(number / 4)) for number in range(count)]
    figure = feature_space(arms, "setup 0", tested="triggered images")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == [label for label, _ in arms]
    for axes, (_, arrays) in zip(shown, arms, strict=True):
        assert f"{relative_distance(arrays, arms[0][1]):.2f}" in axes.texts[0].get_text()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "base class, clean",
        "class of the triggered images, clean",
        "poisons (labelled as base class)",
        "triggered images",
    ]
    assert np.asarray(Image.open(io.BytesIO(to_png(figure))).convert("L")).std() > 5
