"""Reading localisation tables: any common dialect, and one clear error for the rest."""

import gzip
import os
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomscope.acquire.localisations import (
    localisation_chunks,
    read_localisations,
    text,
)
from phantomscope.errors import PhantomscopeError
from phantomscope.images.localisations import table as table_module

HEADER = '"id","frame","x [nm]","y [nm]","intensity [photon]","uncertainty [nm]"\n'
ROWS = "1,1,7057.682,31836.993,4933.5,9.476\n2,7,17271.25,1422.428,148.889,14.641\n"
TABLE = HEADER + ROWS
RAPIDSTORM = (
    '# <localizations insequence="true" repetitions="variable">'
    '<field identifier="Position-0-0" syntax="floating point" unit="nanometer" '
    'min="0 m" max="3.2e-005 m" /><field identifier="Position-1-0" unit="nanometer" />'
    '<field identifier="ImageNumber-0-0" unit="frame" min="0 fr" />'
    '<field identifier="Amplitude-0-0" unit="A/D count" /></localizations>\n'
    "7057.682 31836.993 1 880\n17271.25 1422.428 7 60\n"
)


def table(tmp_path, content, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def many(x, y, uncertainty="9.5", header="x [nm],y [nm],uncertainty [nm]"):
    """A table of 200 rows over a field of `x` times `y`."""
    share = np.linspace(0, 1, 200)
    rows = [f"{a * x:.6g},{a * y:.6g},{uncertainty}" for a in share]
    return "\n".join([header, *rows])


# What is read


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (TABLE, "table.csv"),
        (TABLE.rstrip("\n"), "table.csv"),
        (TABLE.replace("\n", "\r\n"), "table.csv"),
        (TABLE.replace("\n", "\r"), "table.csv"),
        (b"\xef\xbb\xbf" + TABLE.encode(), "table.csv"),
        (TABLE.encode("utf-16"), "table.csv"),
        (TABLE.replace(",", "\t"), "table.tsv"),
        (TABLE.replace(",", ";"), "table.csv"),
        (TABLE.replace(",", ", "), "table.csv"),
        (gzip.compress(TABLE.encode()), "table.csv.gz"),
        (gzip.compress(TABLE.encode()), "table.csv"),  # the suffix was lost
        (TABLE, "table.csv.gz"),  # unpacked on the way, the suffix kept
        ("# made by hand\n\n" + HEADER + "\n" + ROWS + "\n# end\n\n", "table.txt"),
    ],
)
def test_dialects_of_thunderstorm(tmp_path, content, name):
    found = read_localisations(table(tmp_path, content, name))
    np.testing.assert_array_equal(found.x, [7057.682, 17271.25])
    np.testing.assert_array_equal(found.y, [31836.993, 1422.428])
    np.testing.assert_array_equal(found.frame, [1, 7])
    np.testing.assert_array_equal(found.photons, [4933.5, 148.889])
    np.testing.assert_array_equal(found.uncertainty, [9.476, 14.641])
    assert (found.x.dtype, found.frame.dtype) == (np.float64, np.int64)
    assert found.source.columns["photons"] == "intensity [photon]"
    assert (len(found), found.source.rows, found.source.dropped) == (2, 2, 0)


def test_rapidstorm_and_numpy_headers(tmp_path):
    found = read_localisations(table(tmp_path, RAPIDSTORM, "loc.txt"))
    np.testing.assert_array_equal(found.x, [7057.682, 17271.25])
    np.testing.assert_array_equal(found.frame, [1, 7])
    assert found.photons is None  # counts of the camera are no photons
    assert found.uncertainty is None
    plain = read_localisations(table(tmp_path, "# x_nm y_nm\n1 2\n3 4\n", "loc.txt"))
    np.testing.assert_array_equal(plain.y, [2, 4])


def test_units_become_nm(tmp_path):
    picasso = "frame,x,y,photons,lpx,lpy\n0,10.5,20,300,0.1,0.2\n"
    columns = {"uncertainty": "lpx"}
    options = {"unit": "px", "pixel_size": 108.0, "columns": columns}
    found = read_localisations(table(tmp_path, picasso), **options)
    np.testing.assert_allclose([found.x[0], found.y[0]], [1134.0, 2160.0])
    np.testing.assert_allclose(found.uncertainty, [10.8])
    np.testing.assert_array_equal(found.photons, [300.0])
    for micro in ("µ", "μ", "u"):
        found = read_localisations(table(tmp_path, f"x [{micro}m],y [nm]\n1,2\n"))
        assert (found.x[0], found.y[0]) == (1000.0, 2.0)
    code_page = "x [µm],y (nm)\n1,2\n".encode("latin-1")
    assert read_localisations(table(tmp_path, code_page)).x[0] == 1000.0


def test_decimal_commas_on_request(tmp_path):
    path = table(tmp_path, TABLE.replace(",", ";").replace(".", ","))
    with pytest.raises(PhantomscopeError, match=r"line 2.*x \[nm\].*\n.*\n.*decimal="):
        read_localisations(path)
    found = read_localisations(path, decimal=",")
    np.testing.assert_array_equal(found.x, [7057.682, 17271.25])


def test_invalid_rows_are_dropped_and_counted_on_request(tmp_path):
    bad = ["3,1,NaN,1,5,9", "4,1,1,1,-5,9", "5,1,1,1,5,Infinity", "6,1,1,1,5,0"]
    path = table(tmp_path, TABLE + "\n".join(bad) + "\n7,8,9000,9000,1,1\n")
    found = read_localisations(path, drop_invalid=True)
    np.testing.assert_array_equal(found.frame, [1, 7, 8])
    assert (found.source.rows, found.source.dropped) == (7, 4)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_table_is_read_exactly(data, tmp_path_factory):
    coordinate = st.floats(-1e6, 1e6).map(lambda v: v + 0.0)
    rows = data.draw(
        st.lists(
            st.tuples(coordinate, coordinate, st.integers(0, 2**40)),
            min_size=1,
            max_size=30,
        )
    )
    delimiter = data.draw(st.sampled_from([",", ";", "\t", " "]))
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    pack = data.draw(st.sampled_from([bytes, gzip.compress]))
    order = data.draw(st.permutations(["x_nm", "y_nm", "frame"]))
    lines = [delimiter.join(order)]
    for x, y, frame in rows:
        cells = {"x_nm": repr(x), "y_nm": repr(y), "frame": str(frame)}
        lines.append(delimiter.join(cells[name] for name in order))
    folder = tmp_path_factory.mktemp("any")
    path = table(folder, pack(end.join(lines).encode()), "any.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK", data.draw(st.integers(1, 200)))
        found = read_localisations(path)
    np.testing.assert_array_equal(found.x, [row[0] for row in rows])
    np.testing.assert_array_equal(found.y, [row[1] for row in rows])
    np.testing.assert_array_equal(found.frame, [row[2] for row in rows])
    assert found.source.rows == len(rows)


def test_parts_need_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "BLOCK", 1 << 16)
    row = "123.456,7890.123,55\n"
    content = "x [nm],y [nm],frame\n" + row * 200_000
    path = table(tmp_path, gzip.compress(content.encode()))
    tracemalloc.start()
    count = sum(len(p) for p in localisation_chunks(path, extent=(0, 1e9)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 2_000_000  # x, y and frame of all rows would be 4.8 MB


# What is refused


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["the file is empty", "x [nm],y [nm]"]),
        ("\n\n", ["no header line"]),
        (HEADER, ["line 1", "no localisation below"]),
        (ROWS, ["line 1", "no header line", "begins with numbers"]),
        (TABLE.replace("x [nm]", "z [nm]"), ["line 1", "no column for x", "'z [nm]'"]),
        (TABLE.replace(",", "|"), ["line 1", "no column for x", "commas"]),
        (TABLE.replace('"id"', '"x [px]"'), ["line 1", "'x [px]' and 'x [nm]'"]),
        (TABLE.replace('"id"', '"frame"'), ["line 1", "'frame' and 'frame'"]),
        (TABLE.replace("x [nm]", "x"), ["line 1", "`x`", "unit", "unit='nm'"]),
        (TABLE.replace("x [nm]", "x [ft]"), ["line 1", "`x [ft]`", "unit 'ft'"]),
        (TABLE.replace("x [nm]", "x [px]"), ["line 1", "`x [px]`", "pixel_size"]),
        (TABLE + "3,1,5,5,5\n", ["line 4", "5 cells", "6 columns", "again"]),
        (TABLE + "3,1,5,5,5,5,5\n", ["line 4", "7 cells", "6 columns"]),
        (TABLE[:-15], ["line 3", "5 cells", "cut short"]),
        (HEADER + ROWS.replace(",", ";"), ["line 2", "1 cells", "another delimiter"]),
        (TABLE.replace("148.889", '"148,889"'), ["line 3", "decimal commas"]),
        (TABLE.replace("148.889", "bright"), ["line 3", "intensity", "'bright'"]),
        (TABLE.replace("148.889", " "), ["line 3", "intensity", "cell is empty"]),
        (TABLE.replace("148.889", "1_4"), ["line 3", "intensity", "'1_4'"]),
        (TABLE.replace("148.889", '"148'), ["line 3", "quote is not closed"]),
        (TABLE.replace("148.889", "-148"), ["line 3", "intensity", "-148 photons"]),
        (TABLE.replace("14.641", "0"), ["line 3", "uncertainty [nm]", "of 0"]),
        (TABLE.replace("14.641", "-2"), ["line 3", "uncertainty [nm]", "of -2"]),
        (TABLE.replace("14.641", "inf"), ["line 3", "uncertainty [nm]", "inf"]),
        (TABLE.replace("1422.428", "nan"), ["line 3", "y [nm]", "drop_invalid"]),
        (TABLE.replace("1422.428", "1e999"), ["line 3", "y [nm]", "inf"]),
        (TABLE.replace("1422.428", "-3e9"), ["line 3", "y [nm]", "metre"]),
        (TABLE.replace(",7,", ",7.5,"), ["line 3", "frame", "7.5"]),
        (TABLE.replace(",7,", ",-7,"), ["line 3", "frame", "-7"]),
        (TABLE.replace(",7,", ",1e30,"), ["line 3", "frame", "1e+30"]),
        (TABLE.replace("1422.428", "9e7"), ["line 2", "line 3", "y [nm]", "`unit`"]),
        (many(40, 50), ["x [nm]|y [nm]", "50 nm wide", "um, px and nm"]),
        (many(4e7, 5e7), ["5e+07 nm wide", "um, px and nm"]),
        (many(4e4, 5e4, "0.01"), ["line 1", "uncertainty", "below 0.1 nm"]),
        (many(4e4, 5e4, "9500"), ["line 1", "uncertainty", "above 2000 nm"]),
        (gzip.compress(TABLE.encode() * 9)[:-9], ["cut short", "copy"]),
        (gzip.compress(TABLE.encode())[:5], ["cut short", "copy"]),
        (gzip.compress(gzip.compress(b"x")), ["compressed twice", "unpack"]),
        (b"\x1f\x8b" + bytes(50), ["damaged", "copy"]),
        (b"PK\3\4" + bytes(50), ["ZIP", "CSV"]),
        (b"\x89HDF\r\n\x1a\n", ["HDF5", "CSV"]),
        (b"\x89PNG\r\n\x1a\n\0\0", ["binary", "UTF-8"]),
        (TABLE.encode("utf-16-le"), ["binary", "UTF-16 without a mark"]),
        (TABLE.encode("utf-16")[:-3], ["line 3", "uncertainty [nm]"]),
        ("\n<!DOCTYPE html>\n<html>", ["web page", "not the page"]),
        (HEADER + "1" * 3_000_000, ["line 2", "million characters"]),
        ("x" * 2_000_000, ["line 1", "million characters"]),
    ],
)
def test_bad_tables_name_file_line_and_column(tmp_path, content, parts):
    path = table(tmp_path, content, "bad.csv")
    with pytest.raises(PhantomscopeError) as caught:
        read_localisations(path)
    error = caught.value
    assert error.where == str(path)
    assert error.fix
    for part in parts:
        assert any(choice in str(error) for choice in part.split("|")), str(error)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"columns": {"colour": "z"}}, "columns"),
        ({"columns": {"x": "nowhere"}}, "table.csv"),
        ({"unit": "furlong"}, "unit"),
        ({"unit": "um"}, "table.csv"),  # the header says nm
        ({"pixel_size": -1.0}, "pixel_size"),
        ({"pixel_size": float("nan")}, "pixel_size"),
    ],
)
def test_bad_arguments(tmp_path, options, where):
    with pytest.raises(PhantomscopeError) as caught:
        read_localisations(table(tmp_path, TABLE), **options)
    assert caught.value.where.endswith(where)


def test_places_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, what in (("pipe", "pipe"), ("none", "no such file"), (".", "folder")):
        with pytest.raises(PhantomscopeError, match=what):
            read_localisations(tmp_path / name)


def test_a_given_extent_overrides_the_guess(tmp_path):
    found = read_localisations(table(tmp_path, many(40, 50)), extent=(10, 100))
    assert np.ptp(found.y) == 50
    # A handful of localisations may be one molecule.
    few = "x [nm],y [nm]\n10,20\n12,21\n"
    assert len(read_localisations(table(tmp_path, few))) == 2


def test_a_table_that_does_not_fit_into_memory(tmp_path, monkeypatch):
    def full(_):
        raise MemoryError

    # Only the name in this module: pandas joins arrays as well.
    numpy = SimpleNamespace(concatenate=full)
    monkeypatch.setattr(table_module, "np", numpy)
    with pytest.raises(PhantomscopeError, match="localisation_chunks"):
        read_localisations(table(tmp_path, TABLE))
