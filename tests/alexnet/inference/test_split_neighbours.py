"""Neighbours in a validation split are held against a comparison of every pair, written out."""

from typing import Any

import numpy as np
import pytest

from alexnet.evaluate.blocks import BlockReader, plan_blocks
from alexnet.inference import split_neighbours
from alexnet.inference.layer_outputs import LayerOutputs
from alexnet.inference.model_probe import ModelProbe
from alexnet.inference.split_neighbours import nearest_in_split, num_among


def stored(training: Any) -> tuple[np.ndarray, np.ndarray]:
    reader = BlockReader(training.store, training.manifest)
    blocks = [reader.read(block) for block in plan_blocks(training.manifest.val)]
    reader.close()
    return np.concatenate([b.decode() for b in blocks]), np.concatenate([b.labels for b in blocks])


@pytest.mark.parametrize("most", [2048, 64])
def test_the_nearest_are_those_of_comparing_every_pair(
    tiny_training: Any, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split_neighbours, "MOST_AMONG", most)
    pixels, labels = stored(tiny_training)
    probe = ModelProbe(tiny_training.trained)
    features = np.concatenate([probe.features(list(p[None])) for p in pixels]).astype(np.float64)
    rows = [3, 120, 149]
    reports: list[tuple[int, int]] = []
    found = nearest_in_split(
        probe,
        [pixels[row] for row in rows],
        [3, 120, None],
        tiny_training.store,
        tiny_training.manifest,
        lambda done, total: reports.append((done, total)),
    )
    among = min(most, 150)
    assert num_among(tiny_training.manifest) == among
    assert reports[-1] == (among, among)
    for row, own, near in zip(rows, [3, 120, None], found, strict=True):
        far = np.sqrt(np.square(features[:among] - features[row]).sum(axis=1))
        order = [r for r in np.argsort(far, kind="stable").tolist() if r != own][:6]
        assert [one.row for one in near] == order
        np.testing.assert_allclose([one.distance for one in near], far[order], atol=1e-4)
        for one in near:
            assert one.label == labels[one.row]
            np.testing.assert_array_equal(one.pixels, pixels[one.row])


def test_features_are_those_that_the_command_writes(tiny_training: Any) -> None:
    pixels, _ = stored(tiny_training)
    probe = ModelProbe(tiny_training.trained)
    assert probe.hidden_layer == "fc7_relu"
    images = list(pixels[:9])
    for layer in ("fc7_relu", "conv5_relu"):
        expected = LayerOutputs.load(tiny_training.trained, layer)(images).reshape(9, -1)
        found = probe.layer_outputs(images, layer)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(
        probe.features(images), probe.layer_outputs(images, probe.hidden_layer)
    )
