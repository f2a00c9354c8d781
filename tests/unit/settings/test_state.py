"""The state directory: where it is, and that nobody else may look into it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from apxm.errors import ConfigError
from apxm.settings import load

if TYPE_CHECKING:
    from pathlib import Path

    from apxm.settings import Settings


def at(folder: Path, **environment: str) -> Settings:
    return load(config="none", environment=environment, folder=str(folder))


def test_it_is_beneath_the_state_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert at(tmp_path, XDG_STATE_HOME=str(tmp_path)).state_dir == str(tmp_path / "apxm")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert at(tmp_path).state_dir == f"{tmp_path}/.local/state/apxm"
    assert at(tmp_path, XDG_STATE_HOME="relative").state_dir == f"{tmp_path}/.local/state/apxm"


def test_without_a_home_there_is_no_place_for_it_and_no_folder_named_tilde_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user without an entry in /etc/passwd
    with pytest.raises(ConfigError, match="there is no home directory to keep state in"):
        at(tmp_path).state_folder()
    assert list(tmp_path.iterdir()) == []


def test_reading_the_settings_makes_no_folder(tmp_path: Path) -> None:
    at(tmp_path, APXM_STATE_DIR="kept")
    assert list(tmp_path.iterdir()) == []


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = at(tmp_path, APXM_STATE_DIR="deep/kept").state_folder()
    finally:
        os.umask(before)
    assert folder == tmp_path / "deep" / "kept"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert at(tmp_path, APXM_STATE_DIR="deep/kept").state_folder() == folder


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o777])
def test_one_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept").chmod(mode)
    with pytest.raises(
        ConfigError, match=rf"APXM_STATE_DIR\) is open to others: its mode is 0{mode:o}, expected 0700; chmod 700 "
    ):
        at(tmp_path, APXM_STATE_DIR="kept").state_folder()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_one_that_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir(mode=0o700)
    os.chown(tmp_path / "kept", 12345, -1)
    with pytest.raises(ConfigError, match="belongs to the user with the id 12345, not to you"):
        at(tmp_path, APXM_STATE_DIR="kept").state_folder()


def test_one_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    with pytest.raises(ConfigError, match="cannot be made: there is a file of this name"):
        at(tmp_path, APXM_STATE_DIR="kept").state_folder()
    with pytest.raises(ConfigError, match="cannot be made"):
        at(tmp_path, APXM_STATE_DIR="kept/below").state_folder()
