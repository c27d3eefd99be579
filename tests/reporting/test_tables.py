"""Tables against arithmetic by hand; what is not averaged, and what is missing."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from toy_runs import MakeRun

from anomaly_gan.data.cifar import CIFAR10, CIFAR100
from anomaly_gan.data.fashion_mnist import FashionMNIST
from anomaly_gan.errors import UserError
from anomaly_gan.reporting.collect import collect
from anomaly_gan.reporting.contents import contents
from anomaly_gan.reporting.generators import distances
from anomaly_gan.reporting.plain import markdown
from anomaly_gan.reporting.published import FILE, published
from anomaly_gan.reporting.tables import MEAN, Table, tables


def only_table(folder: Path, score: str | None = None) -> Table:
    (table,) = tables(collect([folder]).runs, score)
    return table


def test_a_cell_is_mean_and_sample_deviation_over_seeds(run: MakeRun, tmp_path: Path) -> None:
    values = [0.90, 0.92, 0.97]
    for seed, value in enumerate(values):
        run(f"ball_{seed}", value, seed=seed)
    cell = only_table(tmp_path).rows[0].cells["ball"]
    assert cell.mean == pytest.approx(100 * np.mean(values))
    assert cell.sd == pytest.approx(100 * np.std(values, ddof=1))
    assert cell.seeds == [0, 1, 2]


def test_the_mean_is_over_the_seeds_that_have_all_classes(run: MakeRun, tmp_path: Path) -> None:
    aurocs = {("ball", 0): 0.90, ("doll", 0): 0.80, ("ball", 1): 0.94, ("doll", 1): 0.70, ("ball", 2): 0.10}
    for (name, seed), value in aurocs.items():
        run(f"{name}_{seed}", value, normal_class=name, seed=seed)
    row = only_table(tmp_path).rows[0]
    assert row.cells[MEAN].mean == pytest.approx(np.mean([85, 82]))
    assert row.cells[MEAN].sd == pytest.approx(np.std([85, 82], ddof=1))
    assert row.cells[MEAN].seeds == [0, 1]
    assert row.cells[MEAN].classes is None


def test_a_mean_over_some_classes_says_how_many_and_is_never_best(run: MakeRun, tmp_path: Path) -> None:
    run("a", 0.9, classes=["ball", "doll", "kite"])
    run("b", 0.7, normal_class="doll", classes=["ball", "doll", "kite"])
    table = only_table(tmp_path)
    row = table.rows[0]
    assert (row.cells[MEAN].mean, row.cells[MEAN].classes) == (pytest.approx(80), 2)
    assert not table.best(row, MEAN)
    assert table.columns == ["ball", "doll", "kite", MEAN]


def test_missing_cells_are_named(run: MakeRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        run(f"ball_{seed}", seed=seed)
        run(f"full_{seed}", seed=seed, method="full")
    run("doll_0", normal_class="doll")
    assert only_table(tmp_path).missing == ["csi: seed 1 of doll", "full: doll"]


def test_runs_of_another_configuration_are_a_row_of_their_own(run: MakeRun, tmp_path: Path) -> None:
    run("a", 0.9, seed=0)
    run("b", 0.8, seed=1)
    run("wide", 0.7, seed=1, config={"width": 64, "scoring": {"width": 64, "seed": 1}})
    rows = only_table(tmp_path).rows
    assert [row.label for row in rows] == ["csi", "csi, width=64"]
    assert rows[0].cells["ball"].seeds == [0, 1]
    assert rows[1].cells["ball"].mean == pytest.approx(70)


def test_place_logging_and_device_make_no_other_kind(run: MakeRun, tmp_path: Path) -> None:
    run("a", config={"paths": {"runs": "x"}, "logger": {"csv": None}, "name": "a", "trainer": {"devices": 1}})
    run(
        "b",
        seed=1,
        config={"name": "b", "trainer": {"devices": 4}, "callbacks": {"health": 1}, "resume": "f"},
    )
    assert len(only_table(tmp_path).rows) == 1


def test_what_is_found_by_rule_for_each_class_makes_no_other_kind(run: MakeRun, tmp_path: Path) -> None:
    for name, images in (("ball", 94), ("doll", 97)):
        data = {"seed": 0, "normal_class": name, "batch_size": images, "total_images": 216 * images}
        run(name, 0.9, normal_class=name, config={"batch_size": 128, "data": data})
    (row,) = only_table(tmp_path).rows
    assert row.cells.keys() == {"ball", "doll", MEAN}


def test_folders_of_other_pictures_are_never_one_row(run: MakeRun, tmp_path: Path) -> None:
    """All have the label "folder" and the class "good"; where on a machine one lies makes no other."""
    for name, root, seed in (("a", "here/cup", 0), ("b", "here/jar", 0), ("c", "/there/here/cup", 1)):
        data = {"_target_": "anomaly_gan.data.folder.Folder", "root": root}
        run(name, dataset="folder", seed=seed, config={"data": data})
    table = only_table(tmp_path)
    assert [(row.label, sorted(seed for _, seed in row.runs)) for row in table.rows] == [
        ("csi", [0, 1]),
        ("csi, data.root=here/jar", [0]),
    ]
    assert not any("the later one counts" in note for note in table.notes)


def test_runs_of_the_same_time_are_one_row_whatever_it_was_enough_for(run: MakeRun, tmp_path: Path) -> None:
    for seed, images in ((0, 5000), (1, 5200)):
        run(str(seed), seed=seed, config={"schedule": {"total_images": images, "timed_for": 10}})
    run("asked", config={"schedule": {"total_images": 5000}})
    labels = {row.label: len(row.runs) for row in only_table(tmp_path).rows}
    assert labels == {"csi": 2, "csi, schedule.total_images=5000, schedule.timed_for=null": 1}


def test_a_setting_that_an_older_result_lacks_splits_no_row(run: MakeRun, tmp_path: Path) -> None:
    for method in ("csi", "full"):
        run(f"new {method}", config={"blur": 3}, method=method)
        run(f"old {method}", seed=1, method=method)
    table = only_table(tmp_path)
    assert len(table.rows) == 2
    (note,) = (note for note in table.notes if "do not record" in note)
    assert note.startswith(
        "2 of 4 results do not record some settings that others of their method do (blur):"
    )


def test_of_two_runs_of_the_same_the_later_counts_and_is_noted(run: MakeRun, tmp_path: Path) -> None:
    run("new", 0.9)
    old = run("old", 0.2) / "result.json"
    os.utime(old, (1, 1))
    table = only_table(tmp_path)
    assert table.rows[0].cells["ball"].mean == pytest.approx(90)
    assert table.rows[0].cells["ball"].seeds == [0]
    assert "the later one counts" in table.notes[0]


def test_the_best_of_ours_counts_raw_pixels_too(run: MakeRun, tmp_path: Path) -> None:
    run("a", 0.6)
    run("b", 0.65, method="full")
    table = only_table(tmp_path)
    assert table.raw is not None
    assert [table.best(row, "ball") for row in table.own] == [False, False, True]


def test_another_score_can_be_tabulated(run: MakeRun, tmp_path: Path) -> None:
    run("a", 0.9)
    assert only_table(tmp_path, "shift").rows[0].cells["ball"].mean == pytest.approx(60)


def test_an_absent_auroc_is_no_cell_and_says_why(run: MakeRun, tmp_path: Path) -> None:
    run("a", None)
    table = only_table(tmp_path)
    assert "ball" not in table.rows[0].cells
    assert "there are no anomalous images" in table.notes[0]


def test_damaged_results_are_left_out_with_a_warning(run: MakeRun, tmp_path: Path) -> None:
    run("good")
    (run("cut") / "result.json").write_text('{"dataset": "toys", "auroc"')
    (run("odd") / "result.json").write_text('{"dataset": "toys"}')
    found = collect([tmp_path])
    assert len(found.runs) == 1
    assert len(found.warnings) == 2
    assert all("left out" in warning for warning in found.warnings)


def test_only_damaged_results_are_an_error(run: MakeRun, tmp_path: Path) -> None:
    (run("cut") / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"cut/result\.json: left out"):
        collect([tmp_path])


def test_runs_without_a_result_are_told_from_failed_ones(run: MakeRun, tmp_path: Path) -> None:
    run("good")
    for name in ("half", "fell"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("")
    (tmp_path / "fell" / "FAILED").write_text("out of memory\ntries: 1\n")
    states = {path.name: state for path, state in collect([tmp_path]).unfinished.items()}
    assert states == {"half": "unfinished", "fell": "failed: out of memory"}


def test_runs_are_found_behind_links_and_whatever_they_are_called(run: MakeRun, tmp_path: Path) -> None:
    run("log/a")
    run("log/a/checkpoints/part")  # in a run's own folder nothing is looked for
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    (chosen / "first").symlink_to(tmp_path / "runs" / "log" / "a")
    (chosen / "round").symlink_to(chosen)
    assert [found.path.parent.name for found in collect([tmp_path / "runs"]).runs] == ["a"]
    assert [found.path.parent.name for found in collect([chosen]).runs] == ["first"]


def test_results_in_files_of_their_own_are_found_and_other_json_is_not(run: MakeRun, tmp_path: Path) -> None:
    (run("a") / "result.json").rename(tmp_path / "ball_csi.json")
    (tmp_path / "other.json").write_text('{"dataset": "toys", "auroc": 1}')
    found = collect([tmp_path, tmp_path / "ball_csi.json"])
    assert [run.path.name for run in found.runs] == ["ball_csi.json"]
    assert not found.warnings


@pytest.mark.parametrize("data", [FashionMNIST, CIFAR10, CIFAR100])
def test_every_published_class_is_one_of_ours(data: type) -> None:
    rows, _ = published(data.name if hasattr(data, "name") else "fashion_mnist")
    named = [row for row in rows if row.auroc]
    assert named
    for row in named:
        assert list(row.auroc) == list(data.class_names)


def test_published_rows_keep_their_means_and_name_their_source() -> None:
    rows = {row.method: row for row in published("cifar10")[0]}
    assert rows["deep_svdd"].mean == 64.8
    assert "Table 1" in rows["deep_svdd"].mean_source
    assert rows["full"].auroc == {}
    assert rows["ocsvm_raw"].mean == pytest.approx(58.8)
    assert all(line.startswith("#") for line in FILE.read_text().splitlines()[:3])


def test_jpeg_images_are_said_not_to_be_the_published_data() -> None:
    rows, sentence = published("cifar10-jpeg")
    assert rows == published("cifar10")[0]
    assert "not the same data" in sentence


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("auroc", {"csi": 1.5}),
        ("auroc", {"csi": float("nan")}),
        ("auroc_interval", {"csi": [0.1]}),
        ("seconds", {"train": "long"}),
        ("curve", [1]),
        ("seed", "zero"),
        ("generator", []),
    ],
)
def test_a_result_with_a_field_of_another_kind_is_left_out(
    run: MakeRun, tmp_path: Path, field: str, value: object
) -> None:
    run("good")
    path = run("bad", seed=1) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    found = collect([tmp_path])
    assert len(found.runs) == 1
    assert "bad/result.json: left out" in found.warnings[0]


SETTINGS = {"batch_size": 32, "optimizer": {"rate": 1}}


def of_method(name: str, **settings) -> dict:
    """What a run of another method than the paper's has."""
    return {"method": name, "config": {"batch_size": 128, "width": None} | settings}


def test_rows_stand_in_the_order_of_table_1_and_others_after(run: MakeRun, tmp_path: Path) -> None:
    for method in ("full", "csi"):
        run(method, method=method)
    for name in ("goad", "geom", "deep_svdd", "somebody_elses"):
        run(name, **of_method(name))
    labels = [row.label for row in only_table(tmp_path).rows]
    assert labels == ["deep_svdd", "geom", "goad", "csi", "full", "somebody_elses"]


def test_the_usual_settings_are_found_within_a_method(run: MakeRun, tmp_path: Path) -> None:
    for seed in range(6):
        run(f"csi_{seed}", seed=seed, config=SETTINGS)
    for seed in range(3):
        run(f"geom_{seed}", seed=seed, **of_method("geom", wide=4))
    run("geom_wide", **of_method("geom", wide=8))
    table = only_table(tmp_path)
    assert [row.label for row in table.rows] == ["geom", "geom, wide=8", "csi"]
    assert table.notes == []


def test_a_budget_gives_a_method_that_learns_nothing_no_second_row(run: MakeRun, tmp_path: Path) -> None:
    for seed, images in enumerate((1, 30000)):
        settings = {"method": {"optimizer": None}, "width": 16, "schedule": {"total_images": images}}
        run(f"pixels_{seed}", seed=seed, method="raw_pixels", config=settings)
        run(f"csi_{seed}", seed=seed, config=settings | {"method": {"optimizer": {"rate": 1}}})
    labels = [row.label for row in only_table(tmp_path).rows]
    assert labels == ["csi, schedule.total_images=1", "csi, schedule.total_images=30000", "raw_pixels"]


def test_published_figures_stand_beneath_the_last_row_of_their_method(run: MakeRun, tmp_path: Path) -> None:
    shared = {"dataset": "cifar10", "normal_class": "ship", "classes": list(CIFAR10.class_names)}
    for seed in (0, 1):
        run(f"csi_{seed}", seed=seed, **shared)
    run("csi_wide", config={"width": 64}, **shared)
    run("geom", **shared | of_method("geom"))
    table = only_table(tmp_path)
    beneath = {row.label: row.published and row.published.method for row in table.rows}
    assert beneath == {"geom": "geom", "csi": None, "csi, width=64": "csi"}
    others = [row.method for row in table.published]
    assert "goad" in others
    assert not {"geom", "csi"} & set(others)
    text = markdown(contents(collect([tmp_path]), None, tmp_path))
    rows = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if line.startswith("| ")]
    place = rows.index("csi, width=64")
    assert rows[place + 1].startswith("published: csi")
    assert rows[rows.index("geom") + 1].startswith("published: geom")
    assert rows[place + 2] == rows[place - 1] == "ours − published"


def test_distances_of_synthetic_images_are_means_by_row_and_compare_with_published_fid_alone(
    run: MakeRun, tmp_path: Path
) -> None:
    for method, name in (("csi_g", "fid"), ("full", "frechet_other"), ("csi", None)):
        for seed, value in enumerate((60.0, 70.0)):
            made = name and {"generated": {"kid": 0.5, name: value}, "floor": {name: value / 10}}
            run(f"{method}_{seed}", dataset="cifar10", seed=seed, generator=made, **of_method(method))
    table = only_table(tmp_path)
    found = {row.label: row for row in distances(table)}
    assert set(found) == {"csi_g", "full"}
    assert (found["csi_g"].value, found["csi_g"].floor, found["csi_g"].runs) == (65, 6.5, 2)
    assert found["csi_g"].published == 69.5  # the paper, section 3.2
    assert found["full"].published is None  # of another network than FID's
    text = markdown(contents(collect([tmp_path]), None, tmp_path))
    assert "| csi\\_g | fid | 65 | 6.5 | 69.5 | 2 |" in text
    assert "| full | frechet\\_other | 65 | 6.5 | — | 2 |" in text


def test_a_difference_from_published_figures_is_of_what_both_have(run: MakeRun, tmp_path: Path) -> None:
    names = list(CIFAR10.class_names)
    for name, auroc in (("ship", 0.9), ("bird", 0.7)):
        run(f"csi_{name}", auroc, dataset="cifar10", normal_class=name, classes=names)
    figures = next(row for row in published("cifar10")[0] if row.method == "csi")
    (row,) = only_table(tmp_path).rows
    expected = {"ship": 90 - figures.auroc["ship"], "bird": 70 - figures.auroc["bird"]}
    assert row.difference == pytest.approx(expected | {MEAN: sum(expected.values()) / 2})


def test_a_row_says_what_differs_even_where_no_value_is_the_usual_one(run: MakeRun, tmp_path: Path) -> None:
    for limit in (100, 1000):
        run(f"csi_{limit}", config=SETTINGS | {"data": {"train_limit": limit}})
        run(f"geom_{1100 - limit}", **of_method("geom", limit=1100 - limit))
    labels = [row.label for row in only_table(tmp_path).rows]
    assert labels == [
        "geom, limit=100",
        "geom, limit=1000",
        *(f"csi, data.train_limit={n}" for n in (100, 1000)),
    ]


def test_rows_stand_by_the_size_of_their_numbers_and_other_images_are_noted_once(
    run: MakeRun, tmp_path: Path
) -> None:
    for limit in (1000, 300, 100):
        for seed in (0, 1):
            config = SETTINGS | {"data": {"train_limit": limit}}
            run(f"{limit}_{seed}", seed=seed, config=config, auroc_raw_pixels=limit / 2000)
    table = only_table(tmp_path)
    labels = [f"csi, data.train_limit={limit}" for limit in (100, 300, 1000)]
    assert [row.label for row in table.rows] == labels
    noted = f"raw pixels: theirs are of other images than those that these saw: {labels[1]}; {labels[2]}."
    assert table.notes == [noted]


def test_how_many_images_were_learned_from_is_said_in_place_of_what_was_held_out(
    run: MakeRun, tmp_path: Path
) -> None:
    counts = {"train": 100, "calibration": 1000, "test": 10, "test_normal": 5, "test_anomalous": 5}
    settings = {"batch_size": 32, "width": 16, "data": {"train_limit": 100}}
    shared = {"dataset": "cifar10", "counts": counts, "config": settings}
    run("ship", normal_class="ship", iterations=250, **shared)
    said = (
        "80 passes over a class's training images, at most 100 of these learned from, networks of width 16."
    )
    assert only_table(tmp_path).sentence.startswith(f"Ours: {said}")


def test_how_long_ours_were_trained_is_said_where_published_figures_are(run: MakeRun, tmp_path: Path) -> None:
    counts = {"train": 4000, "calibration": 1000, "test": 10, "test_normal": 5, "test_anomalous": 5}
    for name, batch in (("ship", 32), ("bird", 64)):
        settings = {"batch_size": batch, "width": 16}
        run(name, dataset="cifar10", normal_class=name, iterations=250, counts=counts, config=settings)
    assert only_table(tmp_path).sentence.startswith(
        "Ours: 2 to 4 passes over a class's training images, networks of width 16, 20 % of these held out."
    )
    run("toy", dataset="toy", iterations=250, counts=counts, config={"batch_size": 32})
    (toy,) = (table for table in tables(collect([tmp_path]).runs) if table.dataset == "toy")
    assert toy.sentence == ""
