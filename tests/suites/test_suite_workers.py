"""Worker processes of a suite."""

from __future__ import annotations

from fedse.suites import workers


def test_an_idle_worker_ends_by_itself(tmp_path, monkeypatch):
    """Killed, it would leave what its libraries made, and Python would warn of that at the end of the suite."""
    started = []
    start = workers._start
    monkeypatch.setattr(workers, "_start", lambda environment: started.append(start(environment)) or started[-1])
    monkeypatch.setattr(workers, "_PATIENCE_SECONDS", 120.0)
    assert list(workers.do_cells([], tmp_path, [{}])) == []
    assert [worker.process.exitcode for worker in started] == [0]
