"""Files from the future become files of the present, and keep their order."""

import os
import time

from phantomscope.clocks import bring_to_present

DAY = 86400


def dated(path, seconds):
    """Write a file that was modified so many seconds from now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    moment = time.time() + seconds
    os.utime(path, (moment, moment))
    return path


def test_only_the_future_is_changed(tmp_path, capsys):
    old = dated(tmp_path / "old.json", -DAY)
    first = dated(tmp_path / "a/first.json", DAY)
    second = dated(tmp_path / "a/b/second.json", DAY + 60)
    before = old.stat().st_mtime_ns
    assert bring_to_present(tmp_path, tmp_path / "nowhere") == 2
    assert old.stat().st_mtime_ns == before
    assert before < first.stat().st_mtime_ns == second.stat().st_mtime_ns
    assert second.stat().st_mtime <= time.time()
    assert "from the future" in capsys.readouterr().err
    assert bring_to_present(tmp_path) == 0
    assert not capsys.readouterr().err


def test_a_folder_is_dated_by_its_timestamp_alone(tmp_path):
    timestamp = dated(tmp_path / "set/.snakemake_timestamp", DAY)
    pixels = dated(tmp_path / "set/images/a.tif", DAY)
    assert bring_to_present(tmp_path) == 1
    assert timestamp.stat().st_mtime <= time.time()
    assert pixels.stat().st_mtime > time.time()


def test_a_link_is_changed_not_its_target(tmp_path):
    target = dated(tmp_path / "elsewhere/image.tif", DAY)
    link = tmp_path / "results/link"
    link.parent.mkdir()
    link.symlink_to(target)
    future = time.time() + DAY
    os.utime(link, (future, future), follow_symlinks=False)
    assert bring_to_present(link.parent) == 1
    assert link.lstat().st_mtime <= time.time() < target.stat().st_mtime
