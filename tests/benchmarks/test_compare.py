"""The table of two runs: what is matched, what counts as slower, and which files are refused."""

import json

import compare
import pytest

INTEL = {"cpu": {"brand_raw": "Intel Xeon", "count": 2}}


def case(median, spread=0.01, metric="ssim", **info):
    extra = {"metric": metric, "what": "value", "shape": [1, 3, 256, 256], "dtype": "float32", "device": "cpu"}
    stats = {"median": median, "q1": median * (1 - spread), "q3": median * (1 + spread)}
    return {"extra_info": extra | {"backend": "cpu", "threads": 2} | info, "stats": stats}


@pytest.fixture
def written(tmp_path):
    """Write runs, and give their paths."""

    def write(*runs, machines=(INTEL, INTEL)):
        paths = []
        for number, (run, machine) in enumerate(zip(runs, machines, strict=True)):
            paths.append(tmp_path / f"{number}.json")
            paths[-1].write_text(json.dumps({"machine_info": machine, "benchmarks": run}))
        return [str(path) for path in paths]

    return write


@pytest.mark.parametrize(
    ("old", "new", "spread", "said", "code"),
    [
        (0.010, 0.013, 0.01, "slower", 1),
        (0.010, 0.0105, 0.01, "", 0),
        (0.010, 0.013, 0.30, "", 0),
        (0.013, 0.010, 0.01, "faster", 0),
        (0.013, 0.010, 0.30, "", 0),
    ],
    ids=["slower", "too near", "noise", "faster", "noise, the other way"],
)
def test_the_verdict_needs_distance_and_little_noise(written, capsys, old, new, spread, said, code):
    assert compare.main(written([case(old, spread)], [case(new, spread)])) == code
    line = capsys.readouterr().out.splitlines()[2]
    assert line.endswith(f"| {new / old:.2f} | {said} |")
    assert line.startswith("| ssim | value | [1, 3, 256, 256] | float32 | cpu | cpu |")


def test_cases_are_matched_by_what_was_timed_and_the_rest_is_named(written, capsys):
    old = [case(0.010), case(0.5, what="value+gradient"), case(1.0, metric="gone")]
    new = [case(2.0, metric="new"), case(0.5, what="value+gradient", backend="torch"), case(0.010)]
    assert compare.main(written(old, new)) == 0
    out = capsys.readouterr().out
    assert "| 10 | 10 | 1.00 |" in out
    assert "| cpu -> torch | 500 | 500 | 1.00 |" in out
    assert "only in OLD: gone, value, [1, 3, 256, 256], float32, cpu" in out
    assert "only in NEW: new, value, [1, 3, 256, 256], float32, cpu" in out


def test_another_machine_is_refused(written, capsys):
    other = {"cpu": {"brand_raw": "AMD EPYC", "count": 2}}
    assert compare.main(written([case(1)], [case(1)], machines=(INTEL, other))) == 2
    assert "not made on one machine: processor 'Intel Xeon' in OLD, 'AMD EPYC' in NEW" in capsys.readouterr().err
    assert compare.main(written([case(1)], [case(1, threads=4)])) == 2
    assert "threads '2' in OLD, '4' in NEW" in capsys.readouterr().err


def test_what_is_no_result_is_refused(written, capsys, tmp_path):
    good, empty = written([case(1)], [])
    (tmp_path / "text.json").write_text("not JSON")
    (tmp_path / "other.json").write_text('{"scores": []}')
    for path, why in {
        empty: "holds no times of metrics",
        str(tmp_path / "text.json"): "is no result of `make bench`: JSONDecodeError",
        str(tmp_path / "other.json"): "is no result of `make bench`: KeyError: 'benchmarks'",
        str(tmp_path / "missing.json"): "cannot be read: No such file",
    }.items():
        assert compare.main([good, path]) == 2
        assert f"{path} {why}" in capsys.readouterr().err


def test_nothing_in_common_is_refused(written, capsys):
    assert compare.main(written([case(1)], [case(1, metric="psnr")])) == 2
    assert "no case in common" in capsys.readouterr().err


def test_usage(capsys):
    assert compare.main(["one.json"]) == 2
    assert "compare.py OLD NEW" in capsys.readouterr().err
