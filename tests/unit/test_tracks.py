"""Tracks of the Cell Tracking Challenge: gaps, divisions, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phantomscope.errors import PhantomscopeError
from phantomscope.images.tracks import (
    Track,
    carry_tracks,
    check_tracks,
    read_tracks,
    relabelled,
    series_columns,
    tracks_of,
    write_tracks,
)


def test_a_division_ends_the_mother_and_begins_two_daughters():
    present = [{1}, {1}, {2, 3}, {2, 3}]
    tracks, tables = tracks_of(present, {2: 1, 3: 1})
    assert tracks == [Track(1, 0, 1, 0), Track(2, 2, 3, 1), Track(3, 2, 3, 1)]
    assert tables == [{1: 1}, {1: 1}, {2: 2, 3: 3}, {2: 2, 3: 3}]


def test_a_gap_begins_a_new_track_whose_parent_is_the_old_one():
    tracks, tables = tracks_of([{4}, {4}, set(), {4}, {7}], {7: 4})
    assert tracks == [Track(4, 0, 1, 0), Track(7, 4, 4, 8), Track(8, 3, 3, 4)]
    assert tables[3] == {4: 8}
    check_tracks(tracks, "here", [t.values() for t in tables])


def test_a_parent_that_is_never_seen_is_none():
    tracks, _ = tracks_of([{2}, {2, 3}], {2: 1, 3: 1})
    assert {t.parent for t in tracks} == {0}


@given(
    st.lists(st.sets(st.integers(1, 9)), min_size=1, max_size=8),
    st.dictionaries(st.integers(5, 9), st.integers(1, 4)),
)
def test_whatever_is_seen_gives_tracks_that_the_format_allows(present, parents):
    tracks, tables = tracks_of(present, parents)
    for labels, table in zip(present, tables, strict=True):
        assert set(table) == labels
        assert len(set(table.values())) == len(labels)
    check_tracks(tracks, "here", [table.values() for table in tables])
    assert sum(t.end - t.begin + 1 for t in tracks) == sum(map(len, present))
    # What was derived once stays as it is.
    again, _ = tracks_of(
        [set(table.values()) for table in tables],
        {t.label: t.parent for t in tracks if t.parent},
    )
    assert again == tracks


@pytest.mark.parametrize(
    ("tracks", "present", "told"),
    [
        ([Track(1, 0, 1), Track(1, 3, 4)], None, "occurs twice"),
        ([Track(1, 2, 1)], None, "ends before it begins"),
        ([Track(1, 0, 1, 5)], None, "unknown parent"),
        ([Track(1, 0, 2), Track(2, 2, 3, 1)], None, "before its parent's end"),
        ([Track(70000, 0, 2)], None, "65535"),
        ([Track(1, 0, 1)], [{1}, set()], "label 1 of frame 1"),
        ([Track(1, 0, 0)], [{1, 2}], "label 2 of frame 0"),
        ([Track(1, 0, 1)], [{1}], "last frame"),
    ],
)
def test_what_the_format_forbids_is_told(tracks, present, told):
    with pytest.raises(PhantomscopeError) as error:
        check_tracks(tracks, "man_track.txt", present)
    assert told in str(error.value)


def test_the_file_comes_back_and_a_torn_one_is_refused(tmp_path):
    tracks = [Track(1, 0, 4), Track(2, 5, 9, 1), Track(3, 5, 9, 1)]
    path = tmp_path / "man_track.txt"
    write_tracks(path, tracks)
    assert path.read_text() == "1 0 4 0\n2 5 9 1\n3 5 9 1\n"
    assert read_tracks(path) == tracks
    path.write_text("1 0 4 0\n2 5\n")
    with pytest.raises(PhantomscopeError, match="line 2"):
        read_tracks(path)


def test_tracks_go_with_their_frames(tmp_path):
    row = {"id": "a"} | series_columns("series-000000", 3)
    write_tracks(tmp_path / "old" / row["tracks"], [Track(1, 0, 4)])
    assert carry_tracks({"id": "a", "tracks": ""}, tmp_path, tmp_path) == {}
    columns = carry_tracks(row, tmp_path / "old", tmp_path / "new")
    assert columns == {k: v for k, v in row.items() if k != "id"}
    assert read_tracks(tmp_path / "new" / row["tracks"]) == [Track(1, 0, 4)]


def test_objects_without_a_track_are_erased():
    labels = np.array([[0, 1], [2, 3]], np.uint16)
    found = relabelled(labels, {1: 9, 3: 300})
    assert found.tolist() == [[0, 9], [0, 300]]
    assert found.dtype == np.uint16
    assert relabelled(labels, {}).max() == 0
