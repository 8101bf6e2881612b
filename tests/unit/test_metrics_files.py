"""Scraping while a process makes its file of counts."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from workers.metrics_server import Processes


class FilledBy(MultiProcessCollector):
    """Finishes the other process's file once the reader has met it half made."""

    def __init__(self, folder: Path, file: Path) -> None:
        super().__init__(None, path=str(folder))  # type: ignore[no-untyped-call]
        self.file = file
        self.looks = 0

    def collect(self) -> object:
        self.looks += 1
        if self.looks == 2:
            made = MmapedDict(str(self.file))  # type: ignore[no-untyped-call]
            made.write_value(mmap_key("c", "c_total", [], [], "counted"), 3.0, 0.0)  # type: ignore[no-untyped-call]
            made.close()  # type: ignore[no-untyped-call]
        return super().collect()  # type: ignore[no-untyped-call]


def test_a_file_that_is_made_just_now_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "counter_7.db"
    file.touch()

    (found,) = Processes(FilledBy(tmp_path, file)).collect()

    assert [sample.value for sample in found.samples] == [3.0]
