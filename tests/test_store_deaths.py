"""A process that dies while it saves, a disk that is full: what was committed is there, and the run goes on from it."""

import errno
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import stored
from stored import begun, content, dying, files, loaded

import eqdyn as eq


def test_a_death_at_any_moment_of_a_save_leaves_what_was_there_or_what_was_saved(tmp_path, monkeypatch):
    first = begun("narrow", 3)
    second = first.resume(4)
    expected = {3: content(first), 7: content(second)}
    eq.store.save(first, tmp_path / "whole")
    eq.store.save(second, tmp_path / "whole")
    seen = set()
    for before, now in ((None, first), (first, second)):
        moment, done = 0, False
        while not done:
            moment += 1
            folder = tmp_path / f"run {now.step} {moment}"
            if before is not None:
                eq.store.save(before, folder)
            with dying(monkeypatch, moment):
                try:
                    eq.store.save(now, folder)
                    done = True
                except stored.Killed:
                    pass
            run = loaded("narrow", folder) if (folder / "manifest.json").exists() else None
            step = None if run is None else run.step
            seen.add((now.step, step))
            assert step is None or content(run) == expected[step]
            if moment % 4 == 0 or done:
                eq.store.save(first if step is None else second, folder)
                eq.store.save(second, folder)
                assert files(folder) == files(tmp_path / "whole"), "nothing is left of the dead"
        assert moment > 20
    assert seen == {(3, None), (3, 3), (7, 3), (7, 7)}


REFUSALS = {"no room": OSError(errno.ENOSPC, "no"), "read-only": OSError(errno.EROFS, "no"), "Ctrl-C": KeyboardInterrupt()}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_fails_once_is_one_error_and_loses_nothing(name, tmp_path, monkeypatch):
    first = begun("narrow", 3)
    after, told, moment, made = first.resume(2), [], 0, [1]
    expected = {3: content(first), 5: content(after)}
    while made[0] >= moment:
        moment += 1
        folder = tmp_path / str(moment)
        eq.store.save(first, folder)
        before, failed = files(folder), None
        with dying(monkeypatch, moment, REFUSALS[name]) as made:
            try:
                eq.store.save(after, folder)
            except (OSError, KeyboardInterrupt) as error:
                failed = error
        run = loaded("narrow", folder)
        assert content(run) == expected[run.step]
        if isinstance(failed, OSError):
            assert failed.errno == REFUSALS[name].errno
            assert re.search(r"could not be written .*; what was saved there before is as it was; (make room|write to a folder)", str(failed))
            assert files(folder) == before
        assert run.step == 5 or failed is not None
        told.append(failed)
    assert sum(one is not None for one in told) > 8


def test_a_file_that_may_not_grow(tmp_path):
    first = begun("narrow", 3)
    eq.store.save(first, tmp_path)
    before, (soft, hard) = files(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
        with pytest.raises(OSError, match=r"could not be written .* make room"):
            eq.store.save(first.resume(2), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == before


STEPS = 60


@pytest.mark.parametrize("kills", [1, pytest.param(25, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments(kills, tmp_path):
    """A job that saves at every other step is killed, and started again: all that it leaves in the end is that of the unbroken run."""
    rng, folder = np.random.default_rng(0), tmp_path / "run"
    command = [sys.executable, stored.__file__, "keep", str(folder), str(STEPS)]
    for _ in range(kills):
        with subprocess.Popen(command, cwd=Path(stored.__file__).parent.parent, stdout=subprocess.PIPE, text=True) as job:
            assert job.stdout.readline() == "begun\n"
            time.sleep(rng.uniform(0.05, 0.5))
            job.send_signal(signal.SIGKILL)
        if (folder / "manifest.json").exists():
            assert loaded("narrow", folder).step % 2 == 0
    last = stored.kept("narrow", folder, num_steps=STEPS, save_every=2)
    assert content(last) == content(begun("narrow", STEPS))
    stored.kept("narrow", tmp_path / "whole", num_steps=STEPS, save_every=2)
    assert files(folder) == files(tmp_path / "whole")
