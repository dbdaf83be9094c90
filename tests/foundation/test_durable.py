"""What survives a pulled plug, and what is not left behind."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.foundation import durable, failpoints


def test_a_file_that_may_not_get_its_name_any_more_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "proof.json"
    target.write_bytes(b"before")
    answers: Iterator[bool] = iter([True, False])

    def check() -> None:
        if not next(answers):
            raise PermissionError("the work is another's by now")

    with failpoints.only_while(check), pytest.raises(PermissionError, match="another's"):
        durable.write_file(target, b"after")

    assert os.listdir(tmp_path) == ["proof.json"]
    assert target.read_bytes() == b"before"
