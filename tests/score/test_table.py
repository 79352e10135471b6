import csv
import io
import json
import math
from pathlib import Path

import pytest

from iqazoo import InputError
from iqazoo.score.table import Row, check_output, to_csv, to_json, write

ROWS = [
    Row("a", Path("i/a.png"), Path("r/a.png"), {"psnr": math.inf, "ssim": 0.1 + 2e-17}),
    Row('b,"ü', Path("i/b.png"), None, {"ssim": math.nan}, error="psnr: too\nsmall"),
]
RECORDS = [row.cells(["psnr", "ssim"]) for row in ROWS]


def test_columns_come_in_order_with_a_place_for_what_failed():
    assert list(RECORDS[0]) == ["id", "image", "reference", "psnr", "ssim", "error"]
    assert RECORDS[1]["psnr"] is None


def test_csv_can_be_read_back():
    first, second = csv.DictReader(io.StringIO(to_csv(RECORDS)))
    assert (first["psnr"], first["ssim"]) == ("inf", "0.1")
    assert (second["id"], second["psnr"], second["ssim"]) == ('b,"ü', "", "nan")
    assert second["error"] == "psnr: too\nsmall"


def test_json_has_null_where_there_is_no_number_and_infinity_as_text():
    first, second = json.loads(to_json(RECORDS), parse_constant=pytest.fail)
    assert (first["psnr"], first["ssim"], first["image"]) == ("inf", 0.1, "i/a.png")
    assert (second["psnr"], second["ssim"], second["reference"]) == (None, None, None)


def test_json_can_hold_an_infinite_range():
    (record,) = json.loads(to_json([{"range": (-math.inf, math.inf)}]), parse_constant=pytest.fail)
    assert record["range"] == ["-inf", "inf"]


def test_nine_digits_keep_a_float32():
    import numpy as np

    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    records = [Row("x", None, None, {"m": float(v)}).cells(["m"]) for v in values]
    read = [np.float32(r["m"]) for r in csv.DictReader(io.StringIO(to_csv(records)))]
    assert np.array_equal(values, read)


def test_write_goes_by_suffix(tmp_path):
    write(RECORDS, tmp_path / "s.csv")
    write(RECORDS, tmp_path / "s.json")
    assert (tmp_path / "s.csv").read_text() == to_csv(RECORDS)
    assert (tmp_path / "s.json").read_text() == to_json(RECORDS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.csv", "s.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "s.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        write([{"id": object()}], path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_cannot_be_written_is_refused_early(tmp_path):
    check_output(tmp_path / "s.csv")
    for path in (tmp_path / "s.txt", tmp_path / "none" / "s.csv", tmp_path):
        with pytest.raises(InputError, match="output"):
            check_output(path)
