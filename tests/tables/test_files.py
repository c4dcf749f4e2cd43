"""Outputs appear complete or not at all."""

import json

import pytest

from ntkit.errors import TableError
from ntkit.tables.files import (
    LISTED_MARK,
    OUTPUT_MARK,
    atomic_file,
    atomic_folder,
    check_file_is_free,
    check_folder_is_free,
)


def earlier_output(folder):
    (folder / OUTPUT_MARK).parent.mkdir(parents=True)
    (folder / OUTPUT_MARK).write_text("old")
    return folder


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_file_leaves_the_old_one_and_nothing_else(tmp_path, error):
    path = tmp_path / "t.csv"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_folder_leaves_nothing(tmp_path, error):
    with pytest.raises(error), atomic_folder(tmp_path / "out") as part:
        (part / "report.html").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_finished_folder_appears_with_its_parents(tmp_path):
    with atomic_folder(tmp_path / "a" / "out") as part:
        (part / "x").write_text("1")
        assert not (tmp_path / "a" / "out").exists()
    assert (tmp_path / "a" / "out" / "x").read_text() == "1"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


def test_overwriting_replaces_an_earlier_output_only_when_the_new_one_is_complete(tmp_path):
    out = earlier_output(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt), atomic_folder(out, overwrite=True):
        raise KeyboardInterrupt
    assert (out / OUTPUT_MARK).read_text() == "old"
    with atomic_folder(out, overwrite=True) as part:
        (part / "new").write_text("new")
    assert [path.name for path in out.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_in_use_is_refused(tmp_path):
    out = earlier_output(tmp_path / "out")
    with pytest.raises(TableError, match="not empty.*--overwrite"):
        check_folder_is_free(out, overwrite=False)
    check_folder_is_free(out, overwrite=True)


def test_a_folder_that_is_no_earlier_output_is_never_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(TableError, match="no earlier output"):
        check_folder_is_free(tmp_path, overwrite=True)


def test_a_file_is_no_output_folder_and_a_folder_no_output_file(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(TableError, match="got the file"):
        check_folder_is_free(tmp_path / "f", overwrite=True)
    with pytest.raises(TableError, match="got the folder"):
        check_file_is_free(tmp_path, overwrite=True)
    with pytest.raises(TableError, match="exists"):
        check_file_is_free(tmp_path / "f", overwrite=False)
    check_file_is_free(tmp_path / "f", overwrite=True)
    check_file_is_free(tmp_path / "g", overwrite=False)


def listed_output(folder, files):
    folder.mkdir()
    for name in files:
        (folder / name).write_text("old")
    (folder / LISTED_MARK).write_text(json.dumps({"made_by": "ntkit spectrum", "files": list(files)}))
    return folder


def test_an_output_that_lists_its_files_is_replaced_unless_other_files_came_in(tmp_path):
    out = listed_output(tmp_path / "out", ["a.csv", "a.svg"])
    check_folder_is_free(out, overwrite=True)
    (out / "mine.txt").write_text("years of work")
    with pytest.raises(TableError, match=r"holds 'mine.txt' beside an earlier output.*Move it away"):
        check_folder_is_free(out, overwrite=True)
    (out / "thesis.tex").write_text("more")
    with pytest.raises(TableError, match=r"holds 'mine.txt'.*Move it and 1 more away"):
        check_folder_is_free(out, overwrite=True)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"made_by": "other", "files": []}', '{"made_by": "ntkit x"}']
)
def test_a_mark_that_is_not_ours_protects_the_folder(tmp_path, text):
    (tmp_path / LISTED_MARK).write_text(text)
    with pytest.raises(TableError, match="no earlier output"):
        check_folder_is_free(tmp_path, overwrite=True)


def test_an_output_of_the_main_job_is_not_replaced_with_other_files_in_it(tmp_path):
    out = earlier_output(tmp_path / "out")
    (out / "report.html").write_text("old")
    check_folder_is_free(out, overwrite=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(TableError, match="'notes.txt' beside"):
        check_folder_is_free(out, overwrite=True)
