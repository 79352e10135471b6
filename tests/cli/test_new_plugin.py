"""`iqazoo new-plugin`: the folder on stdout, what to do next on stderr, exit code 2 where it refuses."""

from iqazoo.cli import main


def test_the_folder_goes_to_stdout(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", "my-metric", "--kind", "NR"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "iqazoo-my-metric\n"
    assert "iqazoo check my-metric" in shown.err
    assert 'kind="NR"' in (tmp_path / "iqazoo-my-metric" / "iqazoo_my_metric" / "__init__.py").read_text()


def test_what_it_refuses_is_told_in_one_line(tmp_path, capsys):
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "file").write_text("")
    for name, out in (("ssim", "a"), ("No Name", "a"), ("mine", "there"), ("mine", "file/within")):
        assert main(["new-plugin", name, "--out", str(tmp_path / out)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]
