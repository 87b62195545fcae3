"""From a folder of pictures to names for others: what docs/how-to/own-images.md shows."""

from pathlib import Path

import numpy as np
import pytest
from end_to_end_tools import SMALL, Cli
from PIL import Image, ImageDraw

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(600)]

COLORS = {"red apple": "#c02020", "grüner Apfel": "#30a030", "りんご 'x'": "#e0d040"}
TINY = (*SMALL, "train.epochs=2", "train.global_batch=8", "register.model_name=apples")


def draw(path: Path, color: str, rng: np.random.Generator) -> None:
    image = Image.fromarray(rng.integers(0, 256, (60, 70, 3), dtype=np.uint8))
    x, y = rng.integers(0, 20, 2).tolist()
    ImageDraw.Draw(image).ellipse((x, y, x + 40, y + 40), fill=color)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def test_a_folder_of_pictures_becomes_names_for_others(tmp_path: Path) -> None:
    rng, pictures, others = np.random.default_rng(0), tmp_path / "my images", tmp_path / "others"
    for name, color in COLORS.items():
        for number in range(20):
            draw(pictures / name / f"{number}.png", color, rng)
        draw(others / f"{name}.jpg", color, rng)
    whole = (others / "red apple.jpg").read_bytes()
    (others / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (others / "note.txt").write_text("no picture")

    cli = Cli(tmp_path / "workspace", TINY)
    document = cli.run_well("run", "demo", "--from-folder", str(pictures))
    assert (document["num_classes"], document["train"]["count"], document["count"]) == (3, 52, 8)
    assert document["model_uri"] == "models:/apples/1"

    plain = Cli(cli.workspace, settings=())
    answers = plain.run_well("predict", "models:/apples@champion", str(others))
    found = [Path(item["path"]).stem for item in answers["predictions"]]
    assert found == sorted(COLORS)
    for item in answers["predictions"]:
        assert {top["name"] for top in item["top"]} == set(COLORS)
        assert {top["wnid"] for top in item["top"]} == set(COLORS)
        assert sum(top["probability"] for top in item["top"]) == pytest.approx(1, abs=1e-4)
    assert [Path(item["path"]).name for item in answers["rejected"]] == ["cut.jpg", "note.txt"]
    assert all(item["reason"] for item in answers["rejected"])

    (training,) = plain.run_well("runs")["runs"]
    assert (training["name"][:5], training["dataset"]) == ("demo-", "my-images")
    nothing = plain.run("predict", training["name"], str(others / "note.txt"))
    assert (nothing.code, nothing.document["error"]["type"]) == (3, "InputRejected")
